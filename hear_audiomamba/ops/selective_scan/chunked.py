"""The selective scan in plain PyTorch, a chunk of tokens at a time: backend "torch", for any device.

Only one chunk's states (batch, chunk, D, N) exist at once. The backward pass keeps the state at each
chunk's start and computes the rest again.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import reference
from .arguments import Scan
from .reference import accumulation_dtype, unsupported

__all__ = ["selective_scan", "selective_scan_2d", "unsupported"]

CHUNK = 32


def selective_scan(call: Scan) -> tuple[Tensor, Tensor]:
    """Scan chunk by chunk; results as of `reference.selective_scan`."""
    u, delta, A, B, C, D, z, delta_bias, initial_state = call.tensors
    dtype = accumulation_dtype(u, delta, A, B, C)
    batch, _, channels = u.shape
    step = delta.to(dtype)
    if delta_bias is not None:
        step = step + delta_bias.to(dtype)
    if call.softplus:
        step = F.softplus(step)
    x = u.to(dtype)
    if initial_state is None:
        initial_state = torch.zeros(batch, channels, A.shape[1], dtype=dtype, device=u.device)
    y, last = _ChunkedScan.apply(  # type: ignore[no-untyped-call]  # torch's is not typed
        x, step, A.to(dtype), B.to(dtype), C.to(dtype), initial_state.to(dtype), call.reverse
    )
    if D is not None:
        y = y + D.to(dtype) * x
    if z is not None:
        y = y * F.silu(z.to(dtype))
    return y.to(u.dtype), last


selective_scan_2d = functools.partial(reference.selective_scan_2d, scan=selective_scan)


def _chunks(length: int, reverse: bool) -> list[slice]:
    """Return the slices of a clip in the order the scan visits them."""
    slices = [slice(s, min(s + CHUNK, length)) for s in range(0, length, CHUNK)]
    return slices[::-1] if reverse else slices


def _states(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Return decays and states of one chunk, (batch, chunk, G, D/G, N) each, in visiting order."""
    decay = torch.exp(delta.unsqueeze(-1) * A)
    states = (delta * u).unsqueeze(-1) * B.unsqueeze(-2)
    for t in range(states.shape[1]):
        state = states[:, t].addcmul_(decay[:, t], state)
    return decay, states


class _ChunkedScan(torch.autograd.Function):
    """The bare recurrence and its gradient; skip, gate and softplus are left to autograd."""

    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        initial_state: Tensor,
        reverse: bool,
    ) -> tuple[Tensor, Tensor]:
        groups = B.shape[2]
        y = torch.empty_like(u, memory_format=torch.contiguous_format)
        state = initial_state.unflatten(1, (groups, -1))
        starts = []
        for part in _chunks(u.shape[1], reverse):
            starts.append(state)
            u_c, delta_c, B_c, C_c = _in_order(part, reverse, groups, u, delta, B, C)
            _, states = _states(u_c, delta_c, A.unflatten(0, (groups, -1)), B_c, state)
            out = (states @ C_c.unsqueeze(-1)).flatten(2)
            y[:, part] = out.flip(1) if reverse else out
            state = states[:, -1].clone()
        ctx.save_for_backward(u, delta, A, B, C, *starts)
        ctx.reverse = reverse
        return y, state.flatten(1, 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_last: Tensor) -> tuple[Tensor | None, ...]:
        u, delta, A, B, C, *starts = ctx.saved_tensors
        reverse, groups = ctx.reverse, B.shape[2]
        A_g = A.unflatten(0, (groups, -1))
        grad_u, grad_delta = torch.empty_like(u), torch.empty_like(delta)
        grad_A, grad_B, grad_C = torch.zeros_like(A_g), torch.empty_like(B), torch.empty_like(C)
        # `flow` is the gradient that reaches the state after the current chunk from later tokens.
        flow = grad_last.unflatten(1, (groups, -1))
        for part in reversed(_chunks(u.shape[1], reverse)):
            start = starts.pop()
            u_c, delta_c, B_c, C_c = _in_order(part, reverse, groups, u, delta, B, C)
            dy = grad_y[:, part].flip(1) if reverse else grad_y[:, part]
            dy = dy.unflatten(2, (groups, -1))
            decay, states = _states(u_c, delta_c, A_g, B_c, start)
            grad_state = dy.unsqueeze(-1) * C_c.unsqueeze(-2)
            grad_state[:, -1] += flow
            for t in range(states.shape[1] - 2, -1, -1):
                grad_state[:, t].addcmul_(decay[:, t + 1], grad_state[:, t + 1])
            flow = decay[:, 0] * grad_state[:, 0]

            before = torch.cat([start.unsqueeze(1), states[:, :-1]], dim=1)
            through_decay = grad_state * decay * before
            along_B = (grad_state @ B_c.unsqueeze(-1)).squeeze(-1)
            grad_A += (through_decay * delta_c.unsqueeze(-1)).sum((0, 1))
            pieces = (
                (grad_u, (along_B * delta_c).flatten(2)),
                (grad_delta, (along_B * u_c + (through_decay * A_g).sum(-1)).flatten(2)),
                (grad_B, ((delta_c * u_c).unsqueeze(-2) @ grad_state).squeeze(-2)),
                (grad_C, (dy.unsqueeze(-2) @ states).squeeze(-2)),
            )
            for whole, piece in pieces:
                whole[:, part] = piece.flip(1) if reverse else piece
        return grad_u, grad_delta, grad_A.flatten(0, 1), grad_B, grad_C, flow.flatten(1, 2), None


def _in_order(
    part: slice, reverse: bool, groups: int, u: Tensor, delta: Tensor, B: Tensor, C: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return one chunk of each input in visiting order, channels split into (groups, D/groups)."""
    chunk = [t[:, part].flip(1) if reverse else t[:, part] for t in (u, delta, B, C)]
    return chunk[0].unflatten(2, (groups, -1)), chunk[1].unflatten(2, (groups, -1)), chunk[2], chunk[3]
