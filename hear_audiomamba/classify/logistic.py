"""Logistic regression over embeddings, for several strengths of its penalty."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ..errors import DataError
from ..io.labels import Kind
from .head import Calibration, Floats, Head, Layer

ClassWeight = Literal["balanced"] | None
# Inverse strengths of the L2 penalty on standardised embeddings, divided by their width: see `fit_logistic`.
STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
MAX_ITERATIONS = 1000
# Logit of a class that a training set does not hold at all.
ABSENT = -30.0


def fit_logistic(
    embeddings: Floats, targets: Floats, kind: Kind, classes: Sequence[str], strength: float,
    class_weight: ClassWeight = None,
) -> Head:  # fmt: skip
    """Fit a logistic regression: over all classes for a single-label task, else one for each class.

    Args:
        embeddings: `(n, K)`.
        targets: `(n, C)` of zeros and ones.
        kind: of the task.
        classes: C names.
        strength: inverse of the penalty, times K; larger fits closer.
        class_weight: "balanced" counts every class alike, however many rows it has.

    Returns:
        The classifier, not yet calibrated. A class without a row gets a very low probability.
    """
    mean, scale = moments(embeddings)
    rows = (embeddings - mean) / scale
    width, n_classes = rows.shape[1], len(classes)
    weight = np.zeros((width, n_classes), np.float32)
    bias = np.full(n_classes, ABSENT, np.float32)
    # The penalty of scikit-learn stands beside the sum of the losses.
    inverse = strength / width
    if kind == "single":
        labels = targets.argmax(axis=1)
        present = np.unique(labels)
        if len(present) == 1:
            bias[present] = 0.0
        else:
            model = _fitted(rows, labels, inverse, class_weight)
            weight[:, present], bias[present] = _columns(model)
    else:
        for index in range(n_classes):
            own = targets[:, index] > 0
            if own.all() or not own.any():
                bias[index] = -ABSENT if own.all() else ABSENT
                continue
            model = _fitted(rows, own, inverse, class_weight)
            weight[:, index], bias[index] = model.coef_[0], model.intercept_[0]
    return Head(
        kind, tuple(classes), mean, scale, (Layer(weight, bias),), Calibration.none(n_classes),
        np.full(n_classes, 0.5, np.float32),
    )  # fmt: skip


def moments(embeddings: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of embeddings, `(K,)` float32 each; constant columns get 1."""
    mean = embeddings.mean(axis=0, dtype=np.float64)
    scale = embeddings.std(axis=0, dtype=np.float64)
    # What is left of a constant column is rounding.
    constant = scale <= 1e-7 * np.maximum(np.abs(mean), 1e-30)
    return mean.astype(np.float32), np.where(constant, 1.0, scale).astype(np.float32)


def _fitted(rows: Floats, labels: Floats, inverse: float, class_weight: ClassWeight) -> Any:
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise DataError("fitting needs scikit-learn: pip install 'hear-audiomamba[classify]'") from None
    model = LogisticRegression(C=inverse, class_weight=class_weight, max_iter=MAX_ITERATIONS, tol=1e-4)
    with warnings.catch_warnings():
        # A fit that is cut off after so many steps is as good as converged, and is calibrated afterwards.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(rows, labels)


def _columns(model: Any) -> tuple[Floats, Floats]:
    """Return one column a class; of two classes scikit-learn keeps their difference only."""
    weight, bias = model.coef_.T, model.intercept_
    if weight.shape[1] > 1:
        return weight, bias
    return np.concatenate([-weight / 2, weight / 2], axis=1), np.concatenate([-bias / 2, bias / 2])
