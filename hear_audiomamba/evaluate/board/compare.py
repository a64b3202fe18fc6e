"""Two models of one study beside each other: paired differences with a bootstrap interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError, counted, did_you_mean
from ..tasks.catalogue import task_name
from .rows import results_file

SAMPLES = 10_000
_SEED = 42


@dataclass(frozen=True)
class Difference:
    """How much a model is above another one.

    Args:
        task: its name, or "mean of all".
        mean: difference in percentage points.
        low: lower end of the 95 % bootstrap interval.
        high: upper end.
        pairs: how many differences of single runs and folds it is made of.
    """

    task: str
    mean: float
    low: float
    high: float
    pairs: int

    @property
    def sign(self) -> str:
        """`+` or `-` where the interval does not hold zero, else nothing."""
        return "+" if self.low > 0 else "-" if self.high < 0 else ""


def compare(files: Sequence[Path], first: str, second: str) -> list[Difference]:
    """Compare two models on the tasks that both have.

    Runs are paired by seed and test fold: those have the same clips and the same grid points. The interval is that of
    the mean over 10,000 bootstrap samples of the pairs of each task.

    Args:
        files: results of studies.
        first: name of a model.
        second: name of the other one, which is subtracted.

    Returns:
        One difference a task, and their mean at the end.

    Raises:
        DataError: a model is not there, the protocols differ, or no task has two pairs.
    """
    try:
        return _compare({report["model"]: report for report in map(results_file, files)}, first, second)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"results of {first} or {second}: incomplete or damaged: {error!r}") from None


def _compare(reports: Mapping[str, Any], first: str, second: str) -> list[Difference]:
    a, b = (_report(reports, name) for name in (first, second))
    protocols = [{"precision": "float32", **report["protocol"]} for report in (a, b)]
    for key in ("engine", "grid", "grid_points", "grid_seed", "precision"):
        of_a, of_b = (protocol[key] for protocol in protocols)
        if of_a != of_b:
            raise DataError(f"{first} and {second} do not compare: {key} is {of_a} and {of_b}")
    generator = np.random.default_rng(_SEED)
    found: list[Difference] = []
    sampled: list[NDArray[np.float64]] = []
    for task in a["tasks"]:
        values = _pairs(a["tasks"][task], b["tasks"].get(task, {"runs": []}))
        if len(values) >= 2:
            means = values[generator.integers(0, len(values), (SAMPLES, len(values)))].mean(1)
            found.append(_difference(task_name(task), values.mean(), means, len(values)))
            sampled.append(means)
    if not found:
        raise DataError(f"{first} and {second} have no task with two runs or folds in common")
    overall = float(np.mean([d.mean for d in found]))
    total = sum(d.pairs for d in found)
    return [
        *found,
        _difference(f"mean of {counted(len(found), 'task')}", overall, np.mean(sampled, axis=0), total),
    ]


def compare_table(differences: Sequence[Difference], first: str, second: str) -> str:
    """Return the comparison as a Markdown table."""
    lines = [
        f"{first} minus {second}, percentage points, 95 % interval of a paired bootstrap over seeds and folds.",
        "",
        "| task | difference | interval | pairs | |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    better = {"+": f"{first} is better", "-": f"{second} is better", "": ""}
    for d in differences:
        interval = f"{d.low:+.1f} to {d.high:+.1f}"
        lines.append(f"| {d.task} | {d.mean:+.1f} | {interval} | {d.pairs} | {better[d.sign]} |")
    return "\n".join(lines) + "\n"


def _report(reports: Mapping[str, Any], name: str) -> Any:
    if name not in reports:
        raise DataError(f"no results of a model {name!r}; {did_you_mean(name, reports)}")
    return reports[name]


def _pairs(a: Mapping[str, Any], b: Mapping[str, Any]) -> NDArray[np.float64]:
    other = {run["seed"]: run for run in b["runs"]}
    values = []
    for run in a["runs"]:
        if (paired := other.get(run["seed"])) is None:
            continue
        folds = run["folds"].keys() & paired["folds"].keys()
        if folds:
            values += [100.0 * (run["folds"][f] - paired["folds"][f]) for f in sorted(folds)]
        else:
            values.append(100.0 * (run["value"] - paired["value"]))
    return np.asarray(values, dtype=np.float64)


def _difference(task: str, mean: float, samples: NDArray[np.float64], pairs: int) -> Difference:
    low, high = np.percentile(samples, (2.5, 97.5))
    return Difference(task, float(mean), float(low), float(high), pairs)
