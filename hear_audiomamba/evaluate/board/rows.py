"""A row of the leaderboard, and where rows come from: results of studies, and published scores."""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...io.files import read_json
from ..study.results import SCHEMA
from ..tasks.catalogue import task_name
from .aggregate import Estimate, t_interval

DATA = Path(__file__).resolve().parent / "data"


@dataclass(frozen=True)
class Row:
    """A model's scores in percent under one protocol.

    Args:
        model: its name.
        protocol: how the scores were made; rows of different protocols do not compare one to one.
        source: where they come from.
        scores: by task.
        parameters: of the model, where known.
        own: whether this is a result of a study here, not a published row.
        trained: False for a model that had random weights.
        notes: what a reader must know: runs missing, trainings ended by NaN.
        asked: tasks that the study was to evaluate, also those without a score.
        metrics: the task's own score by task, where known.
    """

    model: str
    protocol: str
    source: str
    scores: dict[str, Estimate]
    parameters: int | None = None
    own: bool = False
    trained: bool = True
    notes: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    metrics: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The name as tables show it: a model without trained weights says so."""
        return self.model if self.trained else f"{self.model} (untrained)"

    @property
    def means(self) -> dict[str, float]:
        """Mean score by task."""
        return {task: estimate.mean for task, estimate in self.scores.items()}


@functools.cache
def published_rows() -> tuple[Row, ...]:
    """Return the published scores that ship with the package, one row a model and protocol."""
    columns: dict[tuple[str, str, str], dict[str, Estimate]] = {}
    with (DATA / "published_scores.csv").open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            place = columns.setdefault((line["model"], line["protocol"], line["source"]), {})
            if line["task"].startswith(("average", "s(m)")):
                continue
            spread = float(line["spread"]) if line["spread"] else None
            kind = line["protocol"].rpartition(", ")[0] if "," in line["protocol"] else ""
            place[line["task"]] = Estimate(float(line["score"]), spread, 0, kind)
    sizes = published_parameters()
    return tuple(
        Row(model, protocol, source, scores, sizes.get(model))
        for (model, protocol, source), scores in columns.items()
    )


def published_parameters() -> dict[str, int]:
    """Return the sizes of published models, for those that have a source."""
    with (DATA / "published_parameters.csv").open(encoding="utf-8", newline="") as file:
        return {row["model"]: int(row["parameters"]) for row in csv.DictReader(file)}


def results_file(path: Path) -> dict[str, Any]:
    """Return a results file as it is.

    Raises:
        DataError: it is cut short or of another schema.
    """
    report = read_json(path)
    if report.get("schema") != SCHEMA:
        raise DataError(f"{path}: schema {report.get('schema')!r}, expected {SCHEMA!r}")
    return report


def read_results(path: Path) -> Row:
    """Read the results of one model.

    Args:
        path: `results/<model>.json` of a study.

    Returns:
        The row; tasks with failed or missing runs keep the runs that are there, and say so in the notes.

    Raises:
        DataError: the file is cut short, of another schema, or a run in it has no finite score.
    """
    report = results_file(path)
    try:
        return _row(path, report)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path}: incomplete or damaged: {error!r}") from None


def _row(path: Path, report: dict[str, Any]) -> Row:
    protocol = report["protocol"]
    wanted = len(protocol["seeds"])
    scores: dict[str, Estimate] = {}
    notes, ended = [], []
    for task, result in report["tasks"].items():
        values = [100.0 * float(run["value"]) for run in result["runs"]]
        name = task_name(task)
        if values:
            scores[name] = t_interval(values)
        if 0 < len(values) < wanted:  # a task without any run is missing, and said to be so
            notes.append(f"{name}: {len(values)} of {wanted} runs")
        count = sum(int(run["ended_by_nan"]) for run in result["runs"])
        if count:
            ended.append(f"{name} {count}")
    if ended:
        notes.append(f"trainings ended by a NaN score: {', '.join(ended)}")
    engine = (
        "heareval's own runners" if protocol["engine"] == "heareval" else "heareval's protocol, fast engine"
    )
    if (precision := protocol.get("precision", "float32")) != "float32":
        engine += f" in {precision}"
    points = f"{protocol['grid']} grid, {protocol['grid_points']} points"
    described = f"{engine}, {points}, 95% t-interval over runs"
    asked = tuple(task_name(task) for task in report["tasks"])
    return Row(
        report["model"],
        described,
        str(path),
        scores,
        report["parameters"],
        own=True,
        trained=_trained(report),
        notes=tuple(notes),
        asked=asked,
        metrics={task_name(t): str(r["score"]) for t, r in report["tasks"].items() if r.get("score")},
    )


def _trained(report: dict[str, Any]) -> bool:
    if "trained" in report:
        return bool(report["trained"])
    # Files of earlier versions: this package's own models had no weights when none were named.
    return not (report.get("module") == "hear_audiomamba" and str(report.get("weights")).startswith("none"))
