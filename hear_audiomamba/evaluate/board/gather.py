"""Gathers the rows of the leaderboard: results of studies, and publications, each under its protocol."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ...errors import DataError
from ..tasks.catalogue import hear_task_list, hear_task_names, task_name
from .board import Board
from .rows import published_rows, read_results


def build_board(
    results: Sequence[Path], *, published: bool = True, form: Literal["naive", "min-max"] = "naive"
) -> Board:
    """Gather all rows.

    Args:
        results: result files of studies.
        published: whether published rows are shown too.
        form: of the overall score.

    Returns:
        The board; files that cannot be used are in its `refused`, by name and reason.
    """
    own, refused = [], []
    for path in results:
        try:
            own.append(read_results(path))
        except DataError as error:
            refused.append(str(error))
    ten = hear_task_names()
    has_hear = not own or any(task in row.asked for row in own for task in ten)
    shown = list(published_rows()) if published and has_hear else []
    rows = own + shown
    others = list(dict.fromkeys(t for row in rows for t in (*row.asked, *row.scores) if t not in ten))
    tasks = (ten if has_hear else []) + others
    overall = ten if has_hear else others
    names = dict.fromkeys(row.protocol for row in rows)
    protocols = {chr(ord("a") + i): name for i, name in enumerate(names)}
    metrics = {task_name(task.task_id): task.metric for task in hear_task_list().values()}
    metrics = {**metrics, **{task: metric for row in own for task, metric in row.metrics.items()}}
    return Board(rows, tasks, overall, protocols, refused, form, metrics)
