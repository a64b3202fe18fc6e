"""Matrix products of stacked linear layers: many models' layers as one operation.

Activations of a stack of S models lie side by side, (n, S·width), so that normalisation, dropout and ReLU treat the
stack as one wide layer; weights are (S, out, in). The input of the first layer is the same for all models and has no
stack axis: there the whole stack is one matrix product. All factors of a product have one dtype, float32 or bfloat16;
the sums are always float32, and in bfloat16 the result is rounded once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ... import ops


def linear(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply S linear layers.

    Args:
        inputs: (n, in) shared by all, or (n, S·in).
        weight: (S, out, in).
        bias: (S, out).

    Returns:
        (n, S·out).
    """
    stack, out, size = weight.shape
    if inputs.shape[1] == size:
        # ops.linear takes the faster of torch's libraries.
        return ops.linear(inputs, weight.reshape(stack * out, size)).add_(bias.reshape(-1))
    return _join(torch.bmm(_split(inputs, stack), weight.transpose(1, 2))).add_(bias.reshape(-1))


def weight_gradient(gradient: Tensor, inputs: Tensor, weight: Tensor) -> Tensor:
    """Gradient of `linear` with respect to its weight.

    Args:
        gradient: of the outputs, (n, S·out).
        inputs: those given to `linear`, (n, in) or (n, S·in).
        weight: (S, out, in), for its shape.

    Returns:
        (S, out, in) float32.
    """
    if inputs.shape[1] == weight.shape[2]:
        return ops.linear(gradient.t(), inputs.t()).view(weight.shape).float()
    return torch.bmm(_split(gradient, len(weight)).transpose(1, 2), _split(inputs, len(weight))).float()


def input_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    """Gradient of `linear` with respect to inputs that each model has for itself.

    Args:
        gradient: of the outputs, (n, S·out).
        weight: (S, out, in).

    Returns:
        (n, S·in).
    """
    if len(weight) == 1:
        return ops.linear(gradient, weight[0].t())
    return _join(torch.bmm(_split(gradient, len(weight)), weight))


def _split(side_by_side: Tensor, stack: int) -> Tensor:
    """(n, S·w) to (S, n, w), a view."""
    return side_by_side.view(len(side_by_side), stack, -1).transpose(0, 1)


def _join(stacked: Tensor) -> Tensor:
    """(S, n, w) to (n, S·w)."""
    return stacked.transpose(0, 1).reshape(stacked.shape[1], -1)
