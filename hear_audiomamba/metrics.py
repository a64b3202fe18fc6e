"""Metrics of multi-label tagging, as AudioSet's evaluation has them: mAP, mean AUC, d′.

Plain numpy; ties between scores are counted as scikit-learn counts them.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from .errors import InputError


class TaggingScores(NamedTuple):
    """Scores of a multi-label classifier; means run over the classes that have a value.

    Attributes:
        mean_average_precision: mAP, in [0, 1].
        mean_auc: mean area under the ROC curve, in [0, 1].
        d_prime: √2 times the normal quantile of `mean_auc`.
        average_precision: AP of each class `(C,)`; NaN where no clip has the class.
        auc: AUC of each class `(C,)`; NaN where all clips have it, or none.
    """

    mean_average_precision: float
    mean_auc: float
    d_prime: float
    average_precision: np.ndarray
    auc: np.ndarray


def tagging_scores(targets: np.ndarray, scores: np.ndarray) -> TaggingScores:
    """Score predictions against labels.

    Args:
        targets: `(n_clips, C)`, true or nonzero where a clip has the class.
        scores: `(n_clips, C)` finite, larger for more likely.

    Returns:
        See `TaggingScores`; a mean over no class is NaN.

    Raises:
        InputError: the shapes differ, are not 2-d, or a score is not finite.
    """
    targets, scores = np.asarray(targets) != 0, np.asarray(scores, dtype=np.float64)
    if targets.ndim != 2 or targets.shape != scores.shape:
        raise InputError(
            f"targets {targets.shape} and scores {scores.shape}: expected two arrays of (n_clips, classes)"
        )
    if not np.isfinite(scores).all():
        raise InputError("scores: hold NaN or infinity")
    classes = range(targets.shape[1])
    precisions = np.array([average_precision(targets[:, c], scores[:, c]) for c in classes])
    aucs = np.array([roc_auc(targets[:, c], scores[:, c]) for c in classes])
    mean_auc = _mean(aucs)
    return TaggingScores(_mean(precisions), mean_auc, d_prime(mean_auc), precisions, aucs)


def average_precision(target: np.ndarray, score: np.ndarray) -> float:
    """Return the area under the precision-recall steps of one class, NaN without positives.

    Args:
        target: `(n,)` bool.
        score: `(n,)`.

    Source: agrees with sklearn.metrics.average_precision_score.
    """
    positives = int(target.sum())
    if not positives:
        return math.nan
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(target[order])
    ends = _run_ends(score[order])
    precision = hits[ends] / (ends + 1)
    recall = hits[ends] / positives
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def roc_auc(target: np.ndarray, score: np.ndarray) -> float:
    """Return the chance that a positive scores above a negative, ties counted half; NaN without either.

    Args:
        target: `(n,)` bool.
        score: `(n,)`.

    Source: the Mann-Whitney statistic; agrees with sklearn.metrics.roc_auc_score.
    """
    positives = int(target.sum())
    negatives = len(target) - positives
    if not positives or not negatives:
        return math.nan
    order = np.argsort(score, kind="stable")
    ends = _run_ends(score[order])
    starts = np.concatenate([[0], ends[:-1] + 1])
    ranks = np.repeat((starts + ends) / 2 + 1, ends - starts + 1)  # tied scores share their mean rank
    above = ranks[target[order]].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def d_prime(auc: float) -> float:
    """Return √2 · Φ⁻¹(auc): the distance of two unit normals with that AUC; ±inf at the ends, NaN of NaN."""
    if math.isnan(auc):
        return math.nan
    if auc <= 0.0 or auc >= 1.0:
        return math.copysign(math.inf, auc - 0.5)
    return math.sqrt(2.0) * NormalDist().inv_cdf(auc)


def _run_ends(ordered: np.ndarray) -> np.ndarray:
    """Return the last index of each run of equal values."""
    return np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)


def _mean(values: np.ndarray) -> float:
    valid = values[~np.isnan(values)]
    return float(valid.mean()) if len(valid) else math.nan
