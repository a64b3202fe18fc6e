"""What a run reports: scores of the test splits, their aggregate over folds, and what became of each grid point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .data import SplitData
from .judge import Judge
from .mlp import Dropout, MLPStack
from .protocol import Point
from .train import Trained


def tested(trained: Trained, point: Point, test: SplitData, judge: Judge) -> dict[str, float]:
    """Return the scores of a trained model's best checkpoint on a test split, in float32.

    Args:
        trained: with the weights of its best check.
        point: its grid point.
        test: rows of the test split.
        judge: of the task.
    """
    assert trained.state is not None
    model = MLPStack(
        [trained.state],
        [point.lr],
        hidden_layers=point.hidden_layers,
        dropout=Dropout([], 0.0),
        drop_probability=0.0,
        multilabel=judge.multilabel,
        device=test.embeddings.device,
    )
    with torch.inference_mode():
        scores = judge.test(model.logits(test.embeddings)[0], test, trained.postprocessing)
    return {**scores, "validation_score": trained.score, "epoch": trained.epoch}


def grid_rows(points: Sequence[Point], trained: Sequence[Trained]) -> list[dict[str, Any]]:
    """Return how the training of each grid point went."""
    return [
        {
            "point": point.to_dict(),
            "validation_score": result.score,
            "epoch": result.epoch,
            "epochs": result.epochs,
            "ended_by_nan": result.ended_by_nan,
        }
        for point, result in zip(points, trained, strict=True)
    ]


def aggregate_folds(results: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean and standard deviation over folds of every score, as `<score>_mean` and `<score>_std`."""
    out: dict[str, float] = {}
    for key in results[0]:
        values = np.array([r[key] for r in results], dtype=np.float64)
        known = values[~np.isnan(values)]
        out[f"{key}_mean"] = float(known.mean()) if len(known) else float("nan")
        out[f"{key}_std"] = float(known.std(ddof=1)) if len(known) > 1 else float("nan")
    return out
