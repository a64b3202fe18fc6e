"""Cross-validation of candidates: what each says about rows it has not seen, and the choices made from that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..io.labels import Kind
from .calibrate import choose_thresholds, fit_calibration
from .head import Calibration, Floats, Head, to_probabilities

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Fitter:
    """What is tried: gives one classifier a candidate setting.

    Attributes:
        fit: from embeddings `(n, K)`, targets `(n, C)` and a mask of rows to validate on while fitting,
            and which candidates are wanted, to their classifiers. The mask may be ignored.
        candidates: their settings, in words.
    """

    fit: Callable[[Floats, Floats, Mask, Sequence[int]], list[Head]]
    candidates: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """What was chosen from some rows: which candidate, and how to read its logits."""

    candidate: int
    calibration: Calibration
    thresholds: Floats


def unseen_logits(fitter: Fitter, embeddings: Floats, targets: Floats, fold: NDArray[np.int64]) -> Floats:
    """Return logits `(candidates, n, C)` of each row by classifiers fitted on the other folds.

    Rows of fold -1 are left out; their logits are NaN.
    """
    numbers = sorted({int(number) for number in fold if number >= 0})
    everything = range(len(fitter.candidates))
    logits = np.full((len(fitter.candidates), *targets.shape), np.nan, np.float32)
    for place, number in enumerate(numbers):
        held, used = fold == number, (fold >= 0) & (fold != number)
        valid = fold[used] == numbers[(place + 1) % len(numbers)]
        if valid.all():  # two folds: the other one serves for both
            valid = np.arange(len(valid)) % 4 == 0
        for index, head in enumerate(fitter.fit(embeddings[used], targets[used], valid, everything)):
            logits[index, held] = head.logits(embeddings[held])
    return logits


def losses(logits: Floats, targets: Floats, kind: Kind) -> Floats:
    """Return the loss of each row, `(..., n)`, from logits `(..., n, C)`."""
    # Capped: one row that a candidate is wrong and sure about must not decide between candidates.
    if kind == "single":
        top = logits.max(axis=-1, keepdims=True)
        total = top[..., 0] + np.log(np.exp(logits - top).sum(axis=-1))
        return np.asarray(np.minimum(total - (logits * targets).sum(axis=-1), 10.0))
    return np.asarray(np.minimum(np.logaddexp(0, logits) - logits * targets, 10.0).mean(axis=-1))


def choose(logits: Floats, targets: Floats, kind: Kind, precision: float | None) -> Choice:
    """Choose candidate, calibration and thresholds from unseen rows.

    Each candidate is calibrated before they are compared, since that is how it will be used.

    Args:
        logits: `(candidates, n, C)`.
        targets: `(n, C)`.
        kind: of the task.
        precision: see `choose_thresholds`.
    """
    tried = [fit_calibration(own, targets, kind) for own in logits]
    means = [float(losses(own * c.slope + c.offset, targets, kind).mean()) for own, c in zip(logits, tried)]
    best = int(np.argmin(means))
    probabilities = to_probabilities(logits[best], kind, tried[best])
    return Choice(best, tried[best], choose_thresholds(probabilities, targets, kind, precision))


def honest(
    logits: Floats, targets: Floats, fold: NDArray[np.int64], kind: Kind, precision: float | None
) -> tuple[Floats, Mask]:
    """Return probabilities `(n, C)` and decisions of rows by choices made without their fold.

    Args:
        logits: `(candidates, n, C)` of `unseen_logits`.
        targets: `(n, C)`.
        fold: `(n,)`; rows of fold -1 are left as NaN and False.
        kind: of the task.
        precision: see `choose_thresholds`.
    """
    probabilities = np.full(targets.shape, np.nan, np.float32)
    decided = np.zeros(targets.shape, bool)
    for number in sorted({int(number) for number in fold if number >= 0}):
        held, others = fold == number, (fold >= 0) & (fold != number)
        made = choose(logits[:, others], targets[others], kind, precision)
        probabilities[held] = to_probabilities(logits[made.candidate, held], kind, made.calibration)
        decided[held] = decisions(probabilities[held], kind, made.thresholds)
    return probabilities, decided


def decisions(probabilities: Floats, kind: Kind, thresholds: Floats) -> Mask:
    """Return which classes are found in each row, `(n, C)`."""
    there = probabilities >= thresholds
    if kind == "single":
        there &= np.arange(there.shape[1]) == probabilities.argmax(axis=1)[:, None]
    return np.asarray(there, bool)
