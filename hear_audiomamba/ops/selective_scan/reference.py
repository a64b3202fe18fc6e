"""The selective scan as the formulas say it, one token at a time: every faster backend is held to this."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def unsupported(u: Tensor, d_state: int) -> str | None:
    """Say why this backend cannot take a call; the reference takes every one."""
    return None


def accumulation_dtype(*tensors: Tensor | None) -> torch.dtype:
    """Return float64 when any input is float64, else float32: a scan never runs in half precision."""
    wide = any(t is not None and t.dtype == torch.float64 for t in tensors)
    return torch.float64 if wide else torch.float32


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
    initial_state: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Scan sequentially; arguments as `ops.selective_scan`, B and C always (batch, L, G, N).

    Returns:
        y (batch, L, D) in u's dtype, and the last state (batch, D, N).

    Source: Gu & Dao, arXiv 2312.00752, section 3.2 (Euler step for B, exponential for A).
    """
    dtype = accumulation_dtype(u, delta, A, B, C)
    batch, length, channels = u.shape
    per_group = channels // B.shape[2]
    step = delta.to(dtype)
    if delta_bias is not None:
        step = step + delta_bias.to(dtype)
    if delta_softplus:
        step = F.softplus(step)
    x = u.to(dtype)
    A = A.to(dtype)
    B = B.to(dtype).repeat_interleave(per_group, dim=2)
    C = C.to(dtype).repeat_interleave(per_group, dim=2)

    if initial_state is None:
        state = torch.zeros(batch, channels, A.shape[1], dtype=dtype, device=u.device)
    else:
        state = initial_state.to(dtype)
    outputs = [x.new_empty(0)] * length
    for t in reversed(range(length)) if reverse else range(length):
        decay = torch.exp(step[:, t, :, None] * A)
        state = decay * state + (step[:, t] * x[:, t])[..., None] * B[:, t]
        outputs[t] = (state * C[:, t]).sum(-1)
    y = torch.stack(outputs, dim=1)
    if D is not None:
        y = y + D.to(dtype) * x
    if z is not None:
        y = y * F.silu(z.to(dtype))
    return y.to(u.dtype), state


def selective_scan_2d(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    height: int,
    width: int,
    delta_softplus: bool,
    scan: Callable[..., tuple[Tensor, Tensor]] = selective_scan,
) -> Tensor:
    """Sum of four scans over a map: by rows, by columns, and both backwards; see `ops.selective_scan_2d`."""
    channels = u.shape[-1]
    positions = torch.arange(height * width, device=u.device)
    by_rows = positions
    by_columns = positions.view(height, width).t().reshape(-1)
    back_from_columns = torch.argsort(by_columns)
    total = None
    for direction in range(4):
        order = by_columns if direction % 2 else by_rows
        own = slice(direction * channels, (direction + 1) * channels)
        y, _ = scan(
            u[:, order],
            delta[:, order, direction],
            A[own],
            B[:, order, direction, None],
            C[:, order, direction, None],
            None if D is None else D[own],
            None,
            None if delta_bias is None else delta_bias[own],
            delta_softplus,
            direction >= 2,
            None,
        )
        y = y[:, back_from_columns] if direction % 2 else y
        total = y if total is None else total + y
    return total
