"""How probabilities over time best become events: thresholds and settings chosen on labelled recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .events import Event, EventSettings, find_events, match_onsets, median_filtered
from .head import Floats

SMOOTHING = (0.0, 0.25, 0.5)
KEEP_SHARES = (1.0, 0.6)
N_THRESHOLDS = 24
# Recordings are laid one behind the other with so much silence between them, seconds.
_APART = 1000.0


@dataclass(frozen=True)
class LabelledRecording:
    """The probabilities of a recording, and the events that people heard in it.

    Attributes:
        starts, ends: `(n,)` seconds.
        probabilities: `(n, C)`.
        events: start, end (seconds) and class of each.
    """

    starts: Floats
    ends: Floats
    probabilities: Floats
    events: tuple[tuple[float, float, int], ...]


class Counts(NamedTuple):
    """Events of each class in each recording, `(recordings, C)`: labelled, found, and right among the found."""

    labelled: NDArray[np.int64]
    found: NDArray[np.int64]
    right: NDArray[np.int64]


def choose_events(
    recordings: Sequence[LabelledRecording], n_classes: int, precision: float | None, collar: float
) -> tuple[EventSettings, Floats]:
    """Choose settings for all classes, and a threshold for each.

    Args:
        recordings: with probabilities by classifiers that were not fitted on them.
        n_classes: C.
        precision: share of right events wanted among those found; None for the best F1.
        collar: an event is right when it begins so near a labelled one, seconds.

    Returns:
        The settings with the best mean F1, and `(C,)` thresholds.
    """
    lengths = [end - start for recording in recordings for start, end, _ in recording.events]
    shortest = float(np.quantile(lengths, 0.05)) / 2 if lengths else 0.0
    best: tuple[float, EventSettings, Floats] | None = None
    for smooth in SMOOTHING:
        timeline = _Timeline(recordings, n_classes, smooth)
        for share in KEEP_SHARES:
            settings = EventSettings(smooth, share, 0.0, round(min(shortest, 0.5), 4))
            tried = [timeline.threshold(c, settings, precision, collar) for c in range(n_classes)]
            value = float(np.mean([f1 for _, f1 in tried]))
            if best is None or value > best[0] + 1e-9:
                best = value, settings, np.array([threshold for threshold, _ in tried], np.float32)
    assert best is not None
    return best[1], best[2]


def count_events(
    recordings: Sequence[LabelledRecording], thresholds: Floats, settings: EventSettings, collar: float
) -> Counts:
    """Count the events that are found and right in recordings; `thresholds` are `(C,)`."""
    shape = (len(recordings), len(thresholds))
    labelled, found, right = (np.zeros(shape, np.int64) for _ in range(3))
    for number, recording in enumerate(recordings):
        for index, threshold in enumerate(thresholds.tolist()):
            own = found_events(recording, index, threshold, settings)
            onsets = sorted(start for start, _, c in recording.events if c == index)
            labelled[number, index], found[number, index] = len(onsets), len(own)
            right[number, index] = match_onsets([event.start for event in own], onsets, collar)
    return Counts(labelled, found, right)


def found_events(
    recording: LabelledRecording, index: int, threshold: float, settings: EventSettings
) -> list[Event]:
    """Return the events of a class in a recording."""
    values = recording.probabilities[:, index]
    return find_events(values, recording.starts, recording.ends, threshold, settings)


class _Timeline:
    """All recordings one behind the other, so that a threshold is tried on all of them at once."""

    def __init__(self, recordings: Sequence[LabelledRecording], n_classes: int, smooth: float) -> None:
        starts, ends, values = [], [], []
        self._onsets: list[list[float]] = [[] for _ in range(n_classes)]
        offset = 0.0
        for recording in recordings:
            columns = [
                median_filtered(recording.probabilities[:, c], smooth, recording.starts, recording.ends)
                for c in range(n_classes)
            ]
            # A row of zeros keeps events from running on into the next recording.
            starts.append(np.append(recording.starts, recording.ends[-1]) + offset)
            ends.append(np.append(recording.ends, recording.ends[-1]) + offset)
            values.append(np.vstack([np.stack(columns, axis=1), np.zeros((1, n_classes), np.float32)]))
            for start, _, index in sorted(recording.events):
                self._onsets[index].append(start + offset)
            offset += float(recording.ends[-1]) + _APART
        self._starts, self._ends = np.concatenate(starts), np.concatenate(ends)
        self._values = np.concatenate(values)

    def threshold(
        self, index: int, settings: EventSettings, precision: float | None, collar: float
    ) -> tuple[float, float]:
        """Return the best threshold of a class, and its F1."""
        values, onsets = self._values[:, index], self._onsets[index]
        unsmoothed = settings.replace(smooth_seconds=0.0)
        tried = []
        for threshold in _candidates(values, len(onsets)):
            events = find_events(values, self._starts, self._ends, threshold, unsmoothed)
            right = self._right(events, onsets, collar)
            share = right / len(events) if events else 0.0
            f1 = 2 * right / max(len(events) + len(onsets), 1)
            enough = precision is None or share >= precision
            # Where the precision is not reached, what comes nearest to it.
            tried.append((enough, f1 if enough else share, -threshold, f1))
        _, _, threshold, f1 = max(tried)
        return -threshold, f1

    @staticmethod
    def _right(events: Sequence[Event], onsets: Sequence[float], collar: float) -> int:
        return match_onsets([event.start for event in events], onsets, collar)


def _candidates(values: Floats, n_events: int) -> list[float]:
    """Return thresholds to try: more of them where the probabilities are high."""
    known = values[values > 0]
    if not len(known) or not n_events:
        return [0.5]
    shares = 1 - np.geomspace(1 / len(known), 1.0, N_THRESHOLDS)
    return sorted({float(value) for value in np.quantile(known, np.clip(shares, 0, 1))})
