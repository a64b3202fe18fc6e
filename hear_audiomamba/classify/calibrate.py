"""Calibrated probabilities, and the probability from which to believe a class."""

from __future__ import annotations

import numpy as np

from ..io.labels import Kind
from .head import Calibration, Floats

STEPS = 50
# A slope near 0 or below would turn the order of the scores around on the strength of a few rows.
LEAST_SLOPE, MOST_SLOPE = 0.05, 20.0
FEWEST_POSITIVES = 3


def fit_calibration(logits: Floats, targets: Floats, kind: Kind) -> Calibration:
    """Fit a calibration to logits of rows that the classifier was not fitted on.

    Args:
        logits: `(n, C)`.
        targets: `(n, C)` of zeros and ones.
        kind: of the task.

    Returns:
        One temperature for a single-label task, else slope and offset of each class. A class with fewer
        than three rows is left as it is.

    Source: temperature scaling of Guo et al. 2017; Platt 1999, with his targets that allow for small samples.
    """
    n_classes = logits.shape[1]
    if kind == "single":
        slope = _temperature(logits.astype(np.float64), targets)
        return Calibration(np.full(n_classes, slope, np.float32), np.zeros(n_classes, np.float32))
    calibration = Calibration.none(n_classes)
    for index in range(n_classes):
        own = targets[:, index] > 0
        if min(own.sum(), (~own).sum()) >= FEWEST_POSITIVES:
            pair = _platt(logits[:, index].astype(np.float64), own)
            calibration.slope[index], calibration.offset[index] = pair
    return calibration


def _temperature(logits: Floats, targets: Floats) -> float:
    """Find the slope with the least loss by golden section; the loss has one minimum.

    Each label counts as not quite certain, as in Platt's targets: n rows that are all right do not say that the
    next one will be.
    """
    n_rows, n_classes = logits.shape
    logits = logits - logits.max(axis=1, keepdims=True)
    goal = (n_rows * targets + 1) / (n_rows + n_classes)
    right = (logits * goal).sum(axis=1)

    def loss(slope: float) -> float:
        return float((np.log(np.exp(slope * logits).sum(axis=1)) - slope * right).mean())

    low, high = np.log(LEAST_SLOPE), np.log(MOST_SLOPE)
    ratio = (np.sqrt(5) - 1) / 2
    for _ in range(STEPS):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        if loss(float(np.exp(a))) < loss(float(np.exp(b))):
            high = b
        else:
            low = a
    return float(np.exp((low + high) / 2))


def _platt(logits: Floats, own: Floats) -> tuple[float, float]:
    """Fit slope and offset of one class by Newton's method, halving steps that lead upwards."""
    n_own, n_other = float(own.sum()), float((~own).sum())
    goal = np.where(own, (n_own + 1) / (n_own + 2), 1 / (n_other + 2))

    def loss(slope: float, offset: float) -> float:
        z = slope * logits + offset
        return float((np.logaddexp(0, z) - goal * z).sum())

    slope, offset = 1.0, 0.0
    value = loss(slope, offset)
    for _ in range(STEPS):
        z = slope * logits + offset
        chance = 0.5 + 0.5 * np.tanh(0.5 * z)
        error, bend = chance - goal, chance * (1 - chance) + 1e-12
        gradient = np.array([error @ logits, error.sum()])
        cross = float(bend @ logits)
        matrix = np.array([[bend @ logits**2 + 1e-9, cross], [cross, bend.sum() + 1e-9]])
        step = np.linalg.solve(matrix, gradient)
        part = 1.0
        while part > 1e-6 and loss(slope - part * step[0], offset - part * step[1]) > value:
            part /= 2
        slope, offset = slope - part * step[0], offset - part * step[1]
        before, value = value, loss(slope, offset)
        if before - value <= 1e-9 * max(1.0, abs(value)):
            break
    if LEAST_SLOPE <= slope <= MOST_SLOPE:
        return slope, offset
    slope = float(np.clip(slope, LEAST_SLOPE, MOST_SLOPE))
    # With the slope held, the offset is where the probabilities add up to the positives.
    low, high = -100.0, 100.0
    for _ in range(60):
        offset = (low + high) / 2
        total = (0.5 + 0.5 * np.tanh(0.5 * (slope * logits + offset))).sum()
        low, high = (offset, high) if total < goal.sum() else (low, offset)
    return slope, offset


def choose_thresholds(probabilities: Floats, targets: Floats, kind: Kind, precision: float | None) -> Floats:
    """Choose the probability from which each class counts as there.

    Args:
        probabilities: `(n, C)` calibrated, of rows that the classifier was not fitted on.
        targets: `(n, C)` of zeros and ones.
        kind: of the task. In a single-label task only each row's most probable class is looked at.
        precision: share of right ones that is wanted among those found, 0 to 1; None takes the threshold
            with the best F1, and 0 (the most probable class always counts) in a single-label task.

    Returns:
        `(C,)` float32. Where the precision is never reached, the threshold that comes nearest to it.
    """
    n_classes = probabilities.shape[1]
    if kind == "single" and precision is None:
        return np.zeros(n_classes, np.float32)
    thresholds = np.full(n_classes, 0.5, np.float32)
    likeliest = probabilities.argmax(axis=1)
    for index in range(n_classes):
        rows = likeliest == index if kind == "single" else np.ones(len(targets), bool)
        chance, own = probabilities[rows, index], targets[rows, index] > 0
        if own.any():
            thresholds[index] = _threshold(chance, own, int((targets[:, index] > 0).sum()), precision)
    return thresholds


def _threshold(chance: Floats, own: Floats, n_own: int, precision: float | None) -> float:
    order = np.argsort(-chance, kind="stable")
    chance, hits = chance[order], np.cumsum(own[order])
    # Rows of equal probability fall on the same side.
    ends = np.flatnonzero(np.append(chance[1:] < chance[:-1], True))
    share = hits[ends] / (ends + 1)
    if precision is None:
        best = int(np.argmax(2 * hits[ends] / (ends + 1 + n_own)))
    else:
        reached = np.flatnonzero(share >= precision)
        best = int(reached[-1]) if len(reached) else int(np.argmax(share))
    last = ends[best]
    # Halfway to the next row below: what lies between is as near to one as to the other.
    below = chance[last + 1] if last + 1 < len(chance) else chance[last] * 0.5
    return float((chance[last] + below) / 2)
