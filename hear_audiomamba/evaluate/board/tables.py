"""The leaderboard as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from .aggregate import Estimate
from .board import Board, Row

MISSING = "–"


def cell(estimate: Estimate | None, plus_minus: str = " ± ") -> str:
    """Write a score: mean, and the half width of its interval where there is one."""
    if estimate is None:
        return MISSING
    if estimate.half_width is None:
        return f"{estimate.mean:.1f}"
    return f"{estimate.mean:.1f}{plus_minus}{estimate.half_width:.1f}"


def number(value: float | None) -> str:
    """Write a number with one decimal, or the sign for a missing one."""
    return MISSING if value is None else f"{value:.1f}"


def markdown(board: Board) -> str:
    """Return the leaderboard as a Markdown table with its notes.

    Args:
        board: the rows.

    Returns:
        One table; each row carries the mark of its protocol, explained below it.
    """
    heads = ["model", "protocol", *board.tasks, *_overall_heads(board)]
    lines = [_row(heads), _row(["---", "---"] + ["---:"] * (len(heads) - 2))]
    for row in _sorted(board):
        name = f"**{row.label}**" if row.own else row.label
        cells = [
            name,
            board.mark(row),
            *(cell(row.scores.get(t)) for t in board.tasks),
            *_overall(board, row),
        ]
        lines.append(_row(cells))
    return "\n".join([*lines, "", *_notes(board)]) + "\n"


def comma_separated(board: Board) -> str:
    """Return the leaderboard as CSV: one line a model and task, with interval, protocol and source."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            "model",
            "task",
            "score",
            "half_width",
            "half_width_is",
            "runs",
            "protocol",
            "source",
            "own",
            "trained",
        ]
    )
    for row in board.rows:
        for task in board.tasks:
            estimate = row.scores.get(task)
            if estimate is None:
                continue
            half = "" if estimate.half_width is None else f"{estimate.half_width:.4f}"
            values = [
                row.model,
                task,
                f"{estimate.mean:.4f}",
                half,
                estimate.kind if half else "",
                estimate.runs or "",
            ]
            writer.writerow([*values, row.protocol, row.source, int(row.own), _weights(row)])
        for name, value in zip(_overall_heads(board), _overall_values(board, row), strict=True):
            shown = "" if value is None else f"{value:.4f}"
            writer.writerow(
                [row.model, name, shown, "", "", "", row.protocol, row.source, int(row.own), _weights(row)]
            )
    return text.getvalue()


def latex(board: Board) -> str:
    """Return the leaderboard as a LaTeX table for the booktabs package."""
    heads = ["Model", *board.tasks, *_overall_heads(board)]
    columns = "l" + "r" * (len(heads) - 1)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", " & ".join(map(_tex, heads)) + r" \\"]
    last = None
    for row in _sorted(board):
        if row.protocol != last:
            title = rf"\multicolumn{{{len(heads)}}}{{l}}{{\emph{{{_tex(row.protocol)}}}}} \\"
            lines += [r"\midrule", title]
            last = row.protocol
        cells = [_tex(row.label), *(_tex_cell(row.scores.get(t)) for t in board.tasks)]
        cells += [value.replace(MISSING, "--") for value in _overall(board, row)]
        lines.append(" & ".join(cells) + r" \\")
    notes = [f"% {line}" for line in _notes(board) if line]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *notes]) + "\n"


def _sorted(board: Board) -> list[Row]:
    """Group rows by protocol; within one, the best mean first, and rows without a mean last."""
    order = {name: i for i, name in enumerate(board.protocols.values())}

    def place(row: Row) -> tuple[int, float]:
        mean = board.mean(row)
        return order[row.protocol], -mean if mean is not None else 1000.0 - len(row.scores)

    return sorted(board.rows, key=place)


def _overall_heads(board: Board) -> list[str]:
    heads = [f"mean of {len(board.overall_tasks)}"]
    return [*heads, "s(m)"] if _has_scale(board) else heads


def _overall_values(board: Board, row: Row) -> list[float | None]:
    return [board.mean(row), board.overall(row)] if _has_scale(board) else [board.mean(row)]


def _overall(board: Board, row: Row) -> list[str]:
    return [number(value) for value in _overall_values(board, row)]


def _has_scale(board: Board) -> bool:
    return any(board.overall(row) is not None for row in board.rows)


def _notes(board: Board) -> list[str]:
    lines = ["Scores in percent. Rows of different protocols do not compare one to one:", ""]
    lines += [f"- {mark}: {name}" for mark, name in board.protocols.items()]
    lines += ["", f"{MISSING}: not there; a mean or s(m) over fewer tasks is not given."]
    if _has_scale(board):
        lines += [board.overall_is]
    for row in board.rows:
        if row.own and (row.notes or board.missing(row)):
            absent = [f"no {', '.join(board.missing(row))}"] if board.missing(row) else []
            lines.append(f"{row.label}: {'; '.join([*absent, *row.notes])}.")
    return lines


def _weights(row: Row) -> str:
    return "trained" if row.trained else "untrained"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(c.replace("|", r"\|") for c in cells) + " |"


def _tex_cell(estimate: Estimate | None) -> str:
    return cell(estimate, r"\,$\pm$\,").replace(MISSING, "--")


def _tex(text: str) -> str:
    for sign in "&%$#_{}":
        text = text.replace(sign, "\\" + sign)
    return text
