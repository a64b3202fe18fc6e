"""Sound events: from frame probabilities to events, and HEAR's event scores.

Times are milliseconds throughout, as in HEAR's task files; scores convert to seconds where a tolerance is applied.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching


@dataclass(frozen=True)
class Events:
    """Events of one file, one row each.

    Args:
        labels: class indices, (n,).
        starts: onsets in ms, (n,).
        ends: offsets in ms, (n,).
    """

    labels: NDArray[np.int64]
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, object]], label_to_index: Mapping[str, int]) -> Events:
        """Read the events of one file from HEAR's JSON rows (`label`, `start`, `end`)."""
        labels = np.array([label_to_index[str(row["label"])] for row in rows], dtype=np.int64)
        starts = np.array([row["start"] for row in rows], dtype=np.float64)
        ends = np.array([row["end"] for row in rows], dtype=np.float64)
        return cls(labels, starts, ends)


def smooth(
    probabilities: NDArray[np.float32], timestamps: NDArray[np.float64], median_filter_ms: float
) -> NDArray[np.float32]:
    """Median-filter the probabilities of one file over time.

    Args:
        probabilities: (T, K), in time order.
        timestamps: (T,) in ms.
        median_filter_ms: filter length; rounded to whole frames, 0 for none.

    Returns:
        (T, K) of the same dtype.
    """
    if not median_filter_ms:
        return probabilities
    width = round(float(median_filter_ms / np.mean(np.diff(timestamps))))
    return np.asarray(median_filter(probabilities, size=(width, 1))) if width else probabilities


def find_events(
    probabilities: NDArray[np.float32],
    timestamps: NDArray[np.float64],
    *,
    median_filter_ms: float = 150.0,
    min_duration: float = 60.0,
    threshold: float = 0.5,
) -> Events:
    """Turn the frame probabilities of one file into events.

    Args:
        probabilities: (T, K).
        timestamps: (T,) in ms, in any order.
        median_filter_ms: length of the median filter over time.
        min_duration: shorter events, from first to last active frame, are dropped.
        threshold: a class is active above this probability.

    Returns:
        The events, sorted by onset.

    Source: the post-processing of HEAR's predictions runner.
    """
    order = np.argsort(timestamps, kind="stable")
    times = np.asarray(timestamps, dtype=np.float64)[order]
    active = smooth(probabilities[order], times, median_filter_ms) > threshold
    edges = np.diff(active.astype(np.int8), axis=0, prepend=0, append=0)
    labels, first = np.nonzero(edges.T == 1)
    _, beyond = np.nonzero(edges.T == -1)
    starts, ends = times[first], times[beyond - 1]
    kept = np.nonzero(ends - starts >= min_duration)[0]
    kept = kept[np.argsort(starts[kept], kind="stable")]
    return Events(labels[kept], starts[kept], ends[kept])


def _matched(onsets_match: NDArray[np.bool_]) -> int:
    """Size of the largest one-to-one matching in a (references, estimates) matrix of allowed pairs."""
    if not onsets_match.any():
        return 0
    if onsets_match.sum(0).max() == 1 and onsets_match.sum(1).max() == 1:
        return int(onsets_match.sum())
    return int((maximum_bipartite_matching(csr_matrix(onsets_match), perm_type="column") >= 0).sum())


