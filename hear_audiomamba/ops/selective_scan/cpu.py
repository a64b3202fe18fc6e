"""The selective scan on the compiled CPU kernel: backend "cpu", and its registration with torch.

One kernel serves the scan of a sequence and the four scans of a map (`height` > 0). The operators are
registered with torch so that `torch.compile` and `torch.export` see them; a plain call without gradients
goes straight to the kernel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import native
from ..native import BLOCK, MAX_STATES, ScanArgs, ScanGradients, View, parameter, pointer, readable


def unsupported(u: Tensor, d_state: int) -> str | None:
    """Say why this backend cannot take a call; None when it can."""
    if d_state > MAX_STATES:
        return f"the compiled kernel holds up to {MAX_STATES} states a channel, A has {d_state}"
    return native.why_not(u)


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
    """Scan a sequence; arguments and results as `reference.selective_scan`."""
    return _call(u, delta, A, B, C, D, z, delta_bias, delta_softplus, reverse, initial_state, 0, 0)


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
) -> Tensor:
    """Scan a map in four directions; arguments and result as `reference.selective_scan_2d`."""
    return _call(u, delta, A, B, C, D, None, delta_bias, delta_softplus, False, None, height, width)[0]


def _call(u, delta, A, B, C, D, z, delta_bias, softplus, reverse, initial_state, height, width):
    wide = [t if t is None or t.dtype in native.DTYPES else t.float() for t in (u, delta, B, C, z)]
    small = [None if t is None else t.float() for t in (A, D, delta_bias, initial_state)]
    tensors = (wide[0], wide[1], small[0], wide[2], wide[3], small[1], wide[4], small[2], small[3])
    flags = (softplus, reverse, height, width)
    if native.plain_call(*tensors):
        y, last_state, _ = _forward(*_order(tensors, flags), False)
    else:
        save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
        y, last_state, _ = torch.ops.hear_audiomamba.selective_scan(*_order(tensors, flags), save)
    return y if y.dtype == u.dtype else y.to(u.dtype), last_state


def _order(tensors, flags):
    """Return the operator's arguments: its initial state comes after the two switches."""
    return (*tensors[:8], *flags[:2], tensors[8], *flags[2:])


def _shape(u: Tensor, A: Tensor, B: Tensor, height: int) -> dict[str, int]:
    directions = 4 if height else 1
    groups = 1 if height else B.shape[2]
    return {
        "batch": u.shape[0],
        "length": u.shape[1],
        "channels": u.shape[2],
        "states": A.shape[1],
        "groups": groups,
        "directions": directions,
    }


