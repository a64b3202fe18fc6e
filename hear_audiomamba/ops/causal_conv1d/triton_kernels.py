"""Triton kernels of the causal convolution with its SiLU: forward, and all gradients in one pass.

A program takes BLOCK channels of one clip and ROWS tokens. It slides along the tokens with the last W
inputs (and, backwards, the last W gradients) in registers, so each number is read once but for the few at
the seam between two programs.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["conv_backward", "conv_forward"]


@triton.jit
def input_at(x, state, t, d, length, channels, x_row, W: tl.constexpr, REVERSE: tl.constexpr):
    """Return the inputs of token t in visiting order: before the first come the state's, or zeros."""
    row = length - 1 - t if REVERSE else t
    limit = tl.where((t >= 0) & (t < length), channels, 0)
    value = tl.load(x + row * x_row + d, mask=d < limit, other=0.0).to(tl.float32)
    if state is not None:
        limit = tl.where((t < 0) & (t >= 1 - W), channels, 0)
        value += tl.load(state + d * (W - 1) + t + W - 1, mask=d < limit, other=0.0).to(tl.float32)
    return value


@triton.jit
def taps_of(weight, d, inside, W: tl.constexpr):
    """Return the W taps of each channel as a tuple of vectors."""
    taps = ()
    for k in tl.static_range(W):
        taps = taps + (tl.load(weight + d * W + k, mask=inside, other=0.0).to(tl.float32),)
    return taps


@triton.jit(do_not_specialize=["length"])
def conv_forward(
    x,
    weight,
    bias,
    state,
    y,
    length,
    channels,
    x_batch,
    x_row,
    W: tl.constexpr,
    SILU: tl.constexpr,
    REVERSE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write y (batch, L, D). Grid: (batch · blocks, L / ROWS)."""
    blocks = tl.cdiv(channels, BLOCK)
    clip = (tl.program_id(0) // blocks).to(tl.int64)
    d = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = d < channels
    start = tl.program_id(1).to(tl.int64) * ROWS
    x += clip * x_batch
    y += clip * length * channels
    if state is not None:
        state += clip * channels * (W - 1)
    if bias is not None:
        bias = tl.load(bias + d, mask=inside, other=0.0).to(tl.float32)
    taps = taps_of(weight, d, inside, W)

    window = ()
    for i in tl.static_range(W - 1):
        window = window + (input_at(x, state, start + i - (W - 1), d, length, channels, x_row, W, REVERSE),)
    for i in tl.static_range(ROWS):
        t = start + i
        window = window + (input_at(x, None, t, d, length, channels, x_row, W, REVERSE),)
        out = tl.zeros((BLOCK,), tl.float32)
        if bias is not None:
            out += bias
        for k in tl.static_range(W):
            out += taps[k] * window[k]
        window = window[1:]
        if SILU:
            out = out / (1.0 + tl.exp(-out))
        row = length - 1 - t if REVERSE else t
        tl.store(y + row * channels + d, out, mask=d < tl.where(t < length, channels, 0))


@triton.jit(do_not_specialize=["length"])
def conv_backward(
    x,
    weight,
    bias,
    state,
    grad_y,
    grad_x,
    grad_weight,
    grad_bias,
    grad_state,
    length,
    channels,
    x_batch,
    x_row,
    grad_batch,
    grad_row,
    W: tl.constexpr,
    SILU: tl.constexpr,
    REVERSE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write grad_x (batch, L, D), grad_state (batch, D, W - 1), and the programs' parts of the rest.

    grad_weight (batch · chunks, W, D) and grad_bias (batch · chunks, D) are to be summed over the first
    axis. Grid: (batch · blocks, chunks), where the chunks of ROWS tokens cover L.
    """
    blocks = tl.cdiv(channels, BLOCK)
    clip = (tl.program_id(0) // blocks).to(tl.int64)
    d = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = d < channels
    start = tl.program_id(1).to(tl.int64) * ROWS
    part = clip * tl.num_programs(1) + tl.program_id(1)
    x += clip * x_batch
    grad_y += clip * grad_batch
    grad_x += clip * length * channels
    if state is not None:
        state += clip * channels * (W - 1)
        grad_state += clip * channels * (W - 1)
    if bias is not None:
        bias = tl.load(bias + d, mask=inside, other=0.0).to(tl.float32)
    taps = taps_of(weight, d, inside, W)

    window = ()
    for i in tl.static_range(W - 1):
        window = window + (input_at(x, state, start + i - (W - 1), d, length, channels, x_row, W, REVERSE),)
    grads = ()
    weight_total = ()
    for _ in tl.static_range(W):
        grads = grads + (tl.zeros((BLOCK,), tl.float32),)
        weight_total = weight_total + (tl.zeros((BLOCK,), tl.float32),)
    bias_total = tl.zeros((BLOCK,), tl.float32)

    # A token's input is used by itself and the W - 1 tokens after it, so the gradients of those are needed
    # too; they count for the taps and the bias only in the program that owns them.
    for i in tl.static_range(ROWS + W - 1):
        t = start + i
        row = length - 1 - t if REVERSE else t
        limit = tl.where(t < length, channels, 0)
        window = window + (input_at(x, None, t, d, length, channels, x_row, W, REVERSE),)
        g = tl.load(grad_y + row * grad_row + d, mask=d < limit, other=0.0).to(tl.float32)
        if SILU:
            out = tl.zeros((BLOCK,), tl.float32)
            if bias is not None:
                out += bias
            for k in tl.static_range(W):
                out += taps[k] * window[k]
            sigmoid = 1.0 / (1.0 + tl.exp(-out))
            g *= sigmoid * (1.0 + out * (1.0 - sigmoid))
        grads = grads[1:] + (g,)
        if i < ROWS:
            bias_total += g
            new_total = ()
            for k in tl.static_range(W):
                new_total = new_total + (weight_total[k] + g * window[k],)
            weight_total = new_total
        window = window[1:]

        # The newest gradient in hand is that of token t; with it the input of token t - (W - 1) is complete.
        gx = tl.zeros((BLOCK,), tl.float32)
        for k in tl.static_range(W):
            gx += taps[k] * grads[W - 1 - k]
        if i >= W - 1:
            at = t - (W - 1)
            row = length - 1 - at if REVERSE else at
            tl.store(grad_x + row * channels + d, gx, mask=d < tl.where(at < length, channels, 0))
        elif state is not None:
            tl.store(grad_state + d * (W - 1) + i, gx, mask=d < tl.where(start == 0, channels, 0))
    for k in tl.static_range(W):
        tl.store(grad_weight + (part * W + k) * channels + d, weight_total[k], mask=inside)
    if bias is not None:
        tl.store(grad_bias + part * channels + d, bias_total, mask=inside)
