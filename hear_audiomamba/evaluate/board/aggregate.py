"""From runs to numbers that are reported: means, intervals over seeds, and the overall score s(m)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Args:
        mean: of the runs' values, each the mean over folds.
        half_width: of the 95 % t-interval; None with fewer than two runs.
        runs: how many values.
        kind: what `half_width` is, for rows whose publication gives something else.
    """

    mean: float
    half_width: float | None
    runs: int
    kind: str = "95% t-interval over seeds"

    @property
    def few_runs(self) -> bool:
        """Whether the interval is that of two runs, which says little: its factor is 12.7."""
        return self.half_width is not None and 0 < self.runs < 3


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Mean and t-interval of the values of independent runs.

    Args:
        values: one a run.
        confidence: of the interval, in (0, 1).

    Returns:
        The estimate; the interval is mean ± t·s/√n with n - 1 degrees of freedom.

    Raises:
        ValueError: there are no values, or one is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if not len(array) or not np.isfinite(array).all():
        raise ValueError(f"need finite values, got {list(values)}")
    if len(array) == 1:
        return Estimate(float(array[0]), None, 1)
    from scipy.stats import t as student

    quantile = student.ppf(0.5 + confidence / 2, len(array) - 1)
    half_width = float(quantile * array.std(ddof=1) / math.sqrt(len(array)))
    return Estimate(float(array.mean()), half_width, len(array))


def mean_over_tasks(scores: Mapping[str, float], tasks: Sequence[str]) -> float | None:
    """Return the mean over tasks, or None if one is missing: a mean over fewer is another number."""
    if any(task not in scores for task in tasks):
        return None
    return float(np.mean([scores[task] for task in tasks]))


@dataclass(frozen=True)
class Yardstick:
    """The two scores of each task that s(m) is measured between.

    Args:
        low: 0 on the scale: HEAR-Naive, or the lowest model.
        high: 100 on the scale: the best model.
    """

    low: Mapping[str, float]
    high: Mapping[str, float]


def yardstick(
    table: Mapping[str, Mapping[str, float]],
    tasks: Sequence[str],
    naive: str,
    form: Literal["naive", "min-max"] = "naive",
) -> Yardstick:
    """Take the scale of s(m) from a table of published scores.

    Args:
        table: scores by model and task.
        tasks: those that count.
        naive: name of the naive baseline in the table.
        form: `naive` measures from the baseline, `min-max` from the lowest model of the table.

    Returns:
        The scale.
    """
    columns = {task: [scores[task] for scores in table.values() if task in scores] for task in tasks}
    low = {t: min(columns[t]) for t in tasks} if form == "min-max" else {t: table[naive][t] for t in tasks}
    return Yardstick(low, {t: max(columns[t]) for t in tasks})


def overall_score(scores: Mapping[str, float], tasks: Sequence[str], scale: Yardstick) -> float | None:
    """The overall score s(m): mean over tasks of the normalised scores, in percent.

    A task on which the model is below the baseline counts 0, and so does one on which no model of the table is above
    it.

    Args:
        scores: of the model, by task, in the unit of the scale.
        tasks: those that count.
        scale: from `yardstick`.

    Returns:
        0 to 100 (more for a model above the best of the table), or None when a task is missing.

    Source: arXiv 2506.00934 (GRAM), Table 6, from whose rows this form was recomputed.
    """
    if any(task not in scores for task in tasks):
        return None
    parts = []
    for task in tasks:
        span = scale.high[task] - scale.low[task]
        parts.append(max(0.0, (scores[task] - scale.low[task]) / span) if span > 0 else 0.0)
    return 100.0 * float(np.mean(parts))


def missing(scores: Iterable[str], tasks: Sequence[str]) -> list[str]:
    """List the tasks without a score, in the order of `tasks`."""
    have = set(scores)
    return [task for task in tasks if task not in have]
