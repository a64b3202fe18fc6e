"""Classes found in recordings: each with its stretch of time and its probability."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..io.labels import Kind
from .events import EventSettings, find_events
from .head import Floats
from .trials import decisions

if TYPE_CHECKING:  # of these, torch is a part; exported models use `detections_in` without it
    from .model_file import Classifier
    from .scores import Recording


class Detection(NamedTuple):
    """A class found in a recording, from `start` to `end` (seconds)."""

    path: str
    start: float
    end: float
    label: str
    score: float


def detect(
    recordings: Iterable[Recording], classifier: Classifier, settings: EventSettings | None = None
) -> Iterator[Detection]:
    """Find a classifier's classes in recordings, as `detections_in` does in one.

    Args:
        recordings: their probabilities.
        classifier: whose.
        settings: how rows become detections; by default those that the classifier was fitted with.

    Yields:
        Detections, recording by recording, in the order of time.
    """
    settings = settings or classifier.events
    head = classifier.head
    for recording in recordings:
        yield from detections_in(
            recording.path, recording.starts, recording.ends, recording.probabilities,
            kind=head.kind, classes=head.classes, thresholds=head.thresholds, settings=settings,
        )  # fmt: skip


def detections_in(
    path: str,
    starts: Floats,
    ends: Floats,
    probabilities: Floats,
    *,
    kind: Kind,
    classes: Sequence[str],
    thresholds: Floats,
    settings: EventSettings,
) -> list[Detection]:
    """Find classes in one recording.

    Neighbouring rows of a class become one detection. In a single-label task each row counts for its
    most probable class only; else a class begins at its threshold and continues by hysteresis.

    Args:
        path: the recording.
        starts, ends: `(n,)` seconds, increasing, the stretch that each row stands for.
        probabilities: `(n, C)`.
        kind: "single" label a row, or "multi"ple, or "events" in time.
        classes: C names.
        thresholds: `(C,)` probability from which a class counts as there.
        settings: how rows become detections.

    Returns:
        Detections in the order of time.
    """
    found: list[Detection] = []
    values = np.asarray(probabilities)
    least = thresholds.tolist()
    if kind == "single":
        # A row of another class breaks off a detection, whatever this one's probability.
        values = np.where(decisions(values, kind, thresholds), values, 0.0)
        least = [1e-9] * len(least)
    for index, label in enumerate(classes):
        events = find_events(values[:, index], starts, ends, least[index], settings)
        found += [Detection(path, one.start, one.end, label, one.score) for one in events]
    return sorted(found, key=lambda one: (one.start, one.end, one.label))
