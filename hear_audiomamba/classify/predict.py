"""Classes found in recordings: each with its stretch of time and its probability."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from .events import EventSettings, find_events
from .model_file import Classifier
from .scores import Recording
from .trials import decisions


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
    """Find a classifier's classes in recordings.

    Neighbouring rows of a class become one detection. In a single-label task each row counts for its
    most probable class only; else a class begins at its threshold and continues by hysteresis.

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
        found: list[Detection] = []
        values = np.asarray(recording.probabilities)
        thresholds = head.thresholds.tolist()
        if head.kind == "single":
            # A row of another class breaks off a detection, whatever this one's probability.
            values = np.where(decisions(values, head.kind, head.thresholds), values, 0.0)
            thresholds = [1e-9] * len(thresholds)
        for index, label in enumerate(head.classes):
            events = find_events(
                values[:, index], recording.starts, recording.ends, thresholds[index], settings
            )
            found += [Detection(recording.path, one.start, one.end, label, one.score) for one in events]
        yield from sorted(found, key=lambda one: (one.start, one.end, one.label))
