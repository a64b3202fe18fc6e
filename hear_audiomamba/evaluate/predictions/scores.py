"""HEAR's scores of scene predictions, written with whole-array operations.

Every function takes `predictions` (n, K) of class probabilities and `targets` (n, K) of zeros and ones, and returns
what scikit-learn and the kit's own scoring return for them: they are compared in the tests.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

Array = NDArray[np.floating]


def top1_accuracy(predictions: Array, targets: Array) -> float:
    """Share of rows whose most probable class is the target; of equal probabilities the first class counts.

    Source: HEAR's `top1_acc` and `pitch_acc`.
    """
    return float(np.mean(predictions.argmax(1) == targets.argmax(1)))


def chroma_accuracy(predictions: Array, targets: Array) -> float:
    """Accuracy that forgives octave errors: class indices are compared modulo 12.

    Source: HEAR's `chroma_acc`.
    """
    return float(np.mean(predictions.argmax(1) % 12 == targets.argmax(1) % 12))


def average_precision(predictions: Array, targets: Array) -> Array:
    """Average precision of each class, (K,); rows of equal probability enter together; 0 for an absent class.

    Source: the step-wise definition of scikit-learn's `average_precision_score`.
    """
    order = np.argsort(-predictions, axis=0, kind="stable")
    sorted_predictions = np.take_along_axis(predictions, order, 0)
    hits = np.cumsum(np.take_along_axis(targets, order, 0), axis=0, dtype=np.float64)
    last_of_ties = np.ones_like(predictions, dtype=bool)
    last_of_ties[:-1] = sorted_predictions[:-1] != sorted_predictions[1:]
    precision = hits / np.arange(1, len(hits) + 1)[:, None]
    at_ends = np.where(last_of_ties, hits, 0.0)
    before = np.zeros_like(hits)
    before[1:] = np.maximum.accumulate(at_ends, axis=0)[:-1]
    gained = np.where(last_of_ties, hits - before, 0.0)
    positives = np.maximum(hits[-1], 1.0)
    return np.asarray((gained * precision).sum(0) / positives)


def mean_average_precision(predictions: Array, targets: Array) -> float:
    """Mean over classes of the average precision.

    Source: HEAR's `mAP`.
    """
    return float(average_precision(predictions, targets).mean())


def area_under_roc(predictions: Array, targets: Array) -> Array:
    """Area under the ROC curve of each class, (K,); NaN where a class is always or never present.

    Source: the rank-sum form of the area, with mean ranks for ties.
    """
    positives = targets.sum(0, dtype=np.float64)
    negatives = len(targets) - positives
    ranks = rankdata(predictions, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        above = (ranks * targets).sum(0, dtype=np.float64) - positives * (positives + 1) / 2
        return np.asarray(above / (positives * negatives))


def mean_area_under_roc(predictions: Array, targets: Array) -> float:
    """Mean over classes of the area under the ROC curve; NaN when one class has no value.

    Source: HEAR's `aucroc`.
    """
    return float(area_under_roc(predictions, targets).mean())


def d_prime(predictions: Array, targets: Array) -> float:
    """Mean over classes of d′ = √2·Φ⁻¹(AUC); infinite when a class is separated perfectly.

    Source: HEAR's `d_prime`.
    """
    return float(np.mean(norm.ppf(area_under_roc(predictions, targets)) * np.sqrt(2.0)))


SCENE_SCORES: dict[str, Callable[[Array, Array], float]] = {
    "top1_acc": top1_accuracy,
    "pitch_acc": top1_accuracy,
    "chroma_acc": chroma_accuracy,
    "mAP": mean_average_precision,
    "d_prime": d_prime,
    "aucroc": mean_area_under_roc,
}
