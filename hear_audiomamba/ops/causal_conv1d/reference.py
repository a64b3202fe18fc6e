"""The short depthwise convolution before a scan, tap by tap in plain PyTorch: the reference, any device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def unsupported(u: Tensor, d_state: int) -> str | None:
    """Say why this backend cannot take a call; plain PyTorch takes every one."""
    return None


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str | None,
    reverse: bool,
    initial_state: Tensor | None,
) -> Tensor:
    """Convolve by shifted sums; arguments as `ops.causal_conv1d`.

    Returns:
        y (batch, L, D) in x's dtype.
    """
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    length = x.shape[1]
    past = weight.shape[1] - 1
    padded = with_past(x.to(dtype), past, reverse, initial_state)
    taps = weight.to(dtype)
    y = torch.zeros_like(padded[:, :length])
    for tap in range(past + 1):
        start = past - tap if reverse else tap
        y = y + taps[:, tap] * padded[:, start : start + length]
    if bias is not None:
        y = y + bias.to(dtype)
    if activation == "silu":
        y = F.silu(y)
    return y.to(x.dtype)


def with_past(x: Tensor, past: int, reverse: bool, initial_state: Tensor | None) -> Tensor:
    """Put the inputs before a sequence beside it: in front, or behind for a reverse walk.

    Args:
        x: (batch, L, D).
        past: how many inputs before the first token.
        reverse: the walk starts at the last token.
        initial_state: those inputs (batch, D, past), oldest first; None is zero.

    Returns:
        (batch, L + past, D) in token order.
    """
    if initial_state is None:
        before = x.new_zeros(x.shape[0], past, x.shape[2])
    else:
        before = initial_state.to(x.dtype).transpose(1, 2)
    return torch.cat([x, before.flip(1)] if reverse else [before, x], dim=1)
