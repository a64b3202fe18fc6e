"""The selective scan by the CUDA kernels of the package mamba-ssm, where it is installed.

Its kernels want (batch, D, L) with dense tokens, so every tensor is copied on the way in and out; what they
do not know, an initial state, goes to our own kernels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...errors import BackendError
from ..mamba_packages import import_function
from .arguments import Scan
from .reference import selective_scan_2d as _scan_2d_by

__all__ = ["selective_scan", "selective_scan_2d", "unsupported"]

_scan: Callable[..., Any] = import_function(
    "mamba_ssm.ops.selective_scan_interface", "selective_scan_fn", "mamba-ssm"
)

# The kernels' MAX_DSTATE.
MOST_STATES = 256


def unsupported(u: Tensor, d_state: int) -> str | None:
    """Say why this backend cannot take a call, or return None when it can."""
    if not u.is_cuda:
        return f"u is on {u.device}, the kernels need CUDA"
    if u.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"u is {u.dtype}, the kernels take float32, bfloat16 or float16"
    if d_state > MOST_STATES:
        return f"N is {d_state}, the kernels take up to {MOST_STATES}"
    return None


def selective_scan(call: Scan) -> tuple[Tensor, Tensor]:
    """Scan by mamba-ssm; results as of `reference.selective_scan`.

    Deviates: no gradient passes through the last state; asking for it raises a BackendError.
    """
    u, delta, A, B, C, D, z, delta_bias, initial_state = call.tensors
    if initial_state is not None:
        from .triton import selective_scan as own_scan

        return own_scan(call)

    def tokens_last(tensor: Tensor | None, order: tuple[int, ...] = (0, 2, 1)) -> Tensor | None:
        if tensor is None:
            return None
        tensor = tensor.flip(1) if call.reverse else tensor
        return tensor.to(u.dtype).permute(order).contiguous()

    y, last_state = _scan(
        tokens_last(u),
        tokens_last(delta),
        A.float(),
        tokens_last(B, (0, 2, 3, 1)),
        tokens_last(C, (0, 2, 3, 1)),
        None if D is None else D.float(),
        tokens_last(z),
        None if delta_bias is None else delta_bias.float(),
        call.softplus,
        return_last_state=True,
    )
    if last_state.requires_grad:
        last_state.register_hook(_refuse)
    y = y.transpose(1, 2)
    return y.flip(1) if call.reverse else y, last_state


selective_scan_2d = functools.partial(_scan_2d_by, scan=selective_scan)


def _refuse(grad: Tensor | None) -> None:
    if grad is not None:
        raise BackendError("backend 'mamba_ssm' passes no gradient to the last state; use backend='triton'")
