"""Pictures of the leaderboard as SVG: scores by task, and score against size. They follow the reader's dark mode."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from ...errors import counted
from .aggregate import Estimate
from .board import Board
from .rows import Row

# Colours that stay apart for colour-blind readers (after Okabe and Ito), on light and on dark backgrounds.
LIGHT = ("#0072b2", "#d55e00", "#009e73", "#b5508c", "#8a6a00", "#3a3f46")
DARK = ("#5cb8f2", "#ff9147", "#2fd3a3", "#f0a3d0", "#f0d14a", "#ffffff")
MOST_OWN = len(LIGHT)
WIDE, NARROW = 700, 390
"""Widths that pictures are drawn for, in pixels: a desktop's, and a phone's."""
SVG_NAMESPACE = "http://www.w3.org/2000/svg"
_STYLE = (
    ".t{font:13px system-ui,sans-serif}.s{font:12px system-ui,sans-serif}.l{stroke-width:2}.w{font-weight:700}"
    + ".t{fill:#1b1f24}.s{fill:#5b6470}.g{stroke:#d9dee4}.a{stroke:#8b95a1}.p{fill:#7b8591;opacity:.6}.b{fill:#fff}"
    + "".join(f".o{i}{{fill:{c};stroke:{c}}}" for i, c in enumerate(LIGHT))
    + "@media (prefers-color-scheme:dark){"
    + ".t{fill:#e8ebee}.s{fill:#a9b3be}.g{stroke:#353c45}.p{fill:#b4bec9;opacity:.75}.b{fill:#15181c}"
    + "".join(f".o{i}{{fill:{c};stroke:{c}}}" for i, c in enumerate(DARK))
    + "}"
)
_ROW, _RIGHT, _SIGN = 30, 24, 8.0


def all_pictures(board: Board, width: int = WIDE) -> dict[str, str]:
    """Draw every picture that the rows allow.

    Args:
        board: the rows.
        width: of the pictures, in pixels at which their text is easy to read: `WIDE` or `NARROW`.

    Returns:
        SVG documents by name: `scores`, and `parameters` where sizes are known.
    """
    pictures = {}
    own = [row for row in board.rows if row.own][:MOST_OWN]
    tasks = [task for task in board.shown_tasks if any(task in row.scores for row in board.rows)]
    if tasks:
        pictures["scores"] = _scores(board, own, tasks, width)
    sized = [row for row in board.rows if row.parameters and board.mean(row) is not None]
    if len(sized) > 1:
        pictures["parameters"] = _parameters(board, sized, own, width)
    return pictures


def _scores(board: Board, own: Sequence[Row], tasks: Sequence[str], width: int) -> str:
    """Each task a line from 0 to 100: published scores as grey dots, own ones in colour with their intervals."""
    published = [row for row in board.rows if not row.own]
    names = {f"o{i}": row.label for i, row in enumerate(own)} | ({"p": "published rows"} if published else {})
    top, parts = _legend(names, width)
    top += 10
    left = min(0.45 * width, 20 + _SIGN * max(map(len, tasks)))

    def across(percent: float) -> float:
        return left + (width - left - _RIGHT) * min(100.0, max(0.0, percent)) / 100.0

    bottom = top + len(tasks) * _ROW
    for percent in range(0, 101, 20):
        x = across(percent)
        parts.append(f'<line class="g" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(f'<text class="s" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{percent}</text>')
    for i, task in enumerate(tasks):
        y = top + _ROW * (i + 0.5)
        name = escape(_shortened(task, left - 20))
        parts.append(f'<text class="t" x="{left - 12:.1f}" y="{y + 4.5}" text-anchor="end">{name}</text>')
        for row in published:
            if task in row.scores:
                mean = row.scores[task].mean
                parts.append(_dot(across(mean), y, 3.5, "p", f"{row.label}, {task}: {mean:.1f}"))
        there = [(f"o{j}", row) for j, row in enumerate(own) if task in row.scores]
        for j, (look, row) in enumerate(there):
            offset = 5.0 * (j - (len(there) - 1) / 2)
            parts += _estimate(row, task, row.scores[task], y + offset, look, across)
    middle = (left + width - _RIGHT) / 2
    parts.append(f'<text class="s" x="{middle:.1f}" y="{bottom + 36}" text-anchor="middle">score (%)</text>')
    return _svg(width, bottom + 46, parts, "Scores by task")


def _estimate(
    row: Row, task: str, estimate: Estimate, y: float, look: str, across: Callable[[float], float]
) -> list[str]:
    said = f"{row.label}, {task}: {estimate.mean:.1f}"
    parts = []
    if estimate.half_width is not None:
        first, last = (across(estimate.mean + sign * estimate.half_width) for sign in (-1, 1))
        parts.append(f'<line class="l {look}" x1="{first:.1f}" x2="{last:.1f}" y1="{y}" y2="{y}"/>')
        said += f" ± {estimate.half_width:.1f}, {estimate.runs} runs"
    return [*parts, _dot(across(estimate.mean), y, 5.0, look, said)]


def _parameters(board: Board, rows: Sequence[Row], own: Sequence[Row], width: int) -> str:
    """Mean score against size on a logarithmic scale; labels move up or down until they are free of one another."""
    means = {id(row): board.mean(row) or 0.0 for row in rows}
    sizes = [math.log10(row.parameters or 1) for row in rows]
    low, high = math.floor(min(sizes)), math.ceil(max(sizes) + 1e-9)
    high = max(high, low + 1)
    bottom_score = max(0.0, 10 * math.floor(min(means.values()) / 10) - 10)
    top_score = min(100.0, 10 * math.ceil(max(means.values()) / 10) + 10)
    left, right, top, height = 34, round(0.7 * width) if width >= WIDE else round(0.6 * width), 20, 340

    def place(row: Row) -> tuple[float, float]:
        x = left + (right - left) * (math.log10(row.parameters or 1) - low) / (high - low)
        return x, top + height * (top_score - means[id(row)]) / (top_score - bottom_score)

    parts = []
    for power in range(low, high + 1):
        x = left + (right - left) * (power - low) / (high - low)
        parts.append(f'<line class="g" x1="{x}" x2="{x}" y1="{top}" y2="{top + height}"/>')
        label = f"{10 ** (power - 6):g} M"
        parts.append(f'<text class="s" x="{x}" y="{top + height + 18}" text-anchor="middle">{label}</text>')
    for score in range(int(bottom_score), int(top_score) + 1, 10):
        y = top + height * (top_score - score) / (top_score - bottom_score)
        parts.append(f'<line class="g" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="s" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{score}</text>')
    taken = [(x - 7, y + 4.5, x + 7) for x, y in map(place, rows)]  # no label on a dot
    for row in sorted(rows, key=lambda r: (not r.own, place(r)[1])):
        x, y = place(row)
        name = f"{row.label} ({board.mark(row)})"
        said = f"{name}: {means[id(row)]:.1f}, {(row.parameters or 0) / 1e6:.1f} M parameters"
        if row in own:
            parts.append(_dot(x, y, 7, f"o{own.index(row)}", said))
        else:
            parts.append(_dot(x, y, 5, "p", said))
        length = _SIGN * len(name)
        text_x = x + 11 if x + 11 + length < width else max(0.0, x - 11 - length)
        text_y = _free(taken, text_x, y + 4.5, length)
        if abs(text_y - y - 4.5) > 20:  # too far away to see whose name it is
            near = min(max(x, text_x), text_x + 0.9 * length)
            edge = text_y + 3 if text_y < y else text_y - 11
            parts.append(f'<line class="a" x1="{x:.1f}" y1="{y:.1f}" x2="{near:.1f}" y2="{edge:.1f}"/>')
        look = "t w" if row.own else "t"
        parts.append(f'<text class="{look}" x="{text_x:.1f}" y="{text_y:.1f}">{escape(name)}</text>')
    middle = (left + right) / 2
    parts.append(
        f'<text class="s" x="{middle}" y="{top + height + 38}" text-anchor="middle">parameters</text>'
        f'<text class="s" x="{left}" y="12">mean of {counted(len(board.overall_tasks), "task")} (%)</text>'
    )
    return _svg(width, top + height + 50, parts, "Mean score against size")


def _free(taken: list[tuple[float, float, float]], x: float, y: float, width: float) -> float:
    """Return the height nearest to y, in steps of a line, where a label of this width meets no other."""
    for step in range(2 * len(taken) + 1):
        tried = y + 15 * ((step + 1) // 2) * (1 if step % 2 else -1)
        if not any(abs(tried - other) < 15 and x < end and start < x + width for start, other, end in taken):
            break
    taken.append((x, tried, x + width))
    return tried


def _legend(entries: Mapping[str, str], width: int) -> tuple[float, list[str]]:
    """Return the height of a legend, names by class, and its parts: lines of entries, as many as fit in the width."""
    x, y, parts = 12.0, 18.0, []
    for look, name in entries.items():
        short = _shortened(name, width - 46)
        length = 34 + _SIGN * len(short)
        if x + length > width and x > 12:
            x, y = 12.0, y + 22
        parts.append(f'<circle cx="{x + 6:.1f}" cy="{y - 4.5}" r="5" class="{look}"/>')
        parts.append(f'<text class="t" x="{x + 18:.1f}" y="{y}">{escape(short)}</text>')
        x += length
    return y + 8, parts


def _shortened(name: str, width: float) -> str:
    most = int(width / _SIGN)
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _dot(x: float, y: float, radius: float, look: str, said: str) -> str:
    return f'<circle class="{look}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"><title>{escape(said)}</title></circle>'


def _svg(width: float, height: float, parts: Sequence[str], title: str) -> str:
    return (
        f'<svg xmlns="{SVG_NAMESPACE}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f'<rect class="b" width="100%" height="100%"/>{"".join(parts)}</svg>'
    )
