"""The causal convolution on a GPU by our own Triton kernels: backend "triton", forward and backward."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from ..eager import plain_call
from ..triton_launch import LAUNCH, dense_rows, on_device
from ..triton_launch import unsupported as _unsupported
from .triton_kernels import conv_backward, conv_forward

__all__ = ["causal_conv1d", "unsupported"]

# Tokens of one program: the seams read W - 1 rows in 32 twice.
ROWS = 32
BLOCK = 64
# The taps are unrolled, and their last inputs and gradients kept in registers.
MOST_TAPS = 16

Optional = Tensor | None


def unsupported(u: Tensor, d_state: int) -> str | None:
    """Say why this backend cannot take a call with `d_state` taps, or return None when it can."""
    if d_state > MOST_TAPS:
        return f"the convolution has {d_state} taps, the kernels take up to {MOST_TAPS}"
    return _unsupported(u, conv_forward)


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Optional,
    activation: str | None,
    reverse: bool,
    initial_state: Optional,
) -> Tensor:
    """Convolve on the GPU; arguments and result as `reference.causal_conv1d`."""
    if initial_state is not None:
        initial_state = initial_state.to(x.dtype)
    inputs = (x, weight, bias, initial_state)
    # Where nothing watches the call, the operator's registration would only cost its overhead.
    forward = _forward_kernel if plain_call(*inputs) else _forward
    return forward(*inputs, activation == "silu", reverse)


def _launch_options(x: Tensor, weight: Tensor, silu: bool, reverse: bool) -> dict[str, int]:
    return {
        "length": x.shape[1],
        "channels": x.shape[2],
        "x_batch": x.stride(0),
        "x_row": x.stride(1),
        "W": weight.shape[1],
        "SILU": silu,
        "REVERSE": reverse,
        "ROWS": min(ROWS, triton.next_power_of_2(x.shape[1])),
        "BLOCK": BLOCK,
        **LAUNCH,
    }


def _forward_kernel(
    x: Tensor, weight: Tensor, bias: Optional, initial_state: Optional, silu: bool, reverse: bool
) -> Tensor:
    x, weight, bias = dense_rows(x), weight.contiguous(), dense_rows(bias)
    if initial_state is not None:
        initial_state = initial_state.contiguous()
    y = x.new_empty(x.shape)
    options = _launch_options(x, weight, silu, reverse)
    grid = (x.shape[0] * triton.cdiv(x.shape[2], BLOCK), triton.cdiv(x.shape[1], options["ROWS"]))
    with on_device(x):
        conv_forward[grid](x, weight, bias, initial_state, y, **options)
    return y


_forward = torch.library.custom_op("hear_audiomamba::causal_conv1d_triton", _forward_kernel, mutates_args=())


@_forward.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Optional, initial_state: Optional, silu: bool, reverse: bool
) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("hear_audiomamba::causal_conv1d_triton_backward", mutates_args=())
def _backward(
    grad_y: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Optional,
    initial_state: Optional,
    silu: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight, bias and initial state, empty for those left out."""
    x, weight, bias, grad_y = dense_rows(x), weight.contiguous(), dense_rows(bias), dense_rows(grad_y)
    if initial_state is not None:
        initial_state = initial_state.contiguous()
    batch, length, channels = x.shape
    options = _launch_options(x, weight, silu, reverse)
    chunks = triton.cdiv(length, options["ROWS"])
    grad_x = x.new_empty(x.shape)
    grad_weight = x.new_empty(batch * chunks, weight.shape[1], channels, dtype=torch.float32)
    grad_bias = x.new_empty(0 if bias is None else (batch * chunks, channels), dtype=torch.float32)
    grad_state = x.new_empty(0 if initial_state is None else initial_state.shape)
    grid = (batch * triton.cdiv(channels, BLOCK), chunks)
    with on_device(x):
        conv_backward[grid](
            x, weight, bias, initial_state, grad_y, grad_x, grad_weight, grad_bias, grad_state,
            grad_batch=grad_y.stride(0), grad_row=grad_y.stride(1), **options,
        )  # fmt: skip
    grad_weight = grad_weight.sum(0).t().to(weight.dtype, memory_format=torch.contiguous_format)
    return grad_x, grad_weight, grad_bias if bias is None else grad_bias.sum(0).to(bias.dtype), grad_state


@_backward.register_fake
def _(
    grad_y: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Optional,
    initial_state: Optional,
    silu: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grad_bias = x.new_empty(0, dtype=torch.float32) if bias is None else torch.empty_like(bias)
    grad_state = x.new_empty(0 if initial_state is None else initial_state.shape)
    return x.new_empty(x.shape), weight.new_empty(weight.shape), grad_bias, grad_state


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, silu, reverse = inputs
    ctx.save_for_backward(*tensors)
    ctx.options = silu, reverse


def _gradients(ctx: Any, grad_y: Tensor) -> tuple[Optional, ...]:
    grads = _backward(grad_y, *ctx.saved_tensors, *ctx.options)
    pairs = zip(grads, ctx.saved_tensors, strict=True)
    wanted = [None if tensor is None else grad for grad, tensor in pairs]
    return *wanted, None, None


_forward.register_autograd(_gradients, setup_context=_keep_for_backward)
