"""Plots of the leaderboard: bars for each task, a radar, and score against parameters."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .board import Board, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours that stay apart for colour-blind readers (Okabe and Ito).
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
MOST_MODELS = len(COLOURS)


def all_plots(board: Board) -> dict[str, bytes]:
    """Draw every plot that the rows allow.

    Args:
        board: the rows; results come first, then published rows with all tasks, best first.

    Returns:
        PNG images by name: `bars`, `radar`, `parameters`.
    """
    rows = _chosen(board)
    tasks = [t for t in board.overall_tasks if any(t in r.scores for r in rows)]
    figures: dict[str, Figure] = {}
    if rows and tasks:
        figures["bars"] = _bars(board, rows, tasks)
    complete = [r for r in rows if all(t in r.scores for t in tasks)]
    if complete and len(tasks) >= 3:
        figures["radar"] = _radar(board, complete, tasks)
    sized = [r for r in board.rows if r.parameters and board.mean(r) is not None]
    if sized:
        figures["parameters"] = _parameters(board, sized)
    return {name: _png(figure) for name, figure in figures.items()}


def _chosen(board: Board) -> list[Row]:
    """Results of studies, then as many published rows with all tasks as colours are left."""
    own = [r for r in board.rows if r.own][:MOST_MODELS]
    full = [r for r in board.rows if not r.own and board.mean(r) is not None]
    full.sort(key=lambda r: -(board.mean(r) or 0.0))
    return own + full[: MOST_MODELS - len(own)]


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def _label(board: Board, row: Row) -> str:
    return f"{row.label} ({board.mark(row)})"


def _bars(board: Board, rows: Sequence[Row], tasks: Sequence[str]) -> Figure:
    figure = _figure(max(7.0, 1.1 * len(tasks) + 2), 4.6)
    axes = figure.add_subplot()
    width = 0.84 / len(rows)
    for i, row in enumerate(rows):
        there = [(x, row.scores[t]) for x, t in enumerate(tasks) if t in row.scores]
        places = [x - 0.42 + width * (i + 0.5) for x, _ in there]
        spreads = [e.half_width or 0.0 for _, e in there]
        axes.bar(
            places,
            [e.mean for _, e in there],
            width,
            yerr=spreads if any(spreads) else None,
            color=COLOURS[i],
            label=_label(board, row),
            error_kw={"linewidth": 0.8},
        )
    axes.set_xticks(range(len(tasks)), tasks, rotation=30, ha="right")
    axes.set_ylabel("score (%)")
    axes.set_ylim(0, 100)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=min(4, len(rows)), frameon=False, fontsize=8)
    return figure


def _radar(board: Board, rows: Sequence[Row], tasks: Sequence[str]) -> Figure:
    figure = _figure(6.4, 6.2)
    axes = figure.add_subplot(projection="polar")
    angles = [2 * math.pi * i / len(tasks) for i in range(len(tasks))]
    for i, row in enumerate(rows):
        values = [row.scores[t].mean for t in tasks]
        axes.plot(
            [*angles, angles[0]], [*values, values[0]], color=COLOURS[i], label=_label(board, row), lw=1.5
        )
    axes.set_xticks(angles, tasks, fontsize=8)
    axes.tick_params(axis="x", pad=16)
    highest = max(row.scores[t].mean for row in rows for t in tasks)
    rim = 100 if highest > 50 else 50
    rings = [rim * i // 4 for i in range(1, 5)]
    axes.set_ylim(0, rim)
    axes.set_yticks(rings, [f"{r} %" for r in rings], fontsize=7, color="#666666")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def _parameters(board: Board, rows: Sequence[Row]) -> Figure:
    figure = _figure(6.4, 4.2)
    axes = figure.add_subplot()
    for i, row in enumerate(rows):
        mean = board.mean(row)
        assert row.parameters is not None and mean is not None
        millions = row.parameters / 1e6
        axes.scatter(millions, mean, color=COLOURS[i % len(COLOURS)], s=40)
        axes.annotate(
            _label(board, row), (millions, mean), xytext=(5, 4), textcoords="offset points", fontsize=8
        )
    axes.set_xscale("log")
    axes.margins(0.2)
    axes.set_xlabel("parameters (millions)")
    axes.set_ylabel(f"mean of {len(board.overall_tasks)} tasks (%)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
