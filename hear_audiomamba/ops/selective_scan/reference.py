"""The selective scan as the formulas say it, one token at a time: every faster backend is held to this."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import Scan


def unsupported(u: Tensor, d_state: int) -> str | None:
    """Say why this backend cannot take a call; the reference takes every one."""
    return None


def accumulation_dtype(*tensors: Tensor | None) -> torch.dtype:
    """Return float64 when any input is float64, else float32: a scan never runs in half precision."""
    wide = any(t is not None and t.dtype == torch.float64 for t in tensors)
    return torch.float64 if wide else torch.float32


def selective_scan(call: Scan) -> tuple[Tensor, Tensor]:
    """Scan sequentially.

    All decays and inflows (batch, L, D, N) are made at once, as the published code does.

    Returns:
        y (batch, L, D) in u's dtype, and the last state (batch, D, N).

    Source: Gu & Dao, arXiv 2312.00752, section 3.2 (Euler step for B, exponential for A).
    """
    u, delta, A, B, C, D, z, delta_bias, initial_state = call.tensors
    dtype = accumulation_dtype(u, delta, A, B, C)
    batch, length, channels = u.shape
    groups = B.shape[2]
    step = delta.to(dtype)
    if delta_bias is not None:
        step = step + delta_bias.to(dtype)
    if call.softplus:
        step = F.softplus(step)
    x = u.to(dtype)
    # From here on a channel is (its group, its place in the group): that is how it meets B and C.
    dt, dtx = step.unflatten(2, (groups, -1)), (step * x).unflatten(2, (groups, -1))
    decay = torch.exp(dt.unsqueeze(-1) * A.to(dtype).unflatten(0, (groups, -1)))
    inflow = dtx.unsqueeze(-1) * B.to(dtype).unsqueeze(3)
    # Taken apart once: the gradient of indexing token by token would be as large as the whole, each time.
    decays, inflows, readouts = (t.unbind(1) for t in (decay, inflow, C.to(dtype).unsqueeze(-1)))

    if initial_state is None:
        initial_state = torch.zeros(batch, channels, A.shape[1], dtype=dtype, device=u.device)
    state = initial_state.to(dtype).unflatten(1, (groups, -1))
    outputs = [x.new_empty(0)] * length
    for t in reversed(range(length)) if call.reverse else range(length):
        state = decays[t] * state + inflows[t]
        outputs[t] = (state @ readouts[t]).flatten(1)
    y = torch.stack(outputs, dim=1)
    if D is not None:
        y = y + D.to(dtype) * x
    if z is not None:
        y = y * F.silu(z.to(dtype))
    return y.to(u.dtype), state.flatten(1, 2)


def selective_scan_2d(call: Scan, scan: Callable[[Scan], tuple[Tensor, Tensor]] = selective_scan) -> Tensor:
    """Sum of four scans over a map: by rows, by columns, and both backwards; see `ops.selective_scan_2d`."""
    u, delta, A, B, C, D, _, delta_bias, _ = call.tensors
    height, width, channels = call.height, call.width, u.shape[-1]
    positions = torch.arange(height * width, device=u.device)
    by_rows = positions
    by_columns = positions.view(height, width).t().reshape(-1)
    back_from_columns = torch.argsort(by_columns)
    results = []
    for direction in range(4):
        order = by_columns if direction % 2 else by_rows
        own = slice(direction * channels, (direction + 1) * channels)
        y, _ = scan(
            Scan(
                u[:, order],
                delta[:, order, direction],
                A[own],
                B[:, order, direction, None],
                C[:, order, direction, None],
                None if D is None else D[own],
                delta_bias=None if delta_bias is None else delta_bias[own],
                softplus=call.softplus,
                reverse=direction >= 2,
            )
        )
        results.append(y[:, back_from_columns] if direction % 2 else y)
    return results[0] + results[1] + results[2] + results[3]
