"""A fitted classifier as plain numbers: embeddings in, calibrated probabilities out, with numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..io.labels import Kind

Floats = NDArray[Any]
# Keeps intermediate products small whatever the number of rows.
ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Layer:
    """One linear map: `weight` (in, out) and `bias` (out,), float32."""

    weight: Floats
    bias: Floats


@dataclass(frozen=True)
class Calibration:
    """Turns logits into logits that give calibrated probabilities: `slope · logit + offset`, each `(C,)`.

    In a single-label task all slopes are one number, the inverse temperature, and the offsets are 0.
    """

    slope: Floats
    offset: Floats

    @classmethod
    def none(cls, n_classes: int) -> Calibration:
        """Return the calibration that changes nothing."""
        return cls(np.ones(n_classes, np.float32), np.zeros(n_classes, np.float32))


@dataclass(frozen=True)
class Head:
    """A classifier over embeddings.

    Attributes:
        kind: "single" (softmax over classes), "multi" or "events" (each class by itself).
        classes: C names, in the order of all outputs.
        mean, scale: `(K,)` subtracted from an embedding, and divided by.
        layers: linear maps with ReLU between them; the last gives the logits.
        calibration: of the logits.
        thresholds: `(C,)` probability from which a class counts as there.
    """

    kind: Kind
    classes: tuple[str, ...]
    mean: Floats
    scale: Floats
    layers: tuple[Layer, ...]
    calibration: Calibration
    thresholds: Floats

    @property
    def embedding_size(self) -> int:
        """K, the width of the embeddings it takes."""
        return len(self.mean)

    def logits(self, embeddings: Floats) -> Floats:
        """Return logits before calibration.

        Args:
            embeddings: `(n, K)`.

        Returns:
            `(n, C)` float32.

        Raises:
            InputError: the embeddings have another shape or width.
        """
        embeddings = np.asarray(embeddings)
        if embeddings.ndim != 2 or embeddings.shape[1] != self.embedding_size:
            wanted = f"(n, {self.embedding_size})"
            raise InputError(f"embeddings: shape {embeddings.shape}, this classifier takes {wanted}")
        logits = np.empty((len(embeddings), len(self.classes)), np.float32)
        for at in range(0, len(embeddings), ROWS_AT_ONCE):
            rows = (embeddings[at : at + ROWS_AT_ONCE].astype(np.float32) - self.mean) / self.scale
            for index, layer in enumerate(self.layers):
                rows = (np.maximum(rows, 0) if index else rows) @ layer.weight + layer.bias
            logits[at : at + ROWS_AT_ONCE] = rows
        return logits

    def probabilities(self, embeddings: Floats) -> Floats:
        """Return calibrated probabilities, `(n, C)` float32; those of a single-label task add up to 1."""
        return to_probabilities(self.logits(embeddings), self.kind, self.calibration)

    def decide(self, probabilities: Floats) -> list[tuple[str, ...]]:
        """Return the classes of each row at or over their threshold; of a single-label task the most probable only."""
        return decide(probabilities, self.kind, self.classes, self.thresholds)

    def with_decisions(self, calibration: Calibration, thresholds: Floats) -> Head:
        """Return the same classifier with another calibration and other thresholds."""
        return replace(self, calibration=calibration, thresholds=thresholds.astype(np.float32))


def to_probabilities(logits: Floats, kind: Kind, calibration: Calibration) -> Floats:
    """Return probabilities `(n, C)` float32 of logits `(n, C)`."""
    logits = logits * calibration.slope + calibration.offset
    if kind == "single":
        logits = logits - logits.max(axis=1, keepdims=True)
        powers = np.exp(logits)
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
    # By tanh, which does not overflow.
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * logits), np.float32)


def decide(
    probabilities: Floats, kind: Kind, classes: Sequence[str], thresholds: Floats
) -> list[tuple[str, ...]]:
    """Return the classes of each row of probabilities `(n, C)`; none where all stay below their threshold."""
    there = probabilities >= thresholds
    if kind == "single":
        there &= np.arange(len(classes)) == probabilities.argmax(axis=1)[:, None]
    return [tuple(name for name, over in zip(classes, row) if over) for row in there]
