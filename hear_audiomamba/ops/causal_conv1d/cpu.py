"""The causal convolution on the compiled CPU kernel: backend "cpu", and its registration with torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import native
from ..eager import plain_call
from ..native import ConvArgs, ConvGradients, View, float_buffer, parameter, pointer, readable

MAX_TAPS = 16
Optional = Tensor | None


def unsupported(u: Tensor, d_state: int) -> str | None:
    """Say why this backend cannot take a call with `d_state` taps; None when it can."""
    if d_state > MAX_TAPS:
        return f"the compiled kernel holds up to {MAX_TAPS} taps, weight has {d_state}"
    return native.why_not(u)


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str | None,
    reverse: bool,
    initial_state: Tensor | None,
) -> Tensor:
    """Convolve; arguments and result as `reference.causal_conv1d`."""
    wide = x if x.dtype in native.DTYPES else x.float()
    taps = weight.float()
    bias, past = (None if t is None else t.float() for t in (bias, initial_state))
    flags = (activation == "silu", reverse)
    if plain_call(wide, taps, bias, past):
        y = _forward(wide, taps, bias, *flags, past)
    else:
        y = torch.ops.hear_audiomamba.causal_conv1d(wide, taps, bias, *flags, past)
    return y if y.dtype == x.dtype else y.to(x.dtype)


def _arguments(
    x: Tensor, weight: Tensor, bias: Optional, silu: bool, reverse: bool, initial_state: Optional
) -> tuple[Any, tuple[Optional, ...]]:
    """Return the kernel's arguments, and the tensors that must outlive the call."""
    keep = (readable(x), parameter(weight), parameter(bias), parameter(initial_state))
    batch, length, channels = x.shape
    arguments = ConvArgs(
        batch=batch,
        length=length,
        channels=channels,
        taps=weight.shape[1],
        reverse=reverse,
        silu=silu,
        x=View.of(keep[0]),
        weight=pointer(keep[1]),
        bias=pointer(keep[2]),
        initial_state=pointer(keep[3]),
    )
    return arguments, keep


def _forward(
    x: Tensor, weight: Tensor, bias: Optional, silu: bool, reverse: bool, initial_state: Optional
) -> Tensor:
    arguments, keep = _arguments(x, weight, bias, silu, reverse, initial_state)
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    arguments.y = View.of(y)
    native.run("conv_forward", arguments)
    del keep
    return y


def _backward(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Optional, silu: bool, reverse: bool, initial_state: Optional
) -> list[Tensor]:
    """Return the gradients of x, weight, bias and the initial state; empty for an argument left out."""
    arguments, keep = _arguments(x, weight, bias, silu, reverse, initial_state)
    batch, _, channels = x.shape
    dy_rows = readable(dy)
    dx = torch.empty_like(x, memory_format=torch.contiguous_format)
    dweight = float_buffer(batch, *weight.shape)
    dbias = float_buffer(batch, channels)
    dinitial = float_buffer(*((0,) if initial_state is None else initial_state.shape))
    gradients = ConvGradients(
        dy=View.of(dy_rows),
        dx=View.of(dx),
        dweight=pointer(dweight),
        dbias=pointer(dbias),
        dinitial_state=None if initial_state is None else pointer(dinitial),
    )
    native.run("conv_backward", arguments, gradients)
    del keep
    return [dx, dweight.sum(0), x.new_empty(0) if bias is None else dbias.sum(0), dinitial]


_INPUTS = "Tensor x, Tensor weight, Tensor? bias, bool silu, bool reverse, Tensor? initial_state"

_conv_op = torch.library.custom_op(
    "hear_audiomamba::causal_conv1d",
    _forward,
    mutates_args=(),
    device_types="cpu",
    schema=f"({_INPUTS}) -> Tensor",
)
_conv_backward_op = torch.library.custom_op(
    "hear_audiomamba::causal_conv1d_backward",
    _backward,
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor dy, {_INPUTS}) -> Tensor[]",
)


@_conv_op.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Optional, silu: bool, reverse: bool, initial_state: Optional
) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@_conv_backward_op.register_fake
def _(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Optional, silu: bool, reverse: bool, initial_state: Optional
) -> list[Tensor]:
    return [x.new_empty(0 if t is None else t.shape) for t in (x, weight, bias, initial_state)]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias, ctx.silu, ctx.reverse, initial_state = inputs
    ctx.save_for_backward(x, weight, bias, initial_state)


def _gradients(ctx: Any, dy: Tensor) -> tuple[Optional, ...]:
    x, weight, bias, initial_state = ctx.saved_tensors
    dx, dweight, dbias, dinitial = torch.ops.hear_audiomamba.causal_conv1d_backward(
        dy, x, weight, bias, ctx.silu, ctx.reverse, initial_state
    )
    return (
        dx,
        dweight,
        None if bias is None else dbias,
        None,
        None,
        None if initial_state is None else dinitial,
    )


_conv_op.register_autograd(_gradients, setup_context=_remember)
_conv_backward_op.register_autograd(native.no_second_derivatives)
