"""The leaderboard as Markdown and CSV, and what all its tables share."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

from .aggregate import Estimate
from .board import OVERALL, Board
from .rows import Row

MISSING = "–"
FEW_RUNS = "†"


def cell(estimate: Estimate | None, plus_minus: str = " ± ") -> str:
    """Write a score: mean, and the half width of its interval where there is one."""
    if estimate is None:
        return MISSING
    if estimate.half_width is None:
        return f"{estimate.mean:.1f}"
    few = FEW_RUNS if estimate.few_runs else ""
    return f"{estimate.mean:.1f}{plus_minus}{estimate.half_width:.1f}{few}"


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
    heads = ["model", "protocol", *map(_head(board), board.tasks), *overall_heads(board)]
    lines = [_row(heads), _row(["---", "---"] + ["---:"] * (len(heads) - 2))]
    for row in sorted_rows(board):
        cells = [f"▸ {row.label}" if row.own else row.label, board.mark(row)]
        for task in board.tasks:
            estimate = row.scores.get(task)
            best = estimate is not None and board.is_best(row, task, estimate.mean)
            cells.append(f"**{cell(estimate)}**" if best else cell(estimate))
        for name, value in zip(overall_heads(board), overall_values(board, row), strict=True):
            cells.append(f"**{number(value)}**" if board.is_best(row, name, value) else number(value))
        lines.append(_row(cells))
    return "\n".join([*lines, "", *notes(board)]) + "\n"


def _head(board: Board) -> Callable[[str], str]:
    def head(task: str) -> str:
        metric = board.metric(task)
        return f"{task} ({metric})" if metric else task

    return head


def comma_separated(board: Board) -> str:
    """Return the leaderboard as CSV: one line a model and task, with interval, protocol and source."""
    text = io.StringIO()
    columns = (
        "model", "task", "metric", "score", "half_width", "half_width_is", "runs", "protocol", "source", "own",
        "trained",
    )  # fmt: skip
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in board.rows:
        place: dict[str, object] = {"model": row.model, "protocol": row.protocol, "source": row.source}
        place |= {"own": int(row.own), "trained": _weights(row)}
        for task in board.tasks:
            estimate = row.scores.get(task)
            if estimate is None:
                continue
            found: dict[str, object] = {
                "task": task,
                "metric": board.metric(task),
                "score": f"{estimate.mean:.4f}",
            }
            if estimate.half_width is not None:
                found |= {"half_width": f"{estimate.half_width:.4f}", "half_width_is": estimate.kind}
            writer.writerow(place | found | {"runs": estimate.runs or ""})
        for name, value in zip(overall_heads(board), overall_values(board, row), strict=True):
            writer.writerow(place | {"task": name, "score": "" if value is None else f"{value:.4f}"})
    return text.getvalue()


def sorted_rows(board: Board) -> list[Row]:
    """Group rows by protocol; within one, the best mean first, and rows without a mean last."""
    order = {name: i for i, name in enumerate(board.protocols.values())}

    def place(row: Row) -> tuple[int, float]:
        mean = board.mean(row)
        return order[row.protocol], -mean if mean is not None else 1000.0 - len(row.scores)

    return sorted(board.rows, key=place)


def overall_heads(board: Board) -> list[str]:
    heads = [f"mean of {len(board.overall_tasks)}"]
    return [*heads, OVERALL] if _has_scale(board) else heads


def overall_values(board: Board, row: Row) -> list[float | None]:
    return [board.mean(row), board.overall(row)] if _has_scale(board) else [board.mean(row)]


def _has_scale(board: Board) -> bool:
    return any(board.overall(row) is not None for row in board.rows)


def notes(board: Board) -> list[str]:
    lines = [
        "Scores in percent, the best of a protocol in bold. Rows of different protocols do not compare one to one:"
    ]
    lines += [""]
    lines += [f"- {mark}: {name}" for mark, name in board.protocols.items()]
    lines += ["", f"{MISSING}: not there; a mean or s(m) over fewer tasks is not given."]
    if any(row.own for row in board.rows):
        lines += ["▸: results of a study here, not published ones."]
    if any(e.few_runs for row in board.rows for e in row.scores.values()):
        lines += [f"{FEW_RUNS}: the interval of two runs, which says little."]
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
    return "| " + " | ".join(c.replace("|", r"\|").replace("<", r"\<") for c in cells) + " |"
