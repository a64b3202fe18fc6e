"""How good a classifier is on rows it was not fitted on, each number with its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .head import Floats

CONFIDENCE = 0.95
_Z = 1.959964
RESAMPLES = 500
# Fewer labels than this, or an interval of the average precision wider, is too little to trust.
FEW_LABELS = 10
WIDE_INTERVAL = 0.5

Interval = tuple[float, float]


@dataclass(frozen=True)
class ClassScores:
    """The numbers of one class; intervals are of 95 %.

    Attributes:
        name: the class.
        labels: rows (or events) that have it.
        found: rows (or events) where the classifier found it; right: those of them that have it.
        precision, recall, f1: of the decisions; NaN where nothing was found, or nothing was there.
        ap: average precision over all thresholds.
        enough: false where the labels are too few to trust these numbers.
    """

    name: str
    labels: int
    found: int
    right: int
    precision: float
    precision_interval: Interval
    recall: float
    recall_interval: Interval
    f1: float
    f1_interval: Interval
    ap: float
    ap_interval: Interval
    enough: bool


def class_scores(
    name: str, labels: int, found: int, right: int, ap: float, ap_interval: Interval, f1_interval: Interval
) -> ClassScores:
    """Put the numbers of a class together from its counts."""
    wide = not ap_interval[1] - ap_interval[0] <= WIDE_INTERVAL
    return ClassScores(
        name, labels, found, right, _ratio(right, found), wilson(right, found), _ratio(right, labels),
        wilson(right, labels), _ratio(2 * right, found + labels), f1_interval, ap, ap_interval,
        labels >= FEW_LABELS and not wide,
    )  # fmt: skip


def wilson(right: int, total: int) -> Interval:
    """Return the 95 % interval of a share.

    Source: Wilson 1927; unlike the normal approximation it holds for 5 of 5.
    """
    if not total:
        return 0.0, 1.0
    share, spread = right / total, _Z**2 / total
    middle = (share + spread / 2) / (1 + spread)
    reach = _Z / (1 + spread) * np.sqrt(share * (1 - share) / total + spread / (4 * total))
    return max(0.0, float(middle - reach)), min(1.0, float(middle + reach))


def average_precision(scores: Floats, own: NDArray[np.bool_], weights: Floats | None = None) -> Floats:
    """Return the area under the steps of the precision-recall curve, as scikit-learn computes it.

    Args:
        scores: `(n,)`.
        own: `(n,)` which rows have the class.
        weights: `(B, n)` how often each row counts, for B resamples at once; None for once.

    Returns:
        `(B,)`, or `(1,)`; NaN where no row has the class.
    """
    order = np.argsort(-scores, kind="stable")
    scores, own = scores[order], own[order]
    counts = np.ones((1, len(scores))) if weights is None else weights[:, order]
    hits = np.cumsum(counts * own, axis=1)
    total = np.cumsum(counts, axis=1)
    # Rows of equal score have one threshold, behind the last of them.
    ends = np.flatnonzero(np.append(scores[1:] < scores[:-1], True))
    hits, total = hits[:, ends], total[:, ends]
    steps = np.diff(hits, axis=1, prepend=0)
    precision = hits / np.maximum(total, 1e-12)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((steps * precision).sum(axis=1) / hits[:, -1])


def resamples(group: NDArray[np.int64], seed: int) -> NDArray[np.float32]:
    """Draw groups with replacement; return how often each row counts, `(B, n)`."""
    numbers, row_of = np.unique(group, return_inverse=True)
    random = np.random.default_rng(seed)
    n_groups = len(numbers)
    drawn = random.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=RESAMPLES)
    return drawn.astype(np.float32)[:, row_of]


def interval(values: Floats) -> Interval:
    """Return the middle 95 % of resampled values; (0, 1) where there are none."""
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return 0.0, 1.0
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def score_rows(
    targets: Floats, probabilities: Floats, decided: NDArray[np.bool_], classes: Sequence[str],
    group: NDArray[np.int64], seed: int,
) -> list[ClassScores]:  # fmt: skip
    """Score rows, one class after the other.

    Args:
        targets: `(n, C)` of zeros and ones.
        probabilities: `(n, C)`.
        decided: `(n, C)` where a class was found.
        classes: C names.
        group: `(n,)` rows of a group are resampled together.
        seed: of the resampling.
    """
    weights = resamples(group, seed)
    result = []
    for index, name in enumerate(classes):
        own, there = targets[:, index] > 0, decided[:, index]
        ap = float(average_precision(probabilities[:, index], own)[0])
        ap_interval = interval(average_precision(probabilities[:, index], own, weights))
        right, size = weights @ (own & there), weights @ (own.astype(np.float32) + there)
        with np.errstate(invalid="ignore", divide="ignore"):
            f1_interval = interval(2 * right / size)
        counts = (int(own.sum()), int(there.sum()), int((own & there).sum()))
        result.append(class_scores(name, *counts, ap, ap_interval, f1_interval))
    return result


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