def event_based_f_measure(
    predicted: Mapping[str, Events],
    target: Mapping[str, Events],
    n_labels: int,
    *,
    collar: float,
    evaluate_offset: bool = False,
    percentage_of_length: float = 0.5,
) -> dict[str, float]:
    """F-measure, precision and recall over events matched one to one within each file and class.

    Args:
        predicted: events by file name; only these files are scored.
        target: true events by file name.
        n_labels: unused here; all event scores are called alike.
        collar: tolerance of the onset (and offset) in seconds.
        evaluate_offset: whether the offset must match too.
        percentage_of_length: the offset's tolerance as a share of the true event's length, where that is more.

    Returns:
        `f_measure`, `precision`, `recall` in [0, 1]; NaN where nothing was predicted (or nothing was there).

    Source: sed_eval's `EventBasedMetrics` with optimal matching, micro-averaged.
    """
    n_target = n_predicted = n_matched = 0
    for name, found in predicted.items():
        true = target.get(name, _NO_EVENTS)
        n_target, n_predicted = n_target + len(true.labels), n_predicted + len(found.labels)
        true_start, true_end = true.starts / 1000.0, true.ends / 1000.0
        found_start, found_end = found.starts / 1000.0, found.ends / 1000.0
        allowed = true.labels[:, None] == found.labels[None, :]
        allowed &= np.abs(true_start[:, None] - found_start[None, :]) <= collar
        if evaluate_offset:
            tolerance = np.maximum(collar, percentage_of_length * (true_end - true_start))
            allowed &= np.abs(true_end[:, None] - found_end[None, :]) <= tolerance[:, None]
        n_matched += _matched(allowed)
    precision = n_matched / n_predicted if n_predicted else math.nan
    recall = n_matched / n_target if n_target else math.nan
    both = precision + recall
    f_measure = 0.0 if both == 0 else 2 * precision * recall / both
    return {"f_measure": f_measure, "precision": precision, "recall": recall}


def segment_error_rate(
    predicted: Mapping[str, Events], target: Mapping[str, Events], n_labels: int, *, resolution: float = 1.0
) -> dict[str, float]:
    """Error rate over segments: substitutions, deletions and insertions per true active class and segment.

    Args:
        predicted: events by file name; only these files are scored.
        target: true events by file name.
        n_labels: number of classes.
        resolution: segment length in seconds.

    Returns:
        `error_rate`, 0 at best and without upper bound.

    Source: sed_eval's `SegmentBasedMetrics`, micro-averaged.
    """
    n_target = substitutions = deletions = insertions = 0
    for name, found in predicted.items():
        true = target.get(name, _NO_EVENTS)
        last = max([0.0, *true.ends, *found.ends]) / 1000.0
        length = math.ceil(last / resolution)
        true_roll = _segments(true, length, n_labels, resolution)
        found_roll = _segments(found, length, n_labels, resolution)
        matched = (true_roll & found_roll).sum(1)
        n_true, n_found = true_roll.sum(1), found_roll.sum(1)
        n_target += int(n_true.sum())
        substitutions += int((np.minimum(n_true, n_found) - matched).sum())
        deletions += int(np.maximum(0, n_true - n_found).sum())
        insertions += int(np.maximum(0, n_found - n_true).sum())
    return {"error_rate": float((substitutions + deletions + insertions) / (n_target + np.spacing(1)))}


def _segments(events: Events, length: int, n_labels: int, resolution: float) -> NDArray[np.bool_]:
    roll = np.zeros((length, n_labels), dtype=bool)
    for label, start, end in zip(events.labels, events.starts / 1000.0, events.ends / 1000.0, strict=True):
        roll[math.floor(start / resolution) : math.ceil(end / resolution), label] = True
    return roll


_NO_EVENTS = Events(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))


@dataclass(frozen=True)
class EventScore:
    """One of HEAR's event scores: which function with which tolerances, and what it returns first."""

    function: object
    parameters: Mapping[str, object]
    parts: tuple[str, ...]
    maximize: bool = True

    def __call__(
        self, predicted: Mapping[str, Events], target: Mapping[str, Events], n_labels: int
    ) -> dict[str, float]:
        """Score the predicted events of the files against the true ones; the first value is the score itself."""
        values = self.function(predicted, target, n_labels, **self.parameters)  # type: ignore[operator]
        return {part: values[part] for part in self.parts}


_F_PARTS = ("f_measure", "precision", "recall")
EVENT_SCORES: dict[str, EventScore] = {
    "event_onset_200ms_fms": EventScore(event_based_f_measure, {"collar": 0.2}, _F_PARTS),
    "event_onset_50ms_fms": EventScore(event_based_f_measure, {"collar": 0.05}, _F_PARTS),
    "event_onset_offset_50ms_20perc_fms": EventScore(
        event_based_f_measure,
        {"collar": 0.05, "evaluate_offset": True, "percentage_of_length": 0.2},
        _F_PARTS,
    ),
    "segment_1s_er": EventScore(segment_error_rate, {"resolution": 1.0}, ("error_rate",), maximize=False),
}
