"""The causal convolution by the CUDA kernels of the package causal-conv1d, where it is installed.

Its kernels take channel-last data as it is, through a transposed view.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..mamba_packages import import_function
from .reference import with_past

__all__ = ["causal_conv1d", "unsupported"]

_convolve: Callable[..., Any] = import_function("causal_conv1d", "causal_conv1d_fn", "causal-conv1d")


def unsupported(u: Tensor, d_state: int) -> str | None:
    """Say why this backend cannot take a call with `d_state` taps, or return None when it can."""
    if not u.is_cuda:
        return f"x is on {u.device}, the kernels need CUDA"
    if u.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"x is {u.dtype}, the kernels take float32, bfloat16 or float16"
    if not 2 <= d_state <= 4:
        return f"the convolution has {d_state} taps, the kernels take 2 to 4"
    if u.shape[2] % 8:
        return f"x has {u.shape[2]} channels, the channel-last kernels take multiples of 8"
    return None


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str | None,
    reverse: bool,
    initial_state: Tensor | None,
) -> Tensor:
    """Convolve by causal-conv1d; arguments and result as `reference.causal_conv1d`."""
    length = x.shape[1]
    # As plain inputs beside the sequence the state gets its gradient like any other input.
    if initial_state is not None:
        x = with_past(x, weight.shape[1] - 1, reverse, initial_state)
    x = x.flip(1) if reverse else x
    # Rows of a view may start anywhere; the kernels load 8 channels at a time.
    if x.stride(1) % 8 or x.stride(0) % 8 or x.stride(2) != 1:
        x = x.contiguous()
    bias = None if bias is None else bias.to(weight.dtype)
    y: Tensor = _convolve(x.transpose(1, 2), weight, bias, activation=activation).transpose(1, 2)[:, -length:]
    return y.flip(1) if reverse else y
