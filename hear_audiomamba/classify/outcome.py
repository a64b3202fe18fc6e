"""Options and results of fitting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..errors import ConfigError, DataError, counted
from ..io.labels import LabelRow, LabelTable
from .head import Floats
from .metrics import ClassScores
from .model_file import Classifier


@dataclass(frozen=True)
class FitOptions(Config):
    """How to fit.

    Attributes:
        head: "logistic" regression, or the "mlp" of the HEAR benchmark.
        class_weight: "balanced" counts every class alike, however few labels it has; None each label.
        folds: of cross-validation, where the labels name none.
        precision: share of right ones wanted among those found: sets the thresholds. None: see
            `choose_thresholds`.
        collar: an event is right when it begins this near a labelled one, seconds.
        seed: of folds, resampling and the MLP.
    """

    head: Literal["logistic", "mlp"] = "logistic"
    class_weight: Literal["balanced"] | None = None
    folds: int = 5
    precision: float | None = None
    collar: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.precision is not None and not 0 < self.precision <= 1:
            raise ConfigError(f"precision: {self.precision!r}, expected more than 0, at most 1")


class Mistake(NamedTuple):
    """A label and what was said instead.

    Attributes:
        path, start, end: where; seconds, NaN for a whole file.
        label: what people heard; empty where they heard nothing.
        said: what the classifier found; empty where it missed it.
        surprise: how sure it was of that, 0 to 1.
    """

    path: str
    start: float
    end: float
    label: str
    said: str
    surprise: float


@dataclass(frozen=True)
class Trial:
    """What classifiers said about labelled rows they were not fitted on.

    Attributes:
        rows: the labels of each unit: a clip, or in event tasks a recording (its first label).
        targets, probabilities: `(n, C)` of clips, or of times in the recordings.
        unit: `(n,)` the number of the unit each belongs to.
        scores: of each class.
        summary: accuracy and the like, by name.
        source: where the rows come from: which folds or split.
        notes: what a reader must know before trusting the numbers.
        mistakes: the worst first.
    """

    rows: tuple[LabelRow, ...]
    targets: Floats
    probabilities: Floats
    unit: NDArray[np.int64]
    scores: tuple[ClassScores, ...]
    summary: dict[str, float]
    source: str
    notes: tuple[str, ...]
    mistakes: tuple[Mistake, ...]


@dataclass(frozen=True)
class Fitted:
    """A classifier, how it did, and the labelled files that could not be read."""

    classifier: Classifier
    trial: Trial
    errors: tuple[dict[str, Any], ...]


def targets_of(rows: Sequence[LabelRow], classes: Sequence[str]) -> Floats:
    """Return the labels of rows as `(n, C)` of zeros and ones."""
    return np.array([[name in row.labels for name in classes] for row in rows], np.float32).reshape(
        len(rows), len(classes)
    )


def check_enough(targets: Floats, classes: Sequence[str], n_failed: int) -> None:
    """Raise a DataError where files that could not be read leave a class without two labels."""
    few = [name for name, count in zip(classes, targets.sum(axis=0)) if count < 2]
    if few:
        raise DataError(
            f"{n_failed} labelled files could not be read, which leaves fewer than two labels of "
            f"{', '.join(few[:5])}; repair the files or leave these classes out"
        )


def summarize(
    targets: Floats, probabilities: Floats, decided: NDArray[np.bool_], scores: Sequence[ClassScores], kind: str
) -> dict[str, float]:  # fmt: skip
    """Return the numbers over all classes."""
    known = [score for score in scores if score.labels]
    summary = {
        "mean_average_precision": float(np.mean([score.ap for score in known])),
        "macro_f1": float(np.mean([score.f1 for score in known])),
    }
    if kind == "single":
        right = probabilities.argmax(axis=1) == targets.argmax(axis=1)
        summary = {"accuracy": float(right.mean()), **summary}
        if not decided.any(axis=1).all():
            summary["unsure"] = float(1 - decided.any(axis=1).mean())
    return {**summary, "rows": float(len(targets))}


def notes_on(scores: Sequence[ClassScores], table: LabelTable) -> list[str]:
    """Say what stands in the way of trusting the numbers."""
    notes = []
    few = [score.name for score in scores if not score.enough]
    if few:
        named = ", ".join(few[:8]) + (f" and {len(few) - 8} more" if len(few) > 8 else "")
        notes.append(f"too few labels to trust the numbers of {named}; look at the intervals, and label more")
    places: dict[str, set[str]] = {}
    for row in table.rows:
        for name in row.labels:
            places.setdefault(name, set()).add(row.group or row.path)
    alone = [] if table.splits else [name for name in table.classes if len(places[name]) == 1]
    if alone:
        notes.append(
            f"in one group or file only: {', '.join(alone)}; whether they are found elsewhere could not be tried, "
            "so their numbers say nothing"
        )
    spelt: dict[str, list[str]] = {}
    for name in table.classes:
        spelt.setdefault(" ".join(name.casefold().split()), []).append(name)
    notes += [
        f"{' and '.join(names)} are taken for {len(names)} classes; they differ in capitals or spaces only"
        for names in spelt.values()
        if len(names) > 1
    ]
    if table.dropped:
        notes.append(f"left out, since they occur once: {', '.join(table.dropped)}")
    if table.unlabelled:
        notes.append(f"left out, since they have no label: {counted(table.unlabelled, 'row')}")
    return notes


def facts_of(table: LabelTable, trial: Trial, options: FitOptions, n_rows: int) -> dict[str, Any]:
    """Return what is kept in the classifier's file for people to read."""
    from .. import __version__

    counts = {name: sum(name in row.labels for row in table.rows) for name in table.classes}
    return {
        "version": __version__, "labels": counts, "rows": n_rows, "options": options.to_dict(),
        "tried_on": trial.source, "summary": trial.summary,
    }  # fmt: skip
