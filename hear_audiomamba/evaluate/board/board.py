"""What the leaderboard shows, and the scores that are over several tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ...errors import DataError, did_you_mean
from ..tasks.catalogue import hear_task_names, task_name
from .aggregate import mean_over_tasks, missing, overall_score, yardstick
from .rows import Row, published_rows

NAIVE = "HEAR-Naive (mel)"
OVERALL = "s(m)"
MOST_PUBLISHED = 12
REFERENCE = "GRAM"
"""Start of the protocol name whose table gives the scale of s(m)."""


@dataclass
class Board:
    """Everything the leaderboard shows.

    Args:
        rows: results first, then published rows.
        tasks: columns, the ten HEAR tasks first where there are results or publications of them.
        overall_tasks: those that mean and s(m) are over.
        protocols: names by the mark that their rows carry.
        refused: result files that were not used, and why.
        form: of the overall score; see `yardstick`.
        metrics: each task's own score by task, where known.
    """

    rows: list[Row]
    tasks: list[str]
    overall_tasks: list[str]
    protocols: dict[str, str]
    refused: list[str] = field(default_factory=list)
    form: Literal["naive", "min-max"] = "naive"
    metrics: dict[str, str] = field(default_factory=dict)

    @property
    def shown_tasks(self) -> list[str]:
        """The tasks of the overall score first, then the others that rows of studies here have."""
        own = {task for row in self.rows if row.own for task in (*row.asked, *row.scores)}
        return [t for t in self.tasks if t in self.overall_tasks or t in own]

    def metric(self, task: str) -> str:
        """Return the name of a task's own score, empty where it is not known."""
        return self.metrics.get(task, "")

    def value(self, row: Row, column: str) -> float | None:
        """Return a row's number in a column: a task, "s(m)", or the mean."""
        if column in row.scores:
            return row.scores[column].mean
        if column == OVERALL:
            return self.overall(row)
        return self.mean(row) if column.startswith("mean of") else None

    def is_best(self, row: Row, column: str, value: float | None) -> bool:
        """Whether a value is the highest of its column among at least two rows of the row's protocol."""
        if value is None:
            return False
        found = [self.value(r, column) for r in self.rows if r.protocol == row.protocol]
        others = [v for v in found if v is not None]
        return len(others) > 1 and value >= max(others)

    def select(self, tasks: Sequence[str] = (), models: Sequence[str] = ()) -> Board:
        """Return a board of some tasks and models only.

        Args:
            tasks: names as the columns have them, or task ids; nothing for all.
            models: names of rows; nothing for all.

        Raises:
            DataError: a name is not on the board.
        """
        columns = [task_name(task) for task in tasks] or self.tasks
        for name, known in ((n, self.tasks) for n in columns):
            if name not in known:
                raise DataError(f"no task {name!r} on the board; {did_you_mean(name, known)}")
        names = [row.model for row in self.rows]
        for name in models:
            if name not in names:
                raise DataError(f"no model {name!r} on the board; {did_you_mean(name, names)}")
        rows = [row for row in self.rows if not models or row.model in models]
        if models and not tasks:
            columns = [task for task in columns if any(task in row.scores for row in rows)]
        overall = self.overall_tasks if not tasks else columns
        return replace(self._with_rows(rows), tasks=columns, overall_tasks=overall)

    def for_a_page(self) -> Board:
        """Return what fits on a printed page: the tasks of the overall score and of studies here, and of the published
        rows the best of those that have all tasks."""
        full = [row for row in self.rows if not row.own and self.mean(row) is not None]
        best = sorted(full, key=lambda row: -(self.mean(row) or 0.0))[:MOST_PUBLISHED]
        kept = [row for row in self.rows if row.own or row in best]
        return replace(self._with_rows(kept), tasks=self.shown_tasks)

    def _with_rows(self, rows: list[Row]) -> Board:
        """Return the board with some of its rows, and their protocols."""
        found = {row.protocol for row in rows}
        protocols = {mark: name for mark, name in self.protocols.items() if name in found}
        return replace(self, rows=rows, protocols=protocols)

    def mark(self, row: Row) -> str:
        """Return the letter of a row's protocol."""
        return next(mark for mark, name in self.protocols.items() if name == row.protocol)

    def mean(self, row: Row) -> float | None:
        """Return a row's mean over the overall tasks, None if one is missing."""
        return mean_over_tasks(row.means, self.overall_tasks)

    def overall(self, row: Row) -> float | None:
        """Return a row's s(m), None if a task is missing or the tasks are not HEAR's ten."""
        if self.overall_tasks != hear_task_names():
            return None
        table = {r.model: r.means for r in published_rows() if r.protocol.startswith(REFERENCE)}
        scale = yardstick(table, self.overall_tasks, NAIVE, self.form)
        return overall_score(row.means, self.overall_tasks, scale)

    @property
    def overall_is(self) -> str:
        """How s(m) is measured here, in words."""
        low = "HEAR-Naive" if self.form == "naive" else "the lowest"
        return (
            f"s(m): mean over the ten tasks of (score - {low}) / (best - {low}), not below 0; {low} and the best are "
            "those of arXiv 2506.00934, Table 6."
        )

    def missing(self, row: Row) -> list[str]:
        """List the overall tasks that a row lacks."""
        return missing(row.scores, self.overall_tasks)
