"""The leaderboard as one HTML page that needs nothing else: data, pictures, style and script are inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .board import Board
from .pictures import NARROW, SVG_NAMESPACE, all_pictures
from .rows import Row

TEMPLATE = Path(__file__).resolve().parent / "page.html"
_CAPTIONS = {
    "scores": "Scores by task: a grey dot for each published row, a coloured one with its interval for each result.",
    "parameters": "Mean score against the size of the model; published rows are shown where their size has a source.",
}


def page(board: Board, title: str = "HEAR leaderboard") -> str:
    """Return the page.

    Args:
        board: the rows.
        title: of the page.

    Returns:
        HTML that works from a file, offline.
    """
    data = {
        "tasks": board.tasks,
        "metrics": {task: board.metric(task) for task in board.tasks},
        "few": any(e.few_runs for row in board.rows for e in row.scores.values()),
        "overallTasks": board.overall_tasks,
        "protocols": board.protocols,
        "rows": [_row(board, row) for row in board.rows],
        "refused": board.refused,
        "overallIs": board.overall_is,
    }
    # "</" would end the script element; in JSON "<\/" is the same string.
    embedded = json.dumps(data, ensure_ascii=False).replace("</", "<\\/")
    wide, narrow = all_pictures(board), all_pictures(board, NARROW)
    drawn = "".join(_picture(name, wide[name], narrow[name]) for name in wide)
    text = TEMPLATE.read_text(encoding="utf-8")
    for mark, value in (("TITLE", _escape(title)), ("PICTURES", drawn), ("DATA", embedded)):
        text = text.replace(f"<!--{mark}-->", value)
    return text


def _row(board: Board, row: Row) -> dict[str, Any]:
    return {
        "model": row.label,
        "mark": board.mark(row),
        "source": Path(row.source).name if row.own else row.source,
        "own": row.own,
        "parameters": row.parameters,
        "mean": board.mean(row),
        "overall": board.overall(row),
        "notes": [*(f"no {t}" for t in board.missing(row)), *row.notes],
        "scores": {t: [e.mean, e.half_width, e.few_runs] for t, e in row.scores.items()},
    }


def _picture(name: str, wide: str, narrow: str) -> str:
    """Return a figure with a picture for wide and one for narrow screens, of which the page shows one."""
    caption = _escape(_CAPTIONS[name])
    images = ""
    for look, image in (("wide", wide), ("narrow", narrow)):
        image = image.replace(f' xmlns="{SVG_NAMESPACE}"', "")  # inside HTML an element is SVG without it
        images += f'<div class="{look}">{image}</div>'
    return f'<figure class="{name}" tabindex="0">{images}<figcaption>{caption}</figcaption></figure>'


def _escape(text: str) -> str:
    for sign, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(sign, entity)
    return text
