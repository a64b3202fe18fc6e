"""Logistic regression over embeddings, for several strengths of its penalty at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from ..io.labels import Kind
from .head import Calibration, Floats, Head, Layer
from .solver import solve

ClassWeight = Literal["balanced"] | None
# How closely the rows are fitted: see `fit_logistic`. Cross-validation chooses.
STRENGTHS = (0.1, 1.0, 10.0, 100.0)
# Logit of a class that a training set does not hold at all.
ABSENT = -30.0


def fit_logistic(
    embeddings: Floats,
    targets: Floats,
    kind: Kind,
    classes: Sequence[str],
    strengths: Sequence[float] = STRENGTHS,
    class_weight: ClassWeight = None,
    row_weights: Floats | None = None,
) -> list[Head]:
    """Fit logistic regressions: over all classes for a single-label task, else one for each class.

    Args:
        embeddings: `(n, K)`.
        targets: `(n, C)` of zeros and ones.
        kind: of the task.
        classes: C names.
        strengths: S numbers; `strength / K` is what scikit-learn calls C, for embeddings divided by their
            standard deviation. Larger fits closer.
        class_weight: "balanced" counts every class alike, however many rows it has.
        row_weights: `(n,)` how much each row counts; by default 1.

    Returns:
        S classifiers, not yet calibrated. A class without a row gets a very low probability.
    """
    mean, scale = moments(embeddings)
    n_rows, width, n_classes = *embeddings.shape, len(classes)
    share = targets.mean(axis=0)
    usable = np.flatnonzero(share > 0 if kind == "single" else (share > 0) & (share < 1))
    weight = np.zeros((len(strengths), width, n_classes), np.float32)
    bias = np.full((len(strengths), n_classes), ABSENT, np.float32)
    bias[:, share == 1] = -ABSENT
    if len(usable) > (kind == "single"):
        rows = torch.from_numpy((embeddings.astype(np.float32) - mean) / scale)
        wanted = torch.from_numpy(np.ascontiguousarray(targets[:, usable], np.float32))
        penalties = [width / (strength * n_rows) for strength in strengths]
        weights = torch.from_numpy(_weights(targets[:, usable], kind, class_weight, row_weights))
        with torch.inference_mode():
            found, offset = solve(rows, wanted, weights, penalties, softmax=kind == "single")
        weight[:, :, usable], bias[:, usable] = found.numpy(), offset.numpy()
    none, half = Calibration.none(n_classes), np.full(n_classes, 0.5, np.float32)
    return [Head(kind, tuple(classes), mean, scale, (Layer(w, b),), none, half) for w, b in zip(weight, bias)]


def moments(embeddings: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of embeddings, `(K,)` float32 each; constant columns get 1."""
    mean = embeddings.mean(axis=0, dtype=np.float64)
    scale = embeddings.std(axis=0, dtype=np.float64)
    # What is left of a constant column is rounding.
    constant = scale <= 1e-6 * np.maximum(np.abs(mean), 1e-30)
    return mean.astype(np.float32), np.where(constant, 1.0, scale).astype(np.float32)


def _weights(targets: Floats, kind: Kind, class_weight: ClassWeight, row_weights: Floats | None) -> Floats:
    """Return how much each row counts for each class, `(n, C)` or `(n, 1)`."""
    own = np.ones(len(targets)) if row_weights is None else row_weights
    if class_weight is None:
        return own[:, None].astype(np.float32)
    present = (targets * own[:, None]).sum(axis=0)
    total = own.sum()
    if kind == "single":
        factor = (targets * (total / (len(present) * present))).sum(axis=1, keepdims=True)
    else:
        factor = np.where(targets > 0, total / (2 * present), total / (2 * (total - present)))
    return np.asarray(own[:, None] * factor, np.float32)
