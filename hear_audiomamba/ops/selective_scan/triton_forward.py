"""Triton kernels of the selective scan: the forward pass, and the states it starts from.

One program holds BLOCK channels of one clip and walks along its tokens, TILE at a time. A tile's step
sizes, inputs and sums stay in registers as tuples of TILE vectors, unrolled, one lane a channel; a run-time
loop over the N states goes over the tile again and again, with one state vector in flight at a time.
Why this and not a (channels, N) tile:
 * N needs no power of two. N = 24 costs 24 steps of the loop, not 32 masked lanes, N = 1 costs one, and
   no state is summed across lanes, so y takes one FMA a state and no shuffle.
 * The recurrence is a chain of FMAs in one lane: no scan tree, twice the arithmetic of a chain, is needed.
 * B[t, n] and C[t, n] are one address for all lanes, with strides known at compile time.
On sm_90 the inner loop compiles to 8 instructions a state and channel pair of lanes, one of them the
exponential, which a multiprocessor can start every second cycle a warp: both limits meet at 2 cycles.

Few clips leave most of a GPU idle, so the tokens can be cut into spans: `scan_forward` runs once from zero
states without writing y, `scan_boundaries` chains the spans' ends, and a second run starts from those.

States lie as (batch, span, N, D), so that neighbouring lanes touch neighbouring addresses. `rate` is A
times log2(e), as (N, D), because the hardware's exponential is to base 2.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["scan_boundaries", "scan_forward", "step_size"]


@triton.jit
def softplus(x):
    """Return log(1 + exp(x)) to float32 accuracy, for step sizes of 1e-26 as for those of 100."""
    e = tl.exp(-tl.abs(x))
    # log(1 + e) = 2 atanh(e / (2 + e)), whose argument is at most 1/3, by its series; a plain
    # log(1 + e) would lose every digit of a small e.
    s = e / (2.0 + e)
    q = s * s
    tail = q * (1 / 9 + q * (1 / 11 + q * (1 / 13 + q * (1 / 15))))
    return tl.maximum(x, 0.0) + 2.0 * s * (1.0 + q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + tail))))


@triton.jit
def step_size(raw, bias, SOFTPLUS: tl.constexpr):
    """Return the step before and after softplus, for one vector of channels."""
    raw = raw.to(tl.float32)
    if bias is not None:
        raw += bias
    return raw, softplus(raw) if SOFTPLUS else raw


@triton.jit(do_not_specialize=["length", "span"])
def scan_forward(
    u,
    delta,
    rate,
    b,
    c,
    skip,
    z,
    bias,
    y,
    state,
    checkpoints,
    delta_sum,
    length,
    channels,
    per_group,
    span,
    u_batch,
    u_row,
    delta_batch,
    delta_row,
    z_batch,
    z_row,
    b_batch,
    b_group,
    c_batch,
    c_group,
    B_ROW: tl.constexpr,
    C_ROW: tl.constexpr,
    N: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    REVERSE: tl.constexpr,
    SEGMENT: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Advance `state` (batch, span, N, D) through each span, in place, and write what is asked for.

    y (batch, L, D) is written if given; `checkpoints` (batch, L / SEGMENT, N, D), if given, receive the
    states before every SEGMENT tokens; `delta_sum` (batch, span, D), if given, the sums of step sizes.
    Grid: (batch · groups · blocks a group, spans). `span` is a multiple of SEGMENT, SEGMENT of TILE, and
    TILE is not above L.
    """
    blocks = tl.cdiv(per_group, BLOCK)
    blocks_in_clip = channels // per_group * blocks
    pid = tl.program_id(0)
    clip = (pid // blocks_in_clip).to(tl.int64)
    block = pid % blocks_in_clip
    group = block // blocks
    in_group = block % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = in_group < per_group
    d = group * per_group + in_group

    u += clip * u_batch + d
    delta += clip * delta_batch + d
    b += clip * b_batch + group * b_group
    c += clip * c_batch + group * c_group
    part = clip * tl.num_programs(1) + tl.program_id(1)
    state += part * N * channels + d
    if z is not None:
        z += clip * z_batch + d
    if bias is not None:
        bias = tl.load(bias + d, mask=inside, other=0.0).to(tl.float32)
    if skip is not None:
        skip = tl.load(skip + d, mask=inside, other=0.0).to(tl.float32)
    if checkpoints is not None:
        checkpoints += clip * tl.cdiv(length, SEGMENT) * N * channels + d
    if y is not None:
        y += clip * length * channels + d
    total = tl.zeros((BLOCK,), tl.float32)
    way: tl.constexpr = -1 if REVERSE else 1

    first = tl.program_id(1) * span
    for k in range(tl.cdiv(tl.minimum(span, length - first), TILE)):
        nominal = first + k * TILE
        # The last tile is moved back to end at the last token, so that no address lies outside; rows
        # before `nominal` were done by the tile before and pass the state on unchanged, with a step of 0.
        start = tl.minimum(nominal, length - TILE)
        row = (length - 1 - start if REVERSE else start).to(tl.int64)
        steps = ()
        inputs = ()
        sums = ()
        for i in tl.static_range(TILE):
            live = in_group < tl.where(start + i >= nominal, per_group, 0)
            x = tl.load(u + (row + way * i) * u_row, mask=live, other=0.0).to(tl.float32)
            raw = tl.load(delta + (row + way * i) * delta_row, mask=live, other=0.0)
            step = tl.where(live, step_size(raw, bias, SOFTPLUS)[1], 0.0)
            total += step
            steps = steps + (step,)
            inputs = inputs + (step * x,)
            sums = sums + (x * skip if skip is not None else tl.zeros((BLOCK,), tl.float32),)

        for n in range(N):
            r = tl.load(rate + n * channels + d, mask=inside, other=0.0)
            h = tl.load(state + n * channels, mask=inside, other=0.0)
            # Nested, for a test on None is settled by the compiler and the one inside at run time.
            if checkpoints is not None:  # noqa: SIM102
                if nominal % SEGMENT == 0:
                    at = (nominal // SEGMENT * N + n).to(tl.int64) * channels
                    tl.store(checkpoints + at, h, mask=inside)
            new_sums = ()
            for i in tl.static_range(TILE):
                b_n = tl.load(b + row * B_ROW + n + way * i * B_ROW).to(tl.float32)
                h = tl.exp2(steps[i] * r) * h + inputs[i] * b_n
                if y is not None:
                    c_n = tl.load(c + row * C_ROW + n + way * i * C_ROW).to(tl.float32)
                    new_sums = new_sums + (sums[i] + h * c_n,)
            tl.store(state + n * channels, h, mask=inside)
            if y is not None:
                sums = new_sums
        # Lanes read back what they wrote themselves; this keeps it so if a compiler shares out lanes again.
        tl.debug_barrier()

        if y is not None:
            for i in tl.static_range(TILE):
                live = in_group < tl.where(start + i >= nominal, per_group, 0)
                out = sums[i]
                if z is not None:
                    gate = tl.load(z + (row + way * i) * z_row, mask=live, other=0.0).to(tl.float32)
                    out = out * gate / (1.0 + tl.exp(-gate))
                tl.store(y + (row + way * i) * channels, out, mask=live)
    if delta_sum is not None:
        tl.store(delta_sum + part * channels + d, total, mask=inside)


@triton.jit
def scan_boundaries(
    state,
    ends,
    delta_sum,
    rate,
    channels,
    spans,
    N: tl.constexpr,
    REVERSE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Chain the spans: given where each ends when it starts from zero, write where each starts.

    `state` (batch, spans, N, D) holds the first span's start on entry and every span's on return; `ends`
    has its shape. With REVERSE the chain runs from the last span to the first, as gradients flow.
    Grid: (batch, blocks over N · D).
    """
    clip = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < N * channels
    r = tl.load(rate + at, mask=inside, other=0.0)
    first = clip * spans
    way: tl.constexpr = -1 if REVERSE else 1
    if REVERSE:
        first += spans - 1
    state += first * N * channels + at
    ends += first * N * channels + at
    delta_sum += first * channels + at % channels
    h = tl.load(state, mask=inside, other=0.0)
    for _ in range(spans - 1):
        decay = tl.exp2(tl.load(delta_sum, mask=inside, other=0.0) * r)
        h = decay * h + tl.load(ends, mask=inside, other=0.0)
        state += way * N * channels
        ends += way * N * channels
        delta_sum += way * channels
        tl.store(state, h, mask=inside)
