"""How well events are found in recordings that were not fitted on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..io.labels import LabelRow, LabelTable
from .event_choice import Counts, LabelledRecording, choose_events, count_events, found_events
from .events import EventSettings, frame_targets
from .folds import Folds
from .head import Floats
from .metrics import ClassScores, average_precision, class_scores, interval, resamples
from .outcome import FitOptions, Mistake, Trial, notes_on

# Of each recording, so that resampling stays quick; evenly over its time.
MOST_ROWS = 50_000


def event_trial(
    recordings: Sequence[LabelledRecording],
    rows: Sequence[LabelRow],
    folds: Folds,
    table: LabelTable,
    options: FitOptions,
    chosen: tuple[EventSettings, Floats],
    candidate: str,
) -> Trial:
    """Score recordings by settings and thresholds that were chosen without their fold.

    Args:
        recordings: with probabilities by classifiers that were not fitted on them.
        rows: a label of each, for its path.
        folds: of the recordings.
        table: the labels.
        options: how to fit.
        chosen: settings and thresholds from all recordings but those of a test split.
        candidate: what was fitted, in words.
    """
    n_classes = len(table.classes)
    shown: list[int] = []
    parts: list[Counts] = []
    mistakes: list[Mistake] = []
    for number in [-1] if folds.test.any() else folds.numbers:
        held = np.flatnonzero(folds.fold == number).tolist()
        settings, thresholds = chosen
        if number >= 0:
            others = [recordings[i] for i in np.flatnonzero(folds.fold != number).tolist()]
            settings, thresholds = choose_events(others, n_classes, options.precision, options.collar)
        parts.append(count_events([recordings[i] for i in held], thresholds, settings, options.collar))
        for i in held:
            mistakes += _mistakes(
                recordings[i], rows[i].path, table.classes, thresholds, settings, options.collar
            )
        shown += held
    counts = Counts(*(np.concatenate([part[k] for part in parts]) for k in range(3)))
    own = [recordings[i] for i in shown]
    targets, probabilities, of = _rows(own, n_classes)
    scores = _scores(counts, targets, probabilities, of, folds.group[shown], table.classes, options.seed)
    totals = [int(values.sum()) for values in counts]
    known = [score for score in scores if score.labels]
    summary = {
        "event_f1": 2 * totals[2] / max(totals[0] + totals[1], 1),
        "macro_event_f1": float(np.mean([score.f1 for score in known])),
        "frame_mean_average_precision": float(np.mean([score.ap for score in known])),
        "recordings": float(len(shown)),
    }
    return Trial(
        tuple(rows[i] for i in shown), targets, probabilities, of, tuple(scores), summary, folds.source,
        (*notes_on(scores, table), f"chosen: {candidate}; {_words(chosen[0], options.collar)}"),
        tuple(sorted(mistakes, key=lambda one: -one.surprise)),
    )  # fmt: skip


def _rows(
    recordings: Sequence[LabelledRecording], n_classes: int
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Return targets and probabilities of all rows, and which recording each is of."""
    step = max(1, sum(len(one.starts) for one in recordings) // MOST_ROWS)
    targets = [frame_targets(r.events, (r.starts + r.ends) / 2, n_classes)[::step] for r in recordings]
    values = [recording.probabilities[::step] for recording in recordings]
    of = np.repeat(np.arange(len(recordings)), [len(own) for own in values])
    return np.concatenate(targets), np.concatenate(values), of


def _scores(
    counts: Counts, targets: Floats, probabilities: Floats, of: NDArray[np.int64], group: NDArray[np.int64],
    classes: Sequence[str], seed: int,
) -> list[ClassScores]:  # fmt: skip
    """Score each class: its events as counted, and its rows for the average precision."""
    weights = resamples(group, seed)
    scores = []
    for index, name in enumerate(classes):
        labelled, found, right = (values[:, index] for values in counts)
        with np.errstate(invalid="ignore", divide="ignore"):
            f1_interval = interval(2 * (weights @ right) / (weights @ (labelled + found)))
        own, values = targets[:, index] > 0, probabilities[:, index]
        ap = float(average_precision(values, own)[0])
        # Some resamples at a time: each counts every row.
        few = [
            average_precision(values, own, weights[at : at + 50][:, of]) for at in range(0, len(weights), 50)
        ]
        total = (int(labelled.sum()), int(found.sum()), int(right.sum()))
        scores.append(class_scores(name, *total, ap, interval(np.concatenate(few)), f1_interval))
    return scores


def _mistakes(
    recording: LabelledRecording, path: str, classes: Sequence[str], thresholds: Floats,
    settings: EventSettings, collar: float,
) -> list[Mistake]:  # fmt: skip
    """Return the events found where none is labelled, and those labelled and not found."""
    mistakes = []
    for index, name in enumerate(classes):
        found = found_events(recording, index, float(thresholds[index]), settings)
        labelled = [(start, end) for start, end, c in recording.events if c == index]
        for event in found:
            if not any(
                start - collar <= event.end and event.start <= end + collar for start, end in labelled
            ):
                mistakes.append(Mistake(path, event.start, event.end, "", name, event.score))
        for start, end in labelled:
            if not any(start - collar <= event.end and event.start <= end + collar for event in found):
                inside = (recording.ends > start) & (recording.starts < end)
                best = float(recording.probabilities[inside, index].max(initial=0.0))
                mistakes.append(Mistake(path, start, end, name, "", 1 - best))
    return mistakes


def _words(settings: EventSettings, collar: float) -> str:
    return (
        f"smoothed over {settings.smooth_seconds:g} s, continuing from {settings.keep_share:g} of the threshold, "
        f"at least {settings.min_length:g} s; right when it begins within {collar:g} s of a labelled one"
    )
