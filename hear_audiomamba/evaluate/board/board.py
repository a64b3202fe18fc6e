"""The rows of the leaderboard: results of studies and published scores, each under its protocol."""

from __future__ import annotations

import csv
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...errors import DataError
from ...io.files import read_json
from ..study.results import SCHEMA
from .aggregate import Estimate, mean_over_tasks, missing, overall_score, t_interval, yardstick

DATA = Path(__file__).resolve().parent / "data"
NAIVE = "HEAR-Naive (mel)"
REFERENCE = "GRAM"
"""Start of the protocol name whose table gives the scale of s(m)."""


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

    @property
    def label(self) -> str:
        """The name as tables show it: a model without trained weights says so."""
        return self.model if self.trained else f"{self.model} (untrained)"

    @property
    def means(self) -> dict[str, float]:
        """Mean score by task."""
        return {task: estimate.mean for task, estimate in self.scores.items()}


@dataclass
class Board:
    """Everything the leaderboard shows.

    Args:
        rows: results first, then published rows.
        tasks: columns, the ten HEAR tasks first where there are results or publications of them.
        overall_tasks: those that mean and s(m) are over.
        protocols: names by the mark that their rows carry.
        refused: result files that were not used, and why.
    """

    rows: list[Row]
    tasks: list[str]
    overall_tasks: list[str]
    protocols: dict[str, str]
    refused: list[str] = field(default_factory=list)
    form: Literal["naive", "min-max"] = "naive"

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


@functools.cache
def hear_task_table() -> dict[str, dict[str, str]]:
    """Return the ten HEAR tasks by id: name, metric, classes, clips and so on."""
    with (DATA / "hear_tasks.csv").open(encoding="utf-8", newline="") as file:
        return {row["task_id"]: row for row in csv.DictReader(file)}


def hear_task_names() -> list[str]:
    """Return the ten names as publications use them."""
    names = {task: row["task"] for task, row in hear_task_table().items()}
    return [_PUBLISHED_NAMES.get(name, name) for name in names.values()]


_PUBLISHED_NAMES = {"Beijing Opera Percussion": "Beijing Opera"}


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
    return tuple(
        Row(model, protocol, source, scores) for (model, protocol, source), scores in columns.items()
    )


def published_overall() -> dict[str, float]:
    """Return s(m) as published, by model, for the rows that have it."""
    with (DATA / "published_scores.csv").open(encoding="utf-8", newline="") as file:
        return {r["model"]: float(r["score"]) for r in csv.DictReader(file) if r["task"] == "s(m)"}


def task_name(task: str) -> str:
    """Return the published name of a HEAR task id; other ids without their version."""
    known = hear_task_table().get(task)
    if known:
        return _PUBLISHED_NAMES.get(known["task"], known["task"])
    return task.split("-v")[0]


def read_results(path: Path) -> Row:
    """Read the results of one model.

    Args:
        path: `results/<model>.json` of a study.

    Returns:
        The row; tasks with failed or missing runs keep the runs that are there, and say so in the notes.

    Raises:
        DataError: the file is cut short, of another schema, or a run in it has no finite score.
    """
    report = read_json(path)
    if report.get("schema") != SCHEMA:
        raise DataError(f"{path}: schema {report.get('schema')!r}, expected {SCHEMA!r}")
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
        if len(values) < wanted:
            notes.append(f"{name}: {len(values)} of {wanted} runs")
        count = sum(int(run["ended_by_nan"]) for run in result["runs"])
        if count:
            ended.append(f"{name} {count}")
    if ended:
        notes.append(f"trainings ended by a NaN score: {', '.join(ended)}")
    engine = (
        "heareval's own runners" if protocol["engine"] == "heareval" else "heareval's protocol, fast engine"
    )
    points = f"{protocol['grid']} grid, {protocol['grid_points']} points"
    described = f"{engine}, {points}, 95% t-interval over {wanted} seeds"
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
    )


def _trained(report: dict[str, Any]) -> bool:
    if "trained" in report:
        return bool(report["trained"])
    # Files of earlier versions: this package's own models had no weights when none were named.
    return not (report.get("module") == "hear_audiomamba" and str(report.get("weights")).startswith("none"))


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
    return Board(rows, tasks, overall, protocols, refused, form)
