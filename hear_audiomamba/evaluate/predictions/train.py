"""Training a stack of MLPs, each stopping by itself as the kit's early stopping would stop it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from .data import SplitData
from .mlp import Dropout, MLPStack, State
from .protocol import Point


@dataclass(frozen=True)
class Model:
    """One MLP to be trained: its grid point, its initial weights and the seed of its dropout."""

    point: Point
    state: State
    seed: int

    @property
    def shape(self) -> tuple[int, int, float, int]:
        """Models that agree in this can be trained in one stack."""
        return self.point.hidden_layers, self.point.hidden_dim, self.point.dropout, self.point.batch_size


@dataclass(frozen=True)
class Check:
    """What validation said: the monitored value, and which post-processing of events gave it."""

    score: float
    postprocessing: dict[str, float] = field(default_factory=dict)


@dataclass
class Trained:
    """How the training of one MLP went.

    Args:
        state: weights at the best check; None until the first.
        score: monitored value at the best check, as float32; -inf (or inf) when it was NaN.
        epoch: epoch of the best check, counted from 0.
        postprocessing: of the best check.
        epochs: how many epochs were trained.
        ended_by_nan: training ended because the monitored value was not finite.
        curve: (epoch, monitored value) of every check.
    """

    state: State | None = None
    score: float = math.nan
    epoch: int = -1
    postprocessing: dict[str, float] = field(default_factory=dict)
    epochs: int = 0
    ended_by_nan: bool = False
    curve: list[tuple[int, float]] = field(default_factory=list)


class Stopper:
    """The kit's early stopping and choice of checkpoint for one model.

    Both compare float32 values strictly, so of equal scores the first check wins; a value that is not finite ends
    the training at once, and as a first checkpoint it counts as the worst possible score.

    Args:
        point: its grid point, with the patience and how often it is checked.
        maximize: whether a higher monitored value is better.

    Source: pytorch-lightning 1.8.6 `EarlyStopping` (min_delta 0, check_finite) and `ModelCheckpoint` (top 1).
    """

    def __init__(self, point: Point, maximize: bool) -> None:
        self.point = point
        self.sign = 1.0 if maximize else -1.0
        self.best = -math.inf
        self.waited = 0
        self.result = Trained()

    def due(self, epoch: int) -> bool:
        """Whether the model is validated after this epoch."""
        return (epoch + 1) % self.point.check_val_every_n_epoch == 0

    def check(self, epoch: int, check: Check, state: Callable[[], State]) -> bool:
        """Take in a check; return whether training ends."""
        score = self.sign * float(np.float32(check.score))
        self.result.curve.append((epoch, self.sign * score))
        saved = -math.inf if math.isnan(score) else score
        if self.result.state is None or saved > self.sign * self.result.score:
            self.result.state = state()
            self.result.score, self.result.epoch = self.sign * saved, epoch
            self.result.postprocessing = dict(check.postprocessing)
        if not math.isfinite(score):
            self.result.ended_by_nan = True
            return True
        if score > self.best:
            self.best, self.waited = score, 0
            return False
        self.waited += 1
        return self.waited >= self.point.patience


def train_stack(
    models: Sequence[Model],
    train: SplitData,
    valid: SplitData,
    validate: Callable[[Tensor], Check],
    *,
    multilabel: bool,
    maximize: bool,
    dropout: Dropout | None = None,
    dtype: torch.dtype = torch.float32,
) -> list[Trained]:
    """Train models of one shape together until each has stopped.

    Args:
        models: of the same `shape`.
        train: training rows; they keep their order, batch after batch.
        valid: validation rows.
        validate: turns the logits (n, K) of the validation rows into the monitored value.
        multilabel: whether a row can have any number of labels.
        maximize: whether a higher monitored value is better.
        dropout: where the masks come from; by default a stream for each model's seed.
        dtype: of activations and of the factors of matrix products.

    Returns:
        One result a model, in the order given.
    """
    layers, _, probability, batch_size = models[0].shape
    stack = MLPStack(
        [m.state for m in models],
        [m.point.lr for m in models],
        hidden_layers=layers,
        dropout=dropout or Dropout([m.seed for m in models], probability),
        drop_probability=probability,
        multilabel=multilabel,
        device=train.embeddings.device,
        dtype=dtype,
    )
    stoppers = [Stopper(m.point, maximize) for m in models]
    running = list(stoppers)
    inputs = torch.split(train.embeddings.to(dtype), batch_size)
    batches = list(zip(inputs, torch.split(train.targets, batch_size), strict=True))
    checked = valid.embeddings.to(dtype)
    epoch = 0
    while running:
        for batch, targets in batches:
            stack.train_batch(batch, targets)
        ended = set()
        logits = stack.logits(checked) if any(s.due(epoch) for s in running) else None
        for i, stopper in enumerate(running):
            stopper.result.epochs = epoch + 1
            stopped = False
            if logits is not None and stopper.due(epoch):
                stopped = stopper.check(epoch, validate(logits[i]), partial(stack.state, i))
            if stopped or epoch + 1 >= stopper.point.max_epochs:
                ended.add(i)
        if ended:
            kept = [i for i in range(len(running)) if i not in ended]
            running = [running[i] for i in kept]
            stack.keep_models(kept)
        epoch += 1
    return [s.result for s in stoppers]


def best_first(results: Sequence[Trained], maximize: bool) -> list[int]:
    """Sort indices of results by validation score; of equal scores the earlier point comes first."""
    sign = -1.0 if maximize else 1.0
    return sorted(range(len(results)), key=lambda i: sign * results[i].score)
