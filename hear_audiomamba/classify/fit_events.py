"""Events with start and end to a classifier of timestamp embeddings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..archive.options import Resources
from ..embedding.embedder import AudioEmbedder
from ..io.labels import LabelRow, LabelTable
from .candidates import make_fitter
from .embeddings import Embedded, OnProgress, embed_stretches, read_pieces
from .event_choice import LabelledRecording, choose_events
from .event_trial import event_trial
from .events import frame_targets, spans_of
from .folds import Folds, make_folds
from .head import Floats, Head, to_probabilities
from .model_file import Classifier, EmbeddingModel
from .outcome import FitOptions, Fitted, check_enough, facts_of
from .trials import Fitter, choose, unseen_logits

# Rows that are fitted on; of longer recordings a sample of the rows with and without an event.
MOST_ROWS = 100_000
LEAST_ROWS_A_FILE = 64


@dataclass(frozen=True)
class _Files:
    """Labelled recordings: their events, and rows of them to fit on.

    Attributes:
        rows: the first label of each recording, for its path, split and group.
        numbers: which of the recordings asked for each one is.
        events: start, end (seconds) and class.
        embeddings, targets: `(n, K)` and `(n, C)` of the rows to fit on.
        file: `(n,)` which recording each is of.
    """

    rows: tuple[LabelRow, ...]
    numbers: tuple[int, ...]
    events: tuple[tuple[tuple[float, float, int], ...], ...]
    embeddings: Floats
    targets: Floats
    file: NDArray[np.int64]


def fit_events(
    table: LabelTable,
    model: AudioEmbedder,
    embeddings: Path,
    options: FitOptions,
    arguments: dict[str, Any] | None,
    resources: Resources | None,
    on_progress: OnProgress,
) -> Fitted:
    """Fit a classifier of events; see `fit_labels`."""
    by_path: dict[str, list[LabelRow]] = defaultdict(list)
    for row in table.rows:
        by_path[row.path].append(row)
    embedded = embed_stretches(
        [(path, None, None) for path in by_path], model, embeddings, timestamps=True, resources=resources,
        on_progress=on_progress,
    )  # fmt: skip
    files = _read(list(by_path.values()), embedded, table, options.seed)
    counts = np.array(
        [[sum(e[2] == c for e in own) for c in range(len(table.classes))] for own in files.events]
    )
    if embedded.errors:
        check_enough(counts, table.classes, len(embedded.errors))
    units = [(row.path, row.split, row.group) for row in files.rows]
    folds = make_folds(units, (counts > 0).astype(np.float32), options.folds, options.seed)
    fitter = make_fitter(table, options)
    fold = folds.fold[files.file]
    logits = unseen_logits(fitter, files.embeddings, files.targets, fold)
    used = fold >= 0
    made = choose(logits[:, used], files.targets[used], "events", None)
    head = _fit(fitter, files, fold, fold >= 0, made.candidate)
    of_fold = {n: _fit(fitter, files, fold, used & (fold != n), made.candidate) for n in folds.numbers}
    heads = {
        n: own.with_decisions(made.calibration, own.thresholds) for n, own in {-1: head, **of_fold}.items()
    }
    recordings = _listen(embedded, files, folds, heads)
    development = [recordings[i] for i in np.flatnonzero(~folds.test)]
    settings, thresholds = choose_events(development, len(table.classes), options.precision, options.collar)
    trial = event_trial(
        recordings,
        files.rows,
        folds,
        table,
        options,
        (settings, thresholds),
        fitter.candidates[made.candidate],
    )
    classifier = Classifier(
        head.with_decisions(made.calibration, thresholds), EmbeddingModel.of(model, arguments), None, settings,
        facts_of(table, trial, options, len(files.rows)),
    )  # fmt: skip
    return Fitted(classifier, trial, embedded.errors)


def _read(groups: Sequence[Sequence[LabelRow]], embedded: Embedded, table: LabelTable, seed: int) -> _Files:
    """Read the rows to fit on, recording by recording; of hours a sample is kept."""
    index = {name: number for number, name in enumerate(table.classes)}
    most = max(LEAST_ROWS_A_FILE, MOST_ROWS // (2 * len(groups)))
    random = np.random.default_rng(seed)
    samples: dict[int, tuple[_Sample, _Sample]] = {}
    events: dict[int, tuple[tuple[float, float, int], ...]] = {}
    for number, piece in read_pieces(embedded):
        if number not in events:
            events[number] = _events(groups[number], index)
            samples[number] = _Sample(most, random), _Sample(most, random)
        targets = frame_targets(events[number], piece.times, len(index))
        heard = targets.any(axis=1)
        for sample, side in zip(samples[number], (heard, ~heard)):
            sample.add(piece.embeddings[side], targets[side])
    numbers = sorted(samples)
    kept = [sample for number in numbers for sample in samples[number]]
    return _Files(
        tuple(groups[number][0] for number in numbers),
        tuple(numbers),
        tuple(events[number] for number in numbers),
        np.concatenate([sample.rows for sample in kept]),
        np.concatenate([sample.targets for sample in kept]),
        np.repeat(np.arange(len(kept)) // 2, [len(sample.rows) for sample in kept]),
    )


def _events(rows: Sequence[LabelRow], index: dict[str, int]) -> tuple[tuple[float, float, int], ...]:
    return tuple(
        (row.start, row.end, index[label])
        for row in rows
        for label in row.labels
        if row.start is not None and row.end is not None
    )


class _Sample:
    """At most so many rows out of all that are added, each as likely as any other."""

    def __init__(self, most: int, random: np.random.Generator) -> None:
        self._most, self._random = most, random
        self._lots = np.zeros(0)
        self.rows: Floats = np.zeros((0, 0), np.float32)
        self.targets: Floats = np.zeros((0, 0), np.float32)

    def add(self, rows: Floats, targets: Floats) -> None:
        """Add rows `(n, K)` and targets `(n, C)`."""
        # Every row draws a lot; those with the lowest lots stay, whenever they came.
        lots = np.concatenate([self._lots, self._random.random(len(rows))])
        rows = np.concatenate([self.rows.reshape(-1, rows.shape[1]), rows.astype(np.float32)])
        targets = np.concatenate([self.targets.reshape(-1, targets.shape[1]), targets])
        kept = np.sort(np.argsort(lots, kind="stable")[: self._most])
        self._lots, self.rows, self.targets = lots[kept], rows[kept], targets[kept]


def _fit(
    fitter: Fitter, files: _Files, fold: NDArray[np.int64], used: NDArray[np.bool_], candidate: int
) -> Head:
    valid = fold[used] == fold[used].min()
    return fitter.fit(files.embeddings[used], files.targets[used], valid, [candidate])[0]


def _listen(
    embedded: Embedded, files: _Files, folds: Folds, heads: dict[int, Head]
) -> list[LabelledRecording]:
    """Return all rows of all recordings, with the probabilities of classifiers not fitted on them."""
    place = {number: at for at, number in enumerate(files.numbers)}
    times: dict[int, list[Floats]] = defaultdict(list)
    values: dict[int, list[Floats]] = defaultdict(list)
    for number, piece in read_pieces(embedded):
        at = place[number]
        head = heads[int(folds.fold[at])]
        times[at].append(piece.times)
        values[at].append(to_probabilities(head.logits(piece.embeddings), "events", head.calibration))
    return [
        LabelledRecording(*spans_of(np.concatenate(times[at])), np.concatenate(values[at]), files.events[at])
        for at in range(len(files.rows))
    ]
