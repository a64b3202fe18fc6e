"""Pictures of the leaderboard as SVG: scores by task, and score against size. They follow the reader's dark mode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from .aggregate import Estimate
from .board import Board
from .rows import Row

# Colours that stay apart for colour-blind readers (Okabe and Ito), for light and for dark backgrounds.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9")
MOST_OWN = len(COLOURS)
SVG_NAMESPACE = "http://www.w3.org/2000/svg"
_STYLE = """
.t{fill:#1b1f24;font:13px system-ui,sans-serif}.s{fill:#5b6470;font:12px system-ui,sans-serif}
.g{stroke:#d9dee4;stroke-width:1}.p{fill:#8b95a1;opacity:.55}.b{fill:#fff}
@media (prefers-color-scheme:dark){.t{fill:#e8ebee}.s{fill:#9aa4b0}.g{stroke:#353c45}.p{fill:#8b95a1}.b{fill:#15181c}}
"""
_ROW, _LEFT, _RIGHT, _WIDTH = 30, 170, 30, 860


def all_pictures(board: Board) -> dict[str, str]:
    """Draw every picture that the rows allow.

    Args:
        board: the rows.

    Returns:
        SVG documents by name: `scores`, and `parameters` where sizes are known.
    """
    pictures = {}
    own = [row for row in board.rows if row.own][:MOST_OWN]
    tasks = [task for task in board.shown_tasks if any(task in row.scores for row in board.rows)]
    if tasks:
        pictures["scores"] = _scores(board, own, tasks)
    sized = [row for row in board.rows if row.parameters and board.mean(row) is not None]
    if len(sized) > 1:
        pictures["parameters"] = _parameters(board, sized, own)
    return pictures


def _scores(board: Board, own: Sequence[Row], tasks: Sequence[str]) -> str:
    """Each task a line from 0 to 100: published scores as grey dots, own ones in colour with their intervals."""
    published = [row for row in board.rows if not row.own]
    legend = [(COLOURS[i], row.label) for i, row in enumerate(own)]
    top, parts = _legend(legend + ([("", "published rows")] if published else []))
    top += 10
    bottom = top + len(tasks) * _ROW
    for percent in range(0, 101, 20):
        x = _x(percent)
        parts.append(f'<line class="g" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(f'<text class="s" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{percent}</text>')
    for i, task in enumerate(tasks):
        y = top + _ROW * (i + 0.5)
        parts.append(
            f'<text class="t" x="{_LEFT - 12}" y="{y + 4.5}" text-anchor="end">{escape(task)}</text>'
        )
        for row in published:
            if task in row.scores:
                mean = row.scores[task].mean
                parts.append(_dot(_x(mean), y, 3.5, 'class="p"', f"{row.label}, {task}: {mean:.1f}"))
        there = [(COLOURS[j], row) for j, row in enumerate(own) if task in row.scores]
        for j, (colour, row) in enumerate(there):
            offset = 5.0 * (j - (len(there) - 1) / 2)
            parts += _estimate(row, task, row.scores[task], y + offset, colour)
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text class="s" x="{middle}" y="{bottom + 36}" text-anchor="middle">score (%)</text>')
    return _svg(_WIDTH, bottom + 46, parts, "Scores by task")


def _estimate(row: Row, task: str, estimate: Estimate, y: float, colour: str) -> list[str]:
    said = f"{row.label}, {task}: {estimate.mean:.1f}"
    parts = []
    if estimate.half_width is not None:
        first, last = (_x(estimate.mean + sign * estimate.half_width) for sign in (-1, 1))
        parts.append(
            f'<line x1="{first:.1f}" x2="{last:.1f}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"/>'
        )
        said += f" ± {estimate.half_width:.1f}, {estimate.runs} runs"
    return [*parts, _dot(_x(estimate.mean), y, 5.5, f'fill="{colour}"', said)]


def _parameters(board: Board, rows: Sequence[Row], own: Sequence[Row]) -> str:
    """Mean score against size on a logarithmic scale; labels move up or down until they are free of one another."""
    means = {id(row): board.mean(row) or 0.0 for row in rows}
    sizes = [math.log10(row.parameters or 1) for row in rows]
    low, high = math.floor(min(sizes)), math.ceil(max(sizes) + 1e-9)
    high = max(high, low + 1)
    bottom_score = max(0.0, 10 * math.floor(min(means.values()) / 10) - 10)
    top_score = min(100.0, 10 * math.ceil(max(means.values()) / 10) + 10)
    left, right, top, height = 60, 600, 20, 340

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
            parts.append(_dot(x, y, 7, f'fill="{COLOURS[own.index(row)]}"', said))
        else:
            parts.append(_dot(x, y, 5, 'class="p"', said))
        width = 7.6 * len(name)
        text_x = x + 11 if x + 11 + width < _WIDTH else max(0.0, x - 11 - width)
        text_y = _free(taken, text_x, y + 4.5, width)
        weight = ' font-weight="700"' if row.own else ""
        parts.append(f'<text class="t" x="{text_x:.1f}" y="{text_y:.1f}"{weight}>{escape(name)}</text>')
    middle = (left + right) / 2
    parts.append(
        f'<text class="s" x="{middle}" y="{top + height + 38}" text-anchor="middle">parameters</text>'
        f'<text class="s" x="{left}" y="12">mean of {len(board.overall_tasks)} tasks (%)</text>'
    )
    return _svg(_WIDTH, top + height + 50, parts, "Mean score against size")


def _free(taken: list[tuple[float, float, float]], x: float, y: float, width: float) -> float:
    """Return the height nearest to y, in steps of a line, where a label of this width meets no other."""
    for step in range(2 * len(taken) + 1):
        tried = y + 15 * ((step + 1) // 2) * (1 if step % 2 else -1)
        if not any(abs(tried - other) < 15 and x < end and start < x + width for start, other, end in taken):
            break
    taken.append((x, tried, x + width))
    return tried


def _legend(entries: Sequence[tuple[str, str]]) -> tuple[float, list[str]]:
    """Return the height of a legend and its parts: lines of entries, as many as fit in the width."""
    x, y, parts = 12.0, 18.0, []
    for colour, name in entries:
        width = 34 + 7.4 * len(name)
        if x + width > _WIDTH and x > 12:
            x, y = 12.0, y + 22
        mark = f'fill="{colour}"' if colour else 'class="p"'
        parts.append(f'<circle cx="{x + 6}" cy="{y - 4.5}" r="5.5" {mark}/>')
        parts.append(f'<text class="t" x="{x + 18}" y="{y}">{escape(name)}</text>')
        x += width
    return y + 8, parts


def _x(percent: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * min(100.0, max(0.0, percent)) / 100.0


def _dot(x: float, y: float, radius: float, look: str, said: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" {look}><title>{escape(said)}</title></circle>'


def _svg(width: float, height: float, parts: Sequence[str], title: str) -> str:
    return (
        f'<svg xmlns="{SVG_NAMESPACE}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f'<rect class="b" width="100%" height="100%"/>{"".join(parts)}</svg>'
    )
