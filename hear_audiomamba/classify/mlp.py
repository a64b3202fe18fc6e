"""The multilayer perceptron of the HEAR benchmark as a classifier: two of its grid points, trained side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..evaluate.predictions.data import SplitData
from ..evaluate.predictions.mlp import EPSILON, State, initial_state
from ..evaluate.predictions.protocol import Point, model_seed
from ..evaluate.predictions.train import Check, Model, train_stack
from ..io.labels import Kind
from .head import Calibration, Floats, Head, Layer
from .logistic import moments
from .trials import Fitter, Mask, losses

# Of the benchmark's grid: one hidden layer, at its two middle learning rates.
LEARNING_RATES = (1e-3, 3.2e-4)


def mlp_fitter(kind: Kind, classes: Sequence[str], seed: int) -> Fitter:
    """Return what is tried: an MLP for each learning rate, stopped by its loss on the rows held for that."""
    names = tuple(f"MLP of one hidden layer, learning rate {rate:g}" for rate in LEARNING_RATES)

    def fit(rows: Floats, targets: Floats, valid: Mask, wanted: Sequence[int]) -> list[Head]:
        return _fit(rows, targets, valid, wanted, kind, classes, seed)

    return Fitter(fit, names)


def _fit(
    embeddings: Floats, targets: Floats, valid: Mask, wanted: Sequence[int], kind: Kind, classes: Sequence[str],
    seed: int,
) -> list[Head]:  # fmt: skip
    mean, scale = moments(embeddings[~valid])
    rows = torch.from_numpy((embeddings.astype(np.float32) - mean) / scale)
    goals = torch.from_numpy(np.ascontiguousarray(targets, np.float32))
    held = torch.from_numpy(valid)
    # The benchmark's batches keep their order, in which labels come class by class; here they are mixed.
    order = np.random.default_rng(seed).permutation(int((~valid).sum()))
    train = SplitData(rows[~held][order], goals[~held][order])
    points = [_point(rate, len(order)) for rate in (LEARNING_RATES[index] for index in wanted)]
    models = [
        Model(point, initial_state(point, rows.shape[1], len(classes), own), own)
        for point, own in ((p, model_seed(seed, 0, index)) for p, index in zip(points, wanted))
    ]
    checked = goals[held].numpy()

    def validate(logits: torch.Tensor) -> Check:
        return Check(float(losses(logits.float().numpy(), checked, kind).mean()))

    with torch.inference_mode():
        trained = train_stack(
            models,
            train,
            SplitData(rows[held], goals[held]),
            validate,
            multilabel=kind != "single",
            maximize=False,
        )
    return [
        _head(one.state or model.state, mean, scale, kind, classes) for one, model in zip(trained, models)
    ]


def _point(rate: float, n_rows: int) -> Point:
    # A last batch of a single row could not be normalised.
    size = 1024 if n_rows % 1024 != 1 else 1023
    return Point(
        hidden_layers=1, hidden_dim=1024, dropout=0.1, lr=rate, patience=20, max_epochs=500,
        check_val_every_n_epoch=3, batch_size=size, initialization="xavier_uniform_",
    )  # fmt: skip


def _head(state: State, mean: Floats, scale: Floats, kind: Kind, classes: Sequence[str]) -> Head:
    """Fold the batch normalisation into the layer before it."""
    values = {key: tensor.cpu().numpy() for key, tensor in state.items()}
    factor = values["hidden.0.scale"] / np.sqrt(values["hidden.0.variance"] + EPSILON)
    hidden = Layer(
        np.ascontiguousarray((values["hidden.0.weight"] * factor[:, None]).T),
        (values["hidden.0.bias"] - values["hidden.0.mean"]) * factor + values["hidden.0.shift"],
    )
    last = Layer(np.ascontiguousarray(values["projection.weight"].T), values["projection.bias"])
    half = np.full(len(classes), 0.5, np.float32)
    return Head(kind, tuple(classes), mean, scale, (hidden, last), Calibration.none(len(classes)), half)
