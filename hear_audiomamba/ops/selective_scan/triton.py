"""The selective scan on a GPU by our own Triton kernels: backend "triton", forward and backward.

The kernels also run on the CPU under Triton's interpreter (`TRITON_INTERPRET=1`), which is how the tests
hold them to the reference on machines without a GPU.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from ..eager import plain_call, records_gradients
from ..triton_launch import LAUNCH, dense_rows, on_device
from ..triton_launch import unsupported as _unsupported
from .arguments import Optional, Scan
from .reference import selective_scan_2d as _scan_2d_by
from .registered import register
from .triton_backward import flow_forward, scan_backward
from .triton_forward import scan_boundaries, scan_forward

__all__ = ["selective_scan", "selective_scan_2d", "unsupported"]

# Tokens between two states that are kept for the backward pass. 64 costs the memory of N / 64 float32
# tensors of u's shape, and a sixth of the backward pass's instructions to compute the states between again.
SEGMENT = 64
# Tokens held in registers at once. 8 tokens of 2 channels a lane fill 126 registers forwards and all 255
# backwards on sm_90, and spill none.
TILE = 8
# Channels of one program: 2 a lane, so that each weight loaded serves two.
BLOCK = 64
# Programs of one warp that keep a multiprocessor busy; under it, sequences are cut into spans.
WARPS_A_MULTIPROCESSOR = 8
LOG2_E = 1.4426950408889634


def unsupported(u: Tensor, d_state: int) -> str | None:
    """Say why this backend cannot take a call, or return None when it can."""
    return _unsupported(u, scan_forward)


def selective_scan(call: Scan) -> tuple[Tensor, Tensor]:
    """Scan on the GPU; results as of `reference.selective_scan`."""
    if plain_call(*call.tensors):  # past the operator's registration, which would only cost its overhead
        y, last_state, _ = _forward(call, False)
    else:
        y, last_state, _ = _operator(*call, records_gradients(*call.tensors))
    return y, last_state


selective_scan_2d = functools.partial(_scan_2d_by, scan=selective_scan)


class _Plan(NamedTuple):
    """How one call is cut into programs, and the arguments that follow from it for every kernel."""

    clips: int
    spans: int
    programs: int
    blocks: int
    segments: int
    sizes: dict[str, int]

    @property
    def grid(self) -> tuple[int, int]:
        return self.programs, self.spans


def span_length(length: int, programs: int, multiprocessors: int) -> int:
    """Return how many tokens one program should walk along.

    Cutting a sequence means computing its states twice, so it must win at least fourfold parallelism.

    Args:
        length: tokens of the sequence.
        programs: programs of one warp if the sequence is not cut.
        multiprocessors: of the GPU.

    Returns:
        A multiple of SEGMENT; at least `length` for one span.
    """
    segments = triton.cdiv(length, SEGMENT)
    spans = min(multiprocessors * WARPS_A_MULTIPROCESSOR // max(programs, 1), segments)
    per_span: int = triton.cdiv(segments, spans if spans >= 4 else 1)
    return per_span * SEGMENT


def _plan(u: Tensor, groups: int, d_state: int) -> _Plan:
    clips, length, channels = u.shape
    per_group = channels // groups
    block = min(BLOCK, max(32, triton.next_power_of_2(per_group)))
    blocks = triton.cdiv(per_group, block)
    programs = clips * groups * blocks
    span = span_length(length, programs, _multiprocessors(u.device))
    sizes = {
        "length": length,
        "channels": channels,
        "per_group": per_group,
        "span": span,
        "N": d_state,
        "TILE": min(TILE, 1 << (length.bit_length() - 1)),
        "BLOCK": block,
        **LAUNCH,
    }
    return _Plan(clips, triton.cdiv(length, span), programs, blocks, triton.cdiv(length, SEGMENT), sizes)


@functools.cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _strides(**tensors: Optional) -> dict[str, int]:
    """Return batch and row strides of channel-last tensors as kernel arguments."""
    named = {}
    for name, tensor in tensors.items():
        named[f"{name}_batch"] = 0 if tensor is None else tensor.stride(0)
        named[f"{name}_row"] = 0 if tensor is None else tensor.stride(1)
    return named


def _weight_strides(**tensors: Tensor) -> dict[str, int]:
    """Return batch, row and group strides of B and C as kernel arguments."""
    named = {}
    for name, tensor in tensors.items():
        named[f"{name}_batch"] = tensor.stride(0)
        named[f"{name.upper()}_ROW"] = tensor.stride(1)
        named[f"{name}_group"] = tensor.stride(2)
    return named


def _dense(call: Scan) -> Scan:
    """Return a scan of tensors that the kernels can read in place: views of rows, copies of others."""
    dense: dict[str, Any] = dict(zip(Scan._fields, map(dense_rows, call.tensors)))
    return call._replace(**dense)


def _rate(A: Tensor) -> Tensor:
    return (A.float() * LOG2_E).t().contiguous()


def _boundary_states(plan: _Plan, A: Tensor, at_start: Optional, first: int) -> Tensor:
    """Return zeroed states (batch, span, N, D) but for the span where the recurrence starts."""
    state = A.new_zeros(plan.clips, plan.spans, A.shape[1], A.shape[0], dtype=torch.float32)
    if at_start is not None:
        state[:, first] = at_start.transpose(1, 2)
    return state


def _chain(plan: _Plan, state: Tensor, ends: Tensor, delta_sum: Tensor, rate: Tensor, reverse: bool) -> None:
    grid = (plan.clips, triton.cdiv(rate.numel(), 128))
    scan_boundaries[grid](
        state, ends, delta_sum, rate, rate.shape[1], plan.spans, rate.shape[0], reverse, 128, num_warps=4
    )


def _forward(call: Scan, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, the last state, and with `keep` the states the backward pass starts from."""
    u, delta, A, B, C, D, z, delta_bias, initial_state = _dense(call).tensors
    plan = _plan(u, B.shape[2], A.shape[1])
    rate = _rate(A)
    state = _boundary_states(plan, A, initial_state, 0)
    y = u.new_empty(u.shape)
    checkpoints = rate.new_empty(plan.clips, plan.segments, *rate.shape) if keep else None
    launch = functools.partial(
        scan_forward[plan.grid],
        u, delta, rate, B, C, D, z, delta_bias,
        **_strides(u=u, delta=delta, z=z), **_weight_strides(b=B, c=C), **plan.sizes,
        SOFTPLUS=call.softplus, REVERSE=call.reverse, SEGMENT=SEGMENT,
    )  # fmt: skip
    with on_device(u):
        if plan.spans > 1:
            ends = torch.zeros_like(state)
            delta_sum = rate.new_empty(plan.clips, plan.spans, rate.shape[1])
            launch(y=None, state=ends, checkpoints=None, delta_sum=delta_sum)
            _chain(plan, state, ends, delta_sum, rate, reverse=False)
        launch(y=y, state=state, checkpoints=checkpoints, delta_sum=None)
    last_state = state[:, -1].transpose(1, 2).contiguous()
    return y, last_state, rate.new_empty(0) if checkpoints is None else checkpoints


