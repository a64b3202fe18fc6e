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
) -> tuple[Tensor, Tensor]:
    """Convolve by shifted sums; arguments as `ops.causal_conv1d`.

    Returns:
        y (batch, L, D) in x's dtype, and the last inputs (batch, D, W-1).
    """
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    batch, length, channels = x.shape
    past = weight.shape[1] - 1
    if initial_state is None:
        initial_state = x.new_zeros(batch, channels, past)
    before = initial_state.to(x.dtype).transpose(1, 2)
    padded = torch.cat([x, before.flip(1)] if reverse else [before, x], dim=1)
    taps = weight.to(dtype)
    y = torch.zeros(batch, length, channels, dtype=dtype, device=x.device)
    for tap in range(past + 1):
        start = past - tap if reverse else tap
        y = y + taps[:, tap] * padded[:, start : start + length].to(dtype)
    if bias is not None:
        y = y + bias.to(dtype)
    if activation == "silu":
        y = F.silu(y)
    last = padded[:, :past].flip(1) if reverse else padded[:, length:]
    return y.to(x.dtype), last.transpose(1, 2)
