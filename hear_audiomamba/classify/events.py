"""From probabilities over time to events, and events compared with labelled ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..errors import ConfigError
from .head import Floats

# Tolerance of HEAR's event score, and of DCASE's before it.
COLLAR = 0.2


@dataclass(frozen=True)
class EventSettings(Config):
    """How probabilities become events.

    Attributes:
        smooth_seconds: length of the median filter over time; 0 for none.
        keep_share: an event that has begun continues while the probability is at least this share of the
            class's threshold (hysteresis), 0 to 1; 1 for none.
        merge_gap: events of a class with less silence than this between them are one, seconds.
        min_length: shorter events are dropped, seconds.
    """

    smooth_seconds: float = 0.25
    keep_share: float = 0.6
    merge_gap: float = 0.0
    min_length: float = 0.0

    def __post_init__(self) -> None:
        for name in ("smooth_seconds", "merge_gap", "min_length"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ConfigError(f"{name}: {getattr(self, name)!r}, expected seconds from 0")
        if not 0 < self.keep_share <= 1:
            raise ConfigError(f"keep_share: {self.keep_share!r}, expected more than 0, at most 1")


class Event(NamedTuple):
    """A class heard from `start` to `end` (seconds); `score` is its highest probability."""

    start: float
    end: float
    score: float


def find_events(
    probability: Floats, starts: Floats, ends: Floats, threshold: float, settings: EventSettings
) -> list[Event]:
    """Find the events of one class in one recording.

    Args:
        probability: `(n,)` in time order.
        starts, ends: `(n,)` seconds, the stretch that each stands for.
        threshold: an event needs at least one value of this or more.
        settings: see there.

    Returns:
        The events, in time order; they do not overlap.
    """
    if not len(probability):
        return []
    smooth = median_filtered(probability, settings.smooth_seconds, starts, ends)
    held = smooth >= threshold * settings.keep_share
    edges = np.diff(held.astype(np.int8), prepend=0, append=0)
    first, last = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    events: list[Event] = []
    for a, b in zip(first.tolist(), last.tolist()):
        score = float(smooth[a : b + 1].max())
        if score < threshold:
            continue
        event = Event(float(starts[a]), float(ends[b]), score)
        if events and event.start - events[-1].end < settings.merge_gap:
            before = events.pop()
            event = Event(before.start, max(before.end, event.end), max(before.score, score))
        events.append(event)
    return [event for event in events if event.end - event.start >= settings.min_length - 1e-9]


def median_filtered(probability: Floats, seconds: float, starts: Floats, ends: Floats) -> Floats:
    """Return probabilities `(n,)` after a median filter of some seconds; the ends are repeated."""
    step = float(np.median(np.diff(starts))) if len(starts) > 1 else float(ends[0] - starts[0])
    reach = round(seconds / step) // 2 if step > 0 else 0
    if reach < 1 or len(probability) < 2:
        return probability
    padded = np.pad(probability, reach, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    smooth = np.empty_like(probability)
    for at in range(0, len(probability), 65536):  # the windows of a day at once would be gigabytes
        smooth[at : at + 65536] = np.median(windows[at : at + 65536], axis=1)
    return smooth


def spans_of(times: Floats, seconds: float | None = None) -> tuple[Floats, Floats]:
    """Return the stretch around each of some times `(n,)`, in seconds, that it stands for.

    Args:
        times: centres, increasing.
        seconds: where the recording ends, if known.
    """
    if len(times) > 1:
        half = float(np.median(np.diff(times))) / 2
    else:
        half = float(times[0]) if len(times) else 0.0
    ends = times + half
    return np.maximum(times - half, 0), ends if seconds is None else np.minimum(ends, seconds)


def match_onsets(found: Sequence[float], labelled: Sequence[float], collar: float = COLLAR) -> int:
    """Return how many onsets can be paired one to one, both sorted, at most `collar` seconds apart.

    With one tolerance for all, pairing the earliest first leaves as many pairs as any other way.
    """
    pairs = i = j = 0
    while i < len(found) and j < len(labelled):
        apart = found[i] - labelled[j]
        if abs(apart) <= collar:
            pairs, i, j = pairs + 1, i + 1, j + 1
        elif apart < 0:
            i += 1
        else:
            j += 1
    return pairs


def frame_targets(
    events: Sequence[tuple[float, float, int]], times: Floats, n_classes: int
) -> NDArray[np.float32]:
    """Return which classes sound at which times, `(n, C)` of zeros and ones.

    Args:
        events: start, end (seconds) and class of each.
        times: `(n,)` seconds, increasing; all of a recording or a piece of it.
        n_classes: C.
    """
    targets = np.zeros((len(times), n_classes), np.float32)
    reach = float(np.median(np.diff(times))) / 2 if len(times) > 1 else np.inf
    for start, end, index in events:
        inside = (times >= start) & (times <= end)
        if not inside.any() and len(times):  # shorter than the step between two times
            apart = np.abs(times - (start + end) / 2)
            inside[apart.argmin()] = apart.min() <= reach + 1e-9
        targets[inside, index] = 1
    return targets
