"""The leaderboard as one HTML page that needs nothing else: data, pictures, style and script are inside."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .board import Board, Row

TEMPLATE = Path(__file__).resolve().parent / "page.html"
_CAPTIONS = {
    "bars": "Score of each task; lines are the intervals of the rows that have one.",
    "radar": "The same on one scale for each task.",
    "parameters": "Mean score against the size of the model.",
}


def page(board: Board, plots: Mapping[str, bytes], title: str = "HEAR leaderboard") -> str:
    """Return the page.

    Args:
        board: the rows.
        plots: PNG images by name, from `plots.all_plots`.
        title: of the page.

    Returns:
        HTML that works from a file, offline.
    """
    data = {
        "tasks": board.tasks,
        "overallTasks": board.overall_tasks,
        "protocols": board.protocols,
        "rows": [_row(board, row) for row in board.rows],
        "refused": board.refused,
        "overallIs": board.overall_is,
    }
    # "</" would end the script element; in JSON "<\/" is the same string.
    embedded = json.dumps(data, ensure_ascii=False).replace("</", "<\\/")
    pictures = "".join(_picture(name, image, len(board.overall_tasks)) for name, image in plots.items())
    text = TEMPLATE.read_text(encoding="utf-8")
    for mark, value in (("TITLE", _escape(title)), ("PICTURES", pictures), ("DATA", embedded)):
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
        "scores": {t: [e.mean, e.half_width] for t, e in row.scores.items()},
    }


def _picture(name: str, image: bytes, tasks: int) -> str:
    caption = _CAPTIONS[name]
    source = base64.b64encode(image).decode()
    width = "wide" if name == "bars" and tasks > 5 else "half"
    return (
        f'<figure class="{width}"><img src="data:image/png;base64,{source}" alt="{_escape(caption)}">'
        f"<figcaption>{_escape(caption)}</figcaption></figure>"
    )


def _escape(text: str) -> str:
    for sign, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(sign, entity)
    return text
