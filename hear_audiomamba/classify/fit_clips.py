"""Clips, or stretches of recordings, with their labels to a classifier of scene embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..archive.options import Resources
from ..embedding.embedder import AudioEmbedder
from ..io.audio import duration_of
from ..io.labels import LabelRow, LabelTable
from .candidates import make_fitter
from .embeddings import OnProgress, embed_stretches, read_clips
from .events import EventSettings
from .folds import Folds, make_folds
from .head import Floats, Head, to_probabilities
from .metrics import score_rows
from .model_file import Classifier, EmbeddingModel
from .outcome import (
    FitOptions,
    Fitted,
    Mistake,
    Trial,
    check_enough,
    facts_of,
    notes_on,
    summarize,
    targets_of,
)
from .trials import choose, decisions, honest, unseen_logits

MOST_CLIP_SECONDS = 60.0


def fit_clips(
    table: LabelTable,
    model: AudioEmbedder,
    embeddings: Path,
    options: FitOptions,
    arguments: dict[str, Any] | None,
    resources: Resources | None,
    on_progress: OnProgress,
) -> Fitted:
    """Fit a classifier of clips; see `fit_labels`."""
    stretches = [(row.path, row.start, row.end) for row in table.rows]
    embedded = embed_stretches(
        stretches, model, embeddings, timestamps=False, resources=resources, on_progress=on_progress
    )
    rows = [row for row, source in zip(table.rows, embedded.sources) if source is not None]
    clips, seconds = read_clips(embedded)
    targets = targets_of(rows, table.classes)
    check_enough(targets, table.classes, len(embedded.errors))
    folds = make_folds(
        [(row.path, row.split, row.group) for row in rows], targets, options.folds, options.seed
    )
    head, trial = try_and_fit(clips, targets, rows, table, folds, options)
    length = float(np.nanmax(seconds)) if np.isfinite(seconds).any() else _longest(rows)
    classifier = Classifier(
        head, EmbeddingModel.of(model, arguments), round(min(length, MOST_CLIP_SECONDS), 3),
        EventSettings(smooth_seconds=0.0), facts_of(table, trial, options, len(rows)),
    )  # fmt: skip
    return Fitted(classifier, trial, embedded.errors)


def try_and_fit(
    clips: Floats, targets: Floats, rows: Sequence[LabelRow], table: LabelTable, folds: Folds, options: FitOptions
) -> tuple[Head, Trial]:  # fmt: skip
    """Try candidates out on rows they have not seen, then fit the best on all rows."""
    kind, classes = table.kind, table.classes
    fitter = make_fitter(table, options)
    logits = unseen_logits(fitter, clips, targets, folds.fold)
    used = ~folds.test
    made = choose(logits[:, used], targets[used], kind, options.precision)
    valid = folds.fold[used] == folds.numbers[0]
    (head,) = fitter.fit(clips[used], targets[used], valid, [made.candidate])
    head = head.with_decisions(made.calibration, made.thresholds)
    if folds.test.any():
        shown = folds.test
        probabilities = to_probabilities(head.logits(clips[shown]), kind, head.calibration)
        decided = decisions(probabilities, kind, head.thresholds)
    else:
        shown = used
        probabilities, decided = honest(logits, targets, folds.fold, kind, options.precision)
    scores = score_rows(targets[shown], probabilities, decided, classes, folds.group[shown], options.seed)
    summary = summarize(targets[shown], probabilities, decided, scores, kind)
    own = [row for row, kept in zip(rows, shown) if kept]
    trial = Trial(
        tuple(own), targets[shown], probabilities, np.arange(len(own)), tuple(scores), summary, folds.source,
        (*notes_on(scores, table), f"chosen: {fitter.candidates[made.candidate]}"),
        tuple(_mistakes(own, targets[shown], probabilities, decided, table)),
    )  # fmt: skip
    return head, trial


def _mistakes(
    rows: Sequence[LabelRow], targets: Floats, probabilities: Floats, decided: NDArray[np.bool_], table: LabelTable
) -> list[Mistake]:  # fmt: skip
    """Return what was said that is wrong; in a single-label task one a clip, else one for each class."""
    mistakes = []
    for row, own, chances, found in zip(rows, targets > 0, probabilities, decided):
        start, end = (np.nan if value is None else value for value in (row.start, row.end))
        if table.kind == "single":
            said = int(chances.argmax())
            if not own[said]:
                mistakes.append(
                    Mistake(row.path, start, end, row.labels[0], table.classes[said], float(chances[said]))
                )
            continue
        for index in np.flatnonzero(own != found):
            name, chance = table.classes[index], float(chances[index])
            label, wrong, surprise = (name, "", 1 - chance) if own[index] else ("", name, chance)
            mistakes.append(Mistake(row.path, start, end, label, wrong, surprise))
    return sorted(mistakes, key=lambda one: -one.surprise)


def _longest(rows: Sequence[LabelRow]) -> float:
    return max(
        row.end - row.start if row.start is not None and row.end is not None else duration_of(row.path)
        for row in rows
    )