def _results(call: Scan, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return tensors like those of `_forward`."""
    u, (channels, d_state) = call.u, call.A.shape
    batch, length, _ = u.shape
    kept = (batch, (length + SEGMENT - 1) // SEGMENT, d_state, channels) if keep else (0,)
    state = u.new_empty((batch, channels, d_state), dtype=torch.float32)
    return u.new_empty(u.shape), state, u.new_empty(kept, dtype=torch.float32)


def _backward(grad_y: Tensor, grad_last: Tensor, checkpoints: Tensor, call: Scan) -> list[Optional]:
    """Return the gradients of `Scan.tensors`; None for those left out."""
    u, delta, A, B, C, D, z, delta_bias, initial_state = _dense(call).tensors
    grad_y = dense_rows(grad_y)
    d_state, groups = A.shape[1], B.shape[2]
    plan = _plan(u, groups, d_state)
    rate = _rate(A)
    flow = _boundary_states(plan, A, grad_last, plan.spans - 1)
    parts = (plan.clips, plan.spans)
    channels = u.shape[2]
    grad_u, grad_delta = u.new_empty(u.shape), delta.new_empty(delta.shape)
    grad_z = None if z is None else z.new_empty(z.shape)
    grad_rate = rate.new_zeros(*parts, *rate.shape)
    grad_b = rate.new_empty(plan.blocks, *B.shape)
    grad_c = grad_b.new_empty(grad_b.shape)
    grad_skip = None if D is None else rate.new_empty(*parts, channels)
    grad_bias = None if delta_bias is None else rate.new_empty(*parts, channels)
    tile, block = plan.sizes["TILE"], plan.sizes["BLOCK"]
    scratch = rate.new_empty(plan.programs * plan.spans, SEGMENT // tile, d_state, block)
    gated = _strides(delta=delta, z=z, grad=grad_y)
    flags = {"SOFTPLUS": call.softplus, "REVERSE": call.reverse}
    with on_device(u):
        if plan.spans > 1:
            starts = torch.zeros_like(flow)
            delta_sum = rate.new_empty(*parts, channels)
            flow_forward[plan.grid](
                delta, rate, C, z, delta_bias, grad_y, starts, delta_sum,
                **gated, **_weight_strides(c=C), **flags, **plan.sizes,
            )  # fmt: skip
            _chain(plan, flow, starts, delta_sum, rate, reverse=True)
        scan_backward[plan.grid](
            u, delta, rate, B, C, D, z, delta_bias, grad_y, checkpoints, scratch, flow,
            grad_u, grad_delta, grad_rate, grad_b, grad_c, grad_skip, grad_z, grad_bias,
            **gated, **_strides(u=u), **_weight_strides(b=B, c=C), **flags, **plan.sizes,
            GROUPS=groups, SEGMENT=SEGMENT,
        )  # fmt: skip
    grad_state = flow[:, 0].transpose(1, 2).contiguous()
    return [
        grad_u,
        grad_delta,
        grad_rate.sum((0, 1)).t().to(A.dtype, memory_format=torch.contiguous_format),
        grad_b.sum(0).to(B.dtype),
        grad_c.sum(0).to(C.dtype),
        None if grad_skip is None or D is None else grad_skip.sum((0, 1)).to(D.dtype),
        grad_z,
        None if grad_bias is None or delta_bias is None else grad_bias.sum((0, 1)).to(delta_bias.dtype),
        None if initial_state is None else grad_state.to(initial_state.dtype),
    ]


_operator = register("selective_scan_triton", _forward, _backward, _results)