def _splits(shape: dict[str, int]) -> int:
    """Return into how many items the kernel cuts the channels of one group."""
    per_group = shape["channels"] // shape["groups"]
    return -(-per_group // native.load().audiomamba_channels_per_item())


def _map_dtype(u: Tensor, height: int) -> torch.dtype:
    """Return the dtype of a result that sums over directions: float32 for a map."""
    return torch.float32 if height else u.dtype


def _arguments(shape, inputs):
    """Return the kernel's arguments, and the tensors that must outlive the call."""
    u, delta, A, B, C, D, z, delta_bias, softplus, reverse, initial_state, height, width = inputs
    views = {"u": readable(u), "delta": readable(delta), "B": readable(B), "C": readable(C), "z": readable(z)}
    floats = {
        "A": parameter(A),
        "D": parameter(D),
        "delta_bias": parameter(delta_bias),
        "initial_state": parameter(initial_state),
    }
    arguments = ScanArgs(
        **shape,
        height=height,
        width=width,
        reverse=reverse,
        softplus=softplus,
        **{name: View.of(t) for name, t in views.items()},
        **{name: pointer(t) for name, t in floats.items()},
    )
    return arguments, (views, floats)


def _results(u: Tensor, A: Tensor, height: int, save: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return empty tensors for y, the last state, and the states before each block of tokens."""
    batch, length, channels = u.shape
    states = A.shape[1]
    checkpoints = (batch, 4 if height else 1, -(-length // BLOCK), states, channels) if save else (0,)
    return (
        u.new_empty((batch, length, channels), dtype=_map_dtype(u, height)),
        u.new_empty((0 if height else batch, channels, states), dtype=torch.float32),
        u.new_empty(checkpoints, dtype=torch.float32),
    )


def _forward(*inputs) -> tuple[Tensor, Tensor, Tensor]:
    *inputs, save = inputs
    u, A, B, height = inputs[0], inputs[2], inputs[3], inputs[11]
    arguments, keep = _arguments(_shape(u, A, B, height), inputs)
    y, last_state, checkpoints = _results(u, A, height, save)
    arguments.y = View.of(y)
    arguments.last_state = None if height else pointer(last_state)
    arguments.checkpoints = pointer(checkpoints) if save else None
    native.run("scan_forward", arguments)
    del keep
    return y, last_state, checkpoints


def _backward(dy, dlast, checkpoints, *inputs) -> list[Tensor]:
    """Return the gradients in the order of the arguments; an empty tensor for an argument left out."""
    u, delta, A, B, C, D, z, delta_bias, _, _, initial_state, height, _ = inputs
    shape = _shape(u, A, B, height)
    arguments, keep = _arguments(shape, inputs)
    arguments.checkpoints = pointer(checkpoints)
    batch, parameters = shape["batch"], shape["directions"] * shape["channels"]
    du = u.new_empty(u.shape, dtype=_map_dtype(u, height))
    ddelta = torch.empty_like(delta, memory_format=torch.contiguous_format)
    dz = u.new_empty(0) if z is None else torch.empty_like(z, memory_format=torch.contiguous_format)
    slabs = torch.empty((2, _splits(shape), *B.shape))
    dA = torch.empty((batch, parameters, shape["states"]))
    dD, dbias = torch.empty((2, batch, parameters))
    dinitial = torch.empty((0,) if initial_state is None else initial_state.shape)
    dy, dlast = readable(dy), parameter(dlast)
    gradients = ScanGradients(
        dy=View.of(dy),
        du=View.of(du),
        ddelta=View.of(ddelta),
        dz=View.of(None if z is None else dz),
        dB=View.of(slabs[0, 0]),
        dC=View.of(slabs[1, 0]),
        dlast_state=None if height else pointer(dlast),
        dA=pointer(dA),
        dD=pointer(dD),
        ddelta_bias=pointer(dbias),
        dinitial_state=None if initial_state is None else pointer(dinitial),
        split_stride=slabs.stride(1),
    )
    native.run("scan_backward", arguments, gradients)
    del keep
    nothing = u.new_empty(0)
    return [
        du.to(u.dtype),
        ddelta,
        dA.sum(0),
        slabs[0].sum(0).to(B.dtype),
        slabs[1].sum(0).to(C.dtype),
        nothing if D is None else dD.sum(0),
        dz,
        nothing.clone() if delta_bias is None else dbias.sum(0),
        dinitial,
    ]


_INPUTS = (
    "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias, "
    "bool softplus, bool reverse, Tensor? initial_state, int height, int width"
)
_TENSORS_AT = (0, 1, 2, 3, 4, 5, 6, 7, 10)

_scan_op = torch.library.custom_op(
    "hear_audiomamba::selective_scan",
    _forward,
    mutates_args=(),
    device_types="cpu",
    schema=f"({_INPUTS}, bool save) -> (Tensor, Tensor, Tensor)",
)
_scan_backward_op = torch.library.custom_op(
    "hear_audiomamba::selective_scan_backward",
    _backward,
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor dy, Tensor dlast, Tensor checkpoints, {_INPUTS}) -> Tensor[]",
)


@_scan_op.register_fake
def _(*inputs):
    u, A, height, save = inputs[0], inputs[2], inputs[11], inputs[13]
    return _results(u, A, height, save)


@_scan_backward_op.register_fake
def _(dy, dlast, checkpoints, *inputs):
    return [dy.new_empty(0) if inputs[i] is None else torch.empty_like(inputs[i]) for i in _TENSORS_AT]


def _remember(ctx, inputs, output):
    ctx.save_for_backward(output[2], *(inputs[i] for i in _TENSORS_AT))
    ctx.others = {i: value for i, value in enumerate(inputs[:-1]) if i not in _TENSORS_AT}


def _gradients(ctx, dy, dlast, _):
    checkpoints, *tensors = ctx.saved_tensors
    present = dict(zip(_TENSORS_AT, tensors, strict=True))
    inputs = [ctx.others[i] if i in ctx.others else present[i] for i in range(len(ctx.others) + len(present))]
    found = torch.ops.hear_audiomamba.selective_scan_backward(dy, dlast, checkpoints, *inputs)
    result = [None] * (len(inputs) + 1)
    for i, gradient in zip(_TENSORS_AT, found, strict=True):
        if present[i] is not None:
            result[i] = gradient
    return tuple(result)


_scan_op.register_autograd(_gradients, setup_context=_remember)
