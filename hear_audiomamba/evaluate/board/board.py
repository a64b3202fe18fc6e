"""The rows of the leaderboard: results of studies and published scores, each under its protocol."""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ...errors import DataError, did_you_mean
from ...io.files import read_json
from ..study.results import SCHEMA
from ..tasks.catalogue import hear_task_list
from .aggregate import Estimate, mean_over_tasks, missing, overall_score, t_interval, yardstick

DATA = Path(__file__).resolve().parent / "data"
NAIVE = "HEAR-Naive (mel)"
OVERALL = "s(m)"
MOST_PUBLISHED = 12
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
        marks = {row.protocol for row in rows}
        protocols = {mark: name for mark, name in self.protocols.items() if name in marks}
        if models and not tasks:
            columns = [task for task in columns if any(task in row.scores for row in rows)]
        overall = self.overall_tasks if not tasks else columns
        return replace(self, rows=rows, tasks=columns, overall_tasks=overall, protocols=protocols)

    def for_a_page(self) -> Board:
        """Return what fits on a printed page: the tasks of the overall score and of studies here, and of the published
        rows the best of those that have all tasks."""
        full = [row for row in self.rows if not row.own and self.mean(row) is not None]
        best = sorted(full, key=lambda row: -(self.mean(row) or 0.0))[:MOST_PUBLISHED]
        kept = [row for row in self.rows if row.own or row in best]
        marks = {row.protocol for row in kept}
        protocols = {mark: name for mark, name in self.protocols.items() if name in marks}
        return replace(self, rows=kept, tasks=self.shown_tasks, protocols=protocols)

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


_PUBLISHED_NAMES = {
    "Beijing Opera Percussion": "Beijing Opera",
    "DCASE 2016 Task 2": "DCASE 2016",
    "Gunshot Triangulation": "Gunshot",
    "MAESTRO 5h": "Maestro 5h",
}


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


def task_name(task: str) -> str:
    """Return the published name of a HEAR task id; other ids without their version."""
    known = hear_task_list().get(task)
    if known:
        return _PUBLISHED_NAMES.get(known.name, known.name)
    return task.split("-v")[0]


def result_tasks(path: Path) -> dict[str, Any]:
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
    report = result_tasks(path)
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
