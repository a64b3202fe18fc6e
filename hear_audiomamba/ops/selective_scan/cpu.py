"""The selective scan on the compiled CPU kernel: backend "cpu", and its registration with torch.

One kernel serves the scan of a sequence and the four scans of a map (`height` > 0). The operators are
registered with torch so that `torch.compile` and `torch.export` see them; a plain call without gradients
goes straight to the kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import native
from ..eager import plain_call, records_gradients, traced
from ..native import (
    BLOCK,
    MAX_STATES,
    ScanArgs,
    ScanGradients,
    View,
    float_buffer,
    parameter,
    pointer,
    readable,
)  # fmt: skip
from .arguments import Optional, Scan
from .registered import register


def unsupported(u: Tensor, d_state: int) -> str | None:
    """Say why this backend cannot take a call; None when it can."""
    if d_state > MAX_STATES:
        return f"the compiled kernel holds up to {MAX_STATES} states a channel, A has {d_state}"
    return native.why_not(u)


def selective_scan(call: Scan) -> tuple[Tensor, Tensor]:
    """Scan a sequence or a map; results as of `reference.selective_scan`."""

    def sequence(t: Tensor) -> Tensor:
        return t if t.dtype in native.DTYPES else t.float()

    inputs = call._replace(
        u=sequence(call.u),
        delta=sequence(call.delta),
        A=call.A.float(),
        B=sequence(call.B),
        C=sequence(call.C),
        D=None if call.D is None else call.D.float(),
        z=None if call.z is None else sequence(call.z),
        delta_bias=None if call.delta_bias is None else call.delta_bias.float(),
        initial_state=None if call.initial_state is None else call.initial_state.float(),
    )
    if plain_call(*inputs.tensors):
        y, last_state, _ = _forward(inputs, False)
    else:
        # A trace is one for all modes: torch's own check of it runs without gradients, users may run it with.
        save = traced() or records_gradients(*inputs.tensors)
        y, last_state, _ = _operator(*inputs, save)
    return y if y.dtype == call.u.dtype else y.to(call.u.dtype), last_state


def selective_scan_2d(call: Scan) -> Tensor:
    """Scan a map in four directions; result as of `reference.selective_scan_2d`."""
    return selective_scan(call)[0]


def _sizes(call: Scan) -> dict[str, int]:
    """Return the sizes the kernel is told, under its own names."""
    return {
        "batch": call.u.shape[0],
        "length": call.u.shape[1],
        "channels": call.u.shape[2],
        "states": call.A.shape[1],
        "groups": 1 if call.is_map else call.B.shape[2],
        "directions": 4 if call.is_map else 1,
    }


def _splits(sizes: dict[str, int]) -> int:
    """Return into how many items the kernel cuts the channels of one group."""
    per_group = sizes["channels"] // sizes["groups"]
    return -(-per_group // int(native.load().audiomamba_channels_per_item()))


def _map_dtype(inputs: Scan) -> torch.dtype:
    """Return the dtype of a result that sums over directions: float32 for a map."""
    return torch.float32 if inputs.is_map else inputs.u.dtype


def _arguments(inputs: Scan) -> tuple[Any, list[Any]]:
    """Return the kernel's arguments, and the tensors that must outlive the call."""
    views = {name: readable(getattr(inputs, name)) for name in ("u", "delta", "B", "C", "z")}
    floats = {name: parameter(getattr(inputs, name)) for name in ("A", "D", "delta_bias", "initial_state")}
    arguments = ScanArgs(
        **_sizes(inputs),
        height=inputs.height,
        width=inputs.width,
        reverse=inputs.reverse,
        softplus=inputs.softplus,
        **{name: View.of(t) for name, t in views.items()},
        **{name: pointer(t) for name, t in floats.items()},
    )
    return arguments, [views, floats]


def _results(inputs: Scan, save: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return empty tensors for y, the last state, and the states before each block of tokens."""
    u, is_map = inputs.u, inputs.is_map
    batch, length, channels = u.shape
    states = inputs.A.shape[1]
    checkpoints = (batch, 4 if is_map else 1, -(-length // BLOCK), states, channels) if save else (0,)
    return (
        u.new_empty((batch, length, channels), dtype=_map_dtype(inputs)),
        u.new_empty((0 if is_map else batch, channels, states), dtype=torch.float32),
        u.new_empty(checkpoints, dtype=torch.float32),
    )


def _forward(inputs: Scan, save: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Scan; `save` keeps what the gradients need."""
    arguments, keep = _arguments(inputs)
    y, last_state, checkpoints = _results(inputs, save)
    arguments.y = View.of(y)
    arguments.last_state = None if inputs.is_map else pointer(last_state)
    arguments.checkpoints = pointer(checkpoints) if save else None
    native.run("scan_forward", arguments)
    del keep
    return y, last_state, checkpoints


def _backward(dy: Tensor, dlast: Tensor, checkpoints: Tensor, inputs: Scan) -> list[Optional]:
    """Return the gradients of `Scan.tensors`, dense; None for an argument left out."""
    u, delta, _, B, C, D, z, delta_bias, initial_state = inputs.tensors
    sizes = _sizes(inputs)
    arguments, keep = _arguments(inputs)
    arguments.checkpoints = pointer(checkpoints)
    batch, parameters = sizes["batch"], sizes["directions"] * sizes["channels"]
    du = u.new_empty(u.shape, dtype=_map_dtype(inputs))
    ddelta = delta.new_empty(delta.shape)
    dz = None if z is None else z.new_empty(z.shape)
    slabs = float_buffer(2, _splits(sizes), *B.shape)
    dA = float_buffer(batch, parameters, sizes["states"])
    dD, dbias = float_buffer(2, batch, parameters)
    dinitial = None if initial_state is None else initial_state.new_empty(initial_state.shape)
    dy_rows, dlast_rows = readable(dy), parameter(dlast)
    gradients = ScanGradients(
        dy=View.of(dy_rows),
        du=View.of(du),
        ddelta=View.of(ddelta),
        dz=View.of(dz),
        dB=View.of(slabs[0, 0]),
        dC=View.of(slabs[1, 0]),
        dlast_state=None if inputs.is_map else pointer(dlast_rows),
        dA=pointer(dA),
        dD=pointer(dD),
        ddelta_bias=pointer(dbias),
        dinitial_state=pointer(dinitial),
        split_stride=slabs.stride(1),
    )
    native.run("scan_backward", arguments, gradients)
    del keep
    return [
        du.to(u.dtype),
        ddelta,
        dA.sum(0),
        slabs[0].sum(0).to(B.dtype),
        slabs[1].sum(0).to(C.dtype),
        None if D is None else dD.sum(0),
        dz,
        None if delta_bias is None else dbias.sum(0),
        dinitial,
    ]


_operator = register("selective_scan", _forward, _backward, _results, device_types="cpu")
