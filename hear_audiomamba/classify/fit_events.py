"""Events with start and end to a classifier of timestamp embeddings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..archive.run import Resources
from ..embedding.embedder import AudioEmbedder
from ..io.labels import LabelRow, LabelTable
from .candidates import make_fitter
from .embeddings import Embedded, OnProgress, embed_stretches, read_files
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
    """Read the rows to fit on, recording by recording."""
    index = {name: number for number, name in enumerate(table.classes)}
    most = max(LEAST_ROWS_A_FILE, MOST_ROWS // (2 * len(groups)))
    random = np.random.default_rng(seed)
    rows: dict[int, Floats] = {}
    targets: dict[int, Floats] = {}
    events: dict[int, tuple[tuple[float, float, int], ...]] = {}
    for number, times, read in read_files(embedded):
        events[number] = tuple(
            (row.start, row.end, index[label])
            for row in groups[number]
            for label in row.labels
            if row.start is not None and row.end is not None
        )
        wanted = frame_targets(events[number], times, len(index))
        heard = wanted.any(axis=1)
        kept = [_sample(np.flatnonzero(heard == side), most, random) for side in (True, False)]
        order = np.sort(np.concatenate(kept))
        rows[number], targets[number] = read[order].astype(np.float32), wanted[order]
    numbers = sorted(rows)
    return _Files(
        tuple(groups[number][0] for number in numbers),
        tuple(numbers),
        tuple(events[number] for number in numbers),
        np.concatenate([rows[number] for number in numbers]),
        np.concatenate([targets[number] for number in numbers]),
        np.repeat(np.arange(len(numbers)), [len(rows[number]) for number in numbers]),
    )


def _sample(rows: NDArray[np.int64], most: int, random: np.random.Generator) -> NDArray[np.int64]:
    return rows if len(rows) <= most else random.choice(rows, most, replace=False)


def _fit(
    fitter: Fitter, files: _Files, fold: NDArray[np.int64], used: NDArray[np.bool_], candidate: int
) -> Head:
    valid = fold[used] == fold[used].min()
    return fitter.fit(files.embeddings[used], files.targets[used], valid, [candidate])[0]


def _listen(
    embedded: Embedded, files: _Files, folds: Folds, heads: dict[int, Head]
) -> list[LabelledRecording]:
    """Return all rows of all recordings, with the probabilities of classifiers not fitted on them."""
    found: dict[int, LabelledRecording] = {}
    place = {number: at for at, number in enumerate(files.numbers)}
    for number, times, rows in read_files(embedded):
        at = place[number]
        head = heads[int(folds.fold[at])]
        starts, ends = spans_of(times)
        values = to_probabilities(head.logits(rows), "events", head.calibration)
        found[at] = LabelledRecording(starts, ends, values, files.events[at])
    return [found[at] for at in range(len(files.rows))]
