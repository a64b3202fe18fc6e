"""A stack of MLPs of one shape: initialisation, training steps, predictions, and leaving the stack."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam

from ...errors import DataError
from .products import input_gradient, linear, weight_gradient
from .protocol import Point

MOMENTUM, EPSILON = 0.1, 1e-5  # of torch.nn.BatchNorm1d
BETAS, ADAM_EPSILON = (0.9, 0.999), 1e-8  # of torch.optim.Adam

State = dict[str, Tensor]
"""One model: `hidden.<i>.weight/bias/scale/shift/mean/variance`, `projection.weight/bias`."""


def initial_state(point: Point, n_features: int, n_labels: int, seed: int) -> State:
    """Draw the weights of one MLP.

    Args:
        point: its grid point.
        n_features: size of an embedding.
        n_labels: number of classes.
        seed: of a generator of its own.

    Returns:
        Its parameters and running statistics, float32 on the CPU.

    Source: `FullyConnectedPrediction` of the kit: Xavier weights with the gain of the activation before, biases as
        torch's `Linear` draws them.
    """
    generator = torch.Generator().manual_seed(seed)
    draw = getattr(torch.nn.init, point.initialization)
    state: State = {}
    width, gain = n_features, 1.0

    def layer(name: str, out: int) -> None:
        bound = 1 / math.sqrt(width)
        state[f"{name}.bias"] = torch.empty(out).uniform_(-bound, bound, generator=generator)
        state[f"{name}.weight"] = draw(torch.empty(out, width), gain=gain, generator=generator)

    for i in range(point.hidden_layers):
        layer(f"hidden.{i}", point.hidden_dim)
        state[f"hidden.{i}.scale"] = torch.ones(point.hidden_dim)
        state[f"hidden.{i}.shift"] = torch.zeros(point.hidden_dim)
        state[f"hidden.{i}.mean"] = torch.zeros(point.hidden_dim)
        state[f"hidden.{i}.variance"] = torch.ones(point.hidden_dim)
        width, gain = point.hidden_dim, torch.nn.init.calculate_gain("relu")
    layer("projection", n_labels)
    return state


class Dropout:
    """Draws which hidden units are kept, each model from its own stream.

    Args:
        seeds: one a model.
        probability: of dropping a unit, to 1/65536.
    """

    def __init__(self, seeds: Sequence[int], probability: float) -> None:
        self.streams = [np.random.SFC64(seed) for seed in seeds]
        self.threshold = round(probability * 65536)

    def kept(self, rows: int, width: int, device: torch.device) -> Tensor:
        """Return a boolean mask (rows, S·width)."""
        masks = np.empty((rows, len(self.streams), width), dtype=bool)
        count = rows * width
        for i, stream in enumerate(self.streams):
            bits = stream.random_raw(-(-count // 4)).view(np.uint16)[:count]
            np.greater_equal(bits.reshape(rows, width), self.threshold, out=masks[:, i])
        return torch.from_numpy(masks.reshape(rows, -1)).to(device, non_blocking=True)

    def keep_models(self, kept: Sequence[int]) -> None:
        """Go on with these models only."""
        self.streams = [self.streams[i] for i in kept]


class MLPStack:
    """Models of the same depth and width, trained on the same rows.

    Args:
        states: one a model, as `initial_state` returns.
        learning_rates: one a model.
        hidden_layers: depth of all of them.
        dropout: where the masks come from.
        drop_probability: of a hidden unit.
        multilabel: binary cross-entropy over classes instead of softmax cross-entropy.
        device: where to train.
        dtype: float32; or bfloat16 for activations and the factors of matrix products. Parameters, running
            statistics, moments, losses and the last layer of `logits` are float32 all the same.
    """

    def __init__(
        self,
        states: Sequence[State],
        learning_rates: Sequence[float],
        *,
        hidden_layers: int,
        dropout: Dropout,
        drop_probability: float,
        multilabel: bool,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.dtype = dtype
        self.values = {k: torch.stack([s[k] for s in states]).to(device) for k in states[0]}
        trained = [k for k in self.values if not k.endswith((".mean", ".variance"))]
        self.first_moments = {k: torch.zeros_like(self.values[k]) for k in trained}
        self.second_moments = {k: torch.zeros_like(self.values[k]) for k in trained}
        self.steps = {k: torch.zeros(len(states), device=device) for k in trained}
        self.learning_rates = list(learning_rates)
        self.hidden_layers = hidden_layers
        self.dropout = dropout
        self.inverse_keep = 1.0 / (1.0 - drop_probability) if drop_probability < 1 else 0.0
        self.drop_probability = drop_probability
        self.multilabel = multilabel
        self._arrange()

    def __len__(self) -> int:
        return len(self.learning_rates)

    def train_batch(self, inputs: Tensor, targets: Tensor) -> None:
        """Take one step of Adam on the mean loss of a batch.

        Args:
            inputs: embeddings, (n, d), in the stack's dtype.
            targets: (n, K) float32.

        Raises:
            DataError: the batch has one row only, whose variance batch normalisation needs.
        """
        if len(inputs) == 1 and self.hidden_layers:
            raise DataError(
                "a batch of one row cannot be normalised: the training rows are one more than whole batches"
            )
        gradients = self._gradients(inputs, targets)
        for i, (rate, (values, first, second, steps)) in enumerate(
            zip(self.learning_rates, self._of_model, strict=True)
        ):
            adam(
                values,
                [gradients[k][i] for k in self.first_moments],
                first,
                second,
                [],
                steps,
                fused=True,
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=rate,
                weight_decay=0.0,
                eps=ADAM_EPSILON,
                maximize=False,
            )
        for key, factor in self._rounded.items():
            factor.copy_(self.values[key])

    def _arrange(self) -> None:
        """Prepare what every step needs: each model's own slices, and the rounded copies of weights and biases."""
        parts = (self.values, self.first_moments, self.second_moments, self.steps)
        self._of_model = [
            tuple([part[k][i] for k in self.first_moments] for part in parts) for i in range(len(self))
        ]
        factors = [k for k in self.values if k.endswith((".weight", ".bias"))]
        low = self.dtype != torch.float32
        self._rounded = {k: self.values[k].to(self.dtype) for k in factors} if low else {}
        self._factors = self._rounded or {k: self.values[k] for k in factors}

    def _gradients(self, inputs: Tensor, targets: Tensor) -> State:
        values, factors, stack = self.values, self._factors, len(self)
        layers: list[tuple[Tensor, ...]] = []
        active = inputs
        for i in range(self.hidden_layers):
            name = f"hidden.{i}"
            before = linear(active, factors[f"{name}.weight"], factors[f"{name}.bias"])
            # Scaling kept units by 1/(1-p) is put into the normalisation's own scale and shift.
            scale = values[f"{name}.scale"].view(-1) * self.inverse_keep
            shift = values[f"{name}.shift"].view(-1) * self.inverse_keep
            mean, variance = values[f"{name}.mean"].view(-1), values[f"{name}.variance"].view(-1)
            normal, batch_mean, inverse_deviation = torch.native_batch_norm(
                before, scale, shift, mean, variance, True, MOMENTUM, EPSILON
            )
            if self.drop_probability:
                kept = self.dropout.kept(len(inputs), normal.shape[1] // stack, inputs.device)
                # Factors of one dtype: torch multiplies by truth values several times more slowly.
                normal.mul_(kept.to(normal.dtype))
            normal.relu_()
            layers.append((active, before, normal, scale, batch_mean, inverse_deviation))
            active = normal
        logits = linear(active, factors["projection.weight"], factors["projection.bias"])
        flow = self._logit_gradient(logits, targets)
        gradients: State = {}
        gradients["projection.bias"] = flow.sum(0).view(stack, -1)
        flow = flow.to(self.dtype)
        gradients["projection.weight"] = weight_gradient(flow, active, factors["projection.weight"])
        last = "projection"
        for i in reversed(range(self.hidden_layers)):
            name = f"hidden.{i}"
            given, before, normal, scale, batch_mean, inverse_deviation = layers[i]
            flow = input_gradient(flow, factors[f"{last}.weight"])
            # A unit passes its gradient exactly where its output is positive: active, and not dropped.
            flow = torch.ops.aten.threshold_backward(flow, normal, 0)
            mean, variance = values[f"{name}.mean"].view(-1), values[f"{name}.variance"].view(-1)
            flow, scale_gradient, shift_gradient = torch.ops.aten.native_batch_norm_backward(
                flow, before, scale, mean, variance, batch_mean, inverse_deviation, True, EPSILON, [True] * 3
            )
            gradients[f"{name}.scale"] = scale_gradient.mul_(self.inverse_keep).view(stack, -1)
            gradients[f"{name}.shift"] = shift_gradient.mul_(self.inverse_keep).view(stack, -1)
            gradients[f"{name}.weight"] = weight_gradient(flow, given, factors[f"{name}.weight"])
            gradients[f"{name}.bias"] = flow.sum(0, dtype=torch.float32).view(stack, -1)
            last = name
        return gradients

    def _logit_gradient(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Gradient of each model's mean loss with respect to its logits, (n, S·K) float32."""
        rows, classes = targets.shape
        logits = logits.view(rows, len(self), classes).float()
        if self.multilabel:
            flow = (logits.sigmoid_() - targets[:, None]).div_(rows * classes)
        else:
            flow = (logits.softmax(2) - targets[:, None]).div_(rows)
        return flow.view(rows, -1)

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the models' outputs before the activation, with running statistics and nothing dropped.

        Args:
            inputs: embeddings, (n, d), in the stack's dtype.

        Returns:
            (S, n, K) float32.
        """
        values, factors, active = self.values, self._factors, inputs
        for i in range(self.hidden_layers):
            name = f"hidden.{i}"
            active = linear(active, factors[f"{name}.weight"], factors[f"{name}.bias"])
            scale, shift, mean, variance = (
                values[f"{name}.{k}"].view(-1) for k in ("scale", "shift", "mean", "variance")
            )
            normal = torch.native_batch_norm(active, scale, shift, mean, variance, False, MOMENTUM, EPSILON)
            active = normal[0].relu_()
        # Scores order the rows: logits of 8 bits would tie.
        out = linear(active.float(), values["projection.weight"], values["projection.bias"])
        return out.view(len(inputs), len(self), -1).transpose(0, 1)

    def state(self, index: int) -> State:
        """Copy the parameters and running statistics of one model."""
        return {k: v[index].clone() for k, v in self.values.items()}

    def keep_models(self, kept: Sequence[int]) -> None:
        """Let all other models leave the stack."""
        for values in (self.values, self.first_moments, self.second_moments, self.steps):
            for key, value in values.items():
                values[key] = value[list(kept)]
        self.learning_rates = [self.learning_rates[i] for i in kept]
        self.dropout.keep_models(kept)
        self._arrange()
