"""How good a fine-tuned model is: accuracy, or mean average precision of several labels a clip."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..data.labelled import Kind


def score_name(kind: Kind) -> str:
    """Return what `score` measures."""
    return "accuracy" if kind == "single" else "map"


def score(logits: Tensor, labels: Tensor, kind: Kind) -> float:
    """Return the score of some clips, higher is better.

    Args:
        logits: `(n, classes)`.
        labels: `(n, classes)` of zeros and ones.
        kind: "single": share of clips whose most probable class is right. "multi": mean over classes that occur of
            the average precision.
    """
    if kind == "single":
        return float((logits.argmax(dim=1) == labels.argmax(dim=1)).double().mean())
    from sklearn.metrics import average_precision_score

    occurs = labels.bool().any(dim=0)
    if not occurs.any():
        return float("nan")
    guesses, truth = torch.sigmoid(logits[:, occurs]).double().numpy(), labels[:, occurs].numpy()
    return float(np.mean(average_precision_score(truth, guesses, average=None)))
