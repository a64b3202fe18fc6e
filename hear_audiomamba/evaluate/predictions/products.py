"""Matrix products of stacked linear layers: many models' layers as one operation.

Activations of a stack of S models lie side by side, (n, S·width), so that normalisation, dropout and ReLU treat the
stack as one wide layer; weights are (S, out, in). The input of the first layer is the same for all models and has no
stack axis: there the whole stack is one matrix product.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ... import ops


def matmul_transposed(a: Tensor, b: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a @ bᵀ in float32 for a (m, k) and b (n, k).

    Float32 takes the faster of torch's libraries, as `ops.linear` does.

    Args:
        a: (m, k).
        b: (n, k).
        dtype: of the factors; bfloat16 sums in float32 all the same, and rounds the result once.

    Returns:
        (m, n) float32.
    """
    if dtype != torch.float32:
        return (a.to(dtype) @ b.to(dtype).t()).float()
    return ops.linear(a, b)


def linear(inputs: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Apply S linear layers.

    Args:
        inputs: (n, in) shared by all, or (n, S·in).
        weight: (S, out, in).
        bias: (S, out).
        dtype: of the factors.

    Returns:
        (n, S·out).
    """
    stack, out, size = weight.shape
    if inputs.shape[1] == size:
        return matmul_transposed(inputs, weight.reshape(stack * out, size), dtype).add_(bias.reshape(-1))
    return _join(_bmm(_split(inputs, stack), weight.transpose(1, 2), dtype)).add_(bias.reshape(-1))


def weight_gradient(
    gradient: Tensor, inputs: Tensor, weight: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Gradient of `linear` with respect to its weight.

    Args:
        gradient: of the outputs, (n, S·out).
        inputs: those given to `linear`, (n, in) or (n, S·in).
        weight: (S, out, in), for its shape.
        dtype: of the factors.

    Returns:
        (S, out, in).
    """
    if inputs.shape[1] == weight.shape[2]:
        return matmul_transposed(gradient.t(), inputs.t(), dtype).view(weight.shape)
    return _bmm(_split(gradient, len(weight)).transpose(1, 2), _split(inputs, len(weight)), dtype)


def input_gradient(gradient: Tensor, weight: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Gradient of `linear` with respect to inputs that each model has for itself.

    Args:
        gradient: of the outputs, (n, S·out).
        weight: (S, out, in).
        dtype: of the factors.

    Returns:
        (n, S·in).
    """
    if len(weight) == 1:
        return matmul_transposed(gradient, weight[0].t(), dtype)
    return _join(_bmm(_split(gradient, len(weight)), weight, dtype))


def _bmm(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.bmm(a, b) if dtype == torch.float32 else torch.bmm(a.to(dtype), b.to(dtype)).float()


def _split(side_by_side: Tensor, stack: int) -> Tensor:
    """(n, S·w) to (S, n, w), a view."""
    return side_by_side.view(len(side_by_side), stack, -1).transpose(0, 1)


def _join(stacked: Tensor) -> Tensor:
    """(S, n, w) to (n, S·w)."""
    return stacked.transpose(0, 1).reshape(stacked.shape[1], -1)
