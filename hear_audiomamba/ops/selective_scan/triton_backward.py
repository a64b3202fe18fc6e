"""Triton kernels of the selective scan: gradients.

Same shape of program as in `triton_forward`: BLOCK channels of one clip, TILE tokens in registers, a loop
over the states. Of the forward pass only the states before every SEGMENT tokens were kept. A segment is
first run forwards once more, leaving the states before each tile in `scratch`; then its tiles are taken
backwards, each with its states recomputed in registers.

With `g[t]` the gradient of the state x[t], and `flow[t] = exp(dt[t] A) g[t]` what it hands to x[t-1]:
  g[t] = dy[t] C[t] + flow[t+1];  dB[t] = sum over d of g dt u;  dC[t] = sum over d of dy x
  d dt[t] = sum over n of g (A exp(dt A) x[t-1] + u B);  dA = sum over t of g dt exp(dt A) x[t-1]
The product exp(dt A) x[t-1] is kept from the recomputation. Taking it as x[t] - dt u B instead would
leave rounding noise times A where the state forgets within a step.

dB and dC are sums over channels: each program sums its own block, a tile's tokens together (`lane_sums`), and
stores the part; the parts are added up afterwards. No atomics, so two runs give the same bits.
On sm_90 the loop over the states compiles to 25 instructions a state update of 32 lanes, against 34 with
a sum for each token by itself, and another 6 for the states computed again.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .triton_forward import step_size

__all__ = ["flow_forward", "scan_backward"]


@triton.jit(do_not_specialize=["length", "span"])
def flow_forward(
    delta,
    rate,
    c,
    z,
    bias,
    grad_y,
    flow,
    delta_sum,
    length,
    channels,
    per_group,
    span,
    delta_batch,
    delta_row,
    z_batch,
    z_row,
    c_batch,
    c_group,
    grad_batch,
    grad_row,
    C_ROW: tl.constexpr,
    N: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    REVERSE: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Carry `flow` (batch, span, N, D) from the end of each span to its start, in place.

    `delta_sum` (batch, span, D) receives the sums of step sizes. Grid and limits as `scan_forward`.
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

    delta += clip * delta_batch + d
    c += clip * c_batch + group * c_group
    grad_y += clip * grad_batch + d
    part = clip * tl.num_programs(1) + tl.program_id(1)
    flow += part * N * channels + d
    if z is not None:
        z += clip * z_batch + d
    if bias is not None:
        bias = tl.load(bias + d, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    way: tl.constexpr = -1 if REVERSE else 1

    first = tl.program_id(1) * span
    tiles = tl.cdiv(tl.minimum(span, length - first), TILE)
    for k in range(tiles):
        nominal = first + (tiles - 1 - k) * TILE
        start = tl.minimum(nominal, length - TILE)
        row = (length - 1 - start if REVERSE else start).to(tl.int64)
        steps = ()
        grads = ()
        for i in tl.static_range(TILE):
            live = in_group < tl.where(start + i >= nominal, per_group, 0)
            raw = tl.load(delta + (row + way * i) * delta_row, mask=live, other=0.0)
            step = tl.where(live, step_size(raw, bias, SOFTPLUS)[1], 0.0)
            total += step
            dy = tl.load(grad_y + (row + way * i) * grad_row, mask=live, other=0.0).to(tl.float32)
            if z is not None:
                gate = tl.load(z + (row + way * i) * z_row, mask=live, other=0.0).to(tl.float32)
                dy = dy * gate / (1.0 + tl.exp(-gate))
            steps = steps + (step,)
            grads = grads + (dy,)
        for n in range(N):
            r = tl.load(rate + n * channels + d, mask=inside, other=0.0)
            g = tl.load(flow + n * channels, mask=inside, other=0.0)
            for i in tl.static_range(TILE - 1, -1, -1):
                c_n = tl.load(c + row * C_ROW + n + way * i * C_ROW).to(tl.float32)
                g = tl.exp2(steps[i] * r) * (g + grads[i] * c_n)
            tl.store(flow + n * channels, g, mask=inside)
        tl.debug_barrier()
    tl.store(delta_sum + part * channels + d, total, mask=inside)


@triton.jit
def lane_sums(vectors, COUNT: tl.constexpr, BLOCK: tl.constexpr):
    """Return each vector's sum over its channels, as 32 lanes; the k-th sum is in lane k · 32 / COUNT.

    COUNT is a power of two up to 32. Half of the lanes give up their part of one vector and keep that of
    another, half the other way round, so that two vectors fold into one; pairs of those fold again, until
    one is left. That takes about one shuffle a vector, where summing each by itself takes five.
    """
    lane = tl.arange(0, 32)
    folded = ()
    for k in tl.static_range(COUNT):
        folded = folded + (tl.sum(tl.reshape(vectors[k], (32, BLOCK // 32)), 1),)
    for level in tl.static_range(5):
        other = lane ^ (16 >> level)
        upper = (lane & (16 >> level)) != 0
        pairs = ()
        if (COUNT >> (level + 1)) > 0:
            for k in tl.static_range(COUNT >> (level + 1)):
                first = folded[k]
                second = folded[k + (COUNT >> (level + 1))]
                given = tl.where(upper, first, second)
                pairs = pairs + (tl.where(upper, second, first) + tl.gather(given, other, 0),)
        else:
            pairs = (folded[0] + tl.gather(folded[0], other, 0),)
        folded = pairs
    return folded[0]


@triton.jit(do_not_specialize=["length", "span"])
def scan_backward(
    u,
    delta,
    rate,
    b,
    c,
    skip,
    z,
    bias,
    grad_y,
    checkpoints,
    scratch,
    flow,
    grad_u,
    grad_delta,
    grad_rate,
    grad_b,
    grad_c,
    grad_skip,
    grad_z,
    grad_bias,
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
    grad_batch,
    grad_row,
    B_ROW: tl.constexpr,
    C_ROW: tl.constexpr,
    GROUPS: tl.constexpr,
    N: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    REVERSE: tl.constexpr,
    SEGMENT: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Compute every gradient of one span; `flow` (batch, span, N, D) goes from its end to its start.

    grad_u, grad_delta, grad_z (batch, L, D) are whole. The others are parts to be summed over what is named
    first: grad_rate (batch · spans, N, D), which must come zeroed, grad_skip and grad_bias
    (batch · spans, D), grad_b and grad_c (blocks a group, batch, L, G, N). `scratch` is
    (programs, SEGMENT / TILE, N, BLOCK) floats. Grid and limits as `scan_forward`.
    """
    LN2: tl.constexpr = 0.6931471805599453
    blocks = tl.cdiv(per_group, BLOCK)
    blocks_in_clip = GROUPS * blocks
    clips = tl.num_programs(0) // blocks_in_clip
    pid = tl.program_id(0)
    clip = (pid // blocks_in_clip).to(tl.int64)
    block = pid % blocks_in_clip
    group = block // blocks
    lane = tl.arange(0, BLOCK)
    in_group = block % blocks * BLOCK + lane
    inside = in_group < per_group
    d = group * per_group + in_group
    part = clip * tl.num_programs(1) + tl.program_id(1)

    u += clip * u_batch + d
    delta += clip * delta_batch + d
    b += clip * b_batch + group * b_group
    c += clip * c_batch + group * c_group
    grad_y += clip * grad_batch + d
    checkpoints += clip * tl.cdiv(length, SEGMENT) * N * channels + d
    flow += part * N * channels + d
    grad_rate += part * N * channels + d
    own = pid.to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    scratch += own * (SEGMENT // TILE * N * BLOCK) + lane
    grad_u += clip * length * channels + d
    grad_delta += clip * length * channels + d
    of_block = ((block % blocks * clips + clip) * length * GROUPS + group) * N
    grad_b += of_block
    grad_c += of_block
    if z is not None:
        z += clip * z_batch + d
        grad_z += clip * length * channels + d
    if bias is not None:
        bias = tl.load(bias + d, mask=inside, other=0.0).to(tl.float32)
    if skip is not None:
        skip = tl.load(skip + d, mask=inside, other=0.0).to(tl.float32)
    skip_total = tl.zeros((BLOCK,), tl.float32)
    bias_total = tl.zeros((BLOCK,), tl.float32)
    way: tl.constexpr = -1 if REVERSE else 1
    ROW: tl.constexpr = GROUPS * N

    first = tl.program_id(1) * span
    segments = tl.cdiv(tl.minimum(span, length - first), SEGMENT)
    for s in range(segments):
        opening = first + (segments - 1 - s) * SEGMENT
        tiles = tl.cdiv(tl.minimum(SEGMENT, length - opening), TILE)

        for n in range(N):
            checkpoint = checkpoints + (opening // SEGMENT * N + n).to(tl.int64) * channels
            tl.store(scratch + n * BLOCK, tl.load(checkpoint, mask=inside, other=0.0))
        tl.debug_barrier()
        # Every tile but a segment's last is followed by another, so it is a full one.
        for k in range(tiles - 1):
            start = opening + k * TILE
            row = (length - 1 - start if REVERSE else start).to(tl.int64)
            steps = ()
            inputs = ()
            for i in tl.static_range(TILE):
                raw = tl.load(delta + (row + way * i) * delta_row, mask=inside, other=0.0)
                step = step_size(raw, bias, SOFTPLUS)[1]
                x = tl.load(u + (row + way * i) * u_row, mask=inside, other=0.0).to(tl.float32)
                steps = steps + (step,)
                inputs = inputs + (step * x,)
            for n in range(N):
                r = tl.load(rate + n * channels + d, mask=inside, other=0.0)
                h = tl.load(scratch + (k * N + n) * BLOCK)
                for i in tl.static_range(TILE):
                    b_n = tl.load(b + row * B_ROW + n + way * i * B_ROW).to(tl.float32)
                    h = tl.exp2(steps[i] * r) * h + inputs[i] * b_n
                tl.store(scratch + (k * N + N + n) * BLOCK, h)
            tl.debug_barrier()

        for k in range(tiles):
            tile = tiles - 1 - k
            nominal = opening + tile * TILE
            start = tl.minimum(nominal, length - TILE)
            row = (length - 1 - start if REVERSE else start).to(tl.int64)
            steps = ()
            inputs = ()
            grads = ()
            outs = ()
            along_a = ()
            along_b = ()
            for i in tl.static_range(TILE):
                live = in_group < tl.where(start + i >= nominal, per_group, 0)
                x = tl.load(u + (row + way * i) * u_row, mask=live, other=0.0).to(tl.float32)
                raw = tl.load(delta + (row + way * i) * delta_row, mask=live, other=0.0)
                step = tl.where(live, step_size(raw, bias, SOFTPLUS)[1], 0.0)
                dy = tl.load(grad_y + (row + way * i) * grad_row, mask=live, other=0.0).to(tl.float32)
                if z is not None:
                    gate = tl.load(z + (row + way * i) * z_row, mask=live, other=0.0).to(tl.float32)
                    dy = dy * gate / (1.0 + tl.exp(-gate))
                steps = steps + (step,)
                inputs = inputs + (step * x,)
                grads = grads + (dy,)
                outs = outs + (tl.zeros((BLOCK,), tl.float32),)
                along_a = along_a + (tl.zeros((BLOCK,), tl.float32),)
                along_b = along_b + (tl.zeros((BLOCK,), tl.float32),)

            # The sums over channels for this tile's tokens come out in every 32 / TILE-th of 32 lanes.
            token = tl.arange(0, 32) // (32 // TILE)
            sums_at = (row + way * token) * ROW
            holds_sum = tl.arange(0, 32) % (32 // TILE) == 0
            holds_sum &= token >= nominal - start
            for n in range(N):
                r = tl.load(rate + n * channels + d, mask=inside, other=0.0)
                h = tl.load(scratch + (tile * N + n) * BLOCK)
                g = tl.load(flow + n * channels, mask=inside, other=0.0)
                rate_total = tl.load(grad_rate + n * channels, mask=inside, other=0.0)
                decays = ()
                carried = ()
                new_outs = ()
                products = ()
                for i in tl.static_range(TILE):
                    decay = tl.exp2(steps[i] * r)
                    carry = decay * h
                    h = carry + inputs[i] * tl.load(b + row * B_ROW + n + way * i * B_ROW).to(tl.float32)
                    if z is not None:
                        c_n = tl.load(c + row * C_ROW + n + way * i * C_ROW).to(tl.float32)
                        new_outs = new_outs + (outs[i] + h * c_n,)
                    products = products + (grads[i] * h,)
                    decays = decays + (decay,)
                    carried = carried + (carry,)
                tl.store(grad_c + sums_at + n, lane_sums(products, TILE, BLOCK), mask=holds_sum)
                new_a = ()
                new_b = ()
                products = ()
                for i in tl.static_range(TILE - 1, -1, -1):
                    b_n = tl.load(b + row * B_ROW + n + way * i * B_ROW).to(tl.float32)
                    c_n = tl.load(c + row * C_ROW + n + way * i * C_ROW).to(tl.float32)
                    g += grads[i] * c_n
                    through = g * carried[i]
                    rate_total += through * steps[i]
                    new_a = (along_a[i] + through * r,) + new_a
                    new_b = (along_b[i] + g * b_n,) + new_b
                    products = (g * inputs[i],) + products
                    g *= decays[i]
                tl.store(grad_b + sums_at + n, lane_sums(products, TILE, BLOCK), mask=holds_sum)
                tl.store(flow + n * channels, g, mask=inside)
                tl.store(grad_rate + n * channels, rate_total, mask=inside)
                along_a = new_a
                along_b = new_b
                if z is not None:
                    outs = new_outs
            tl.debug_barrier()

            for i in tl.static_range(TILE):
                live = in_group < tl.where(start + i >= nominal, per_group, 0)
                x = tl.load(u + (row + way * i) * u_row, mask=live, other=0.0).to(tl.float32)
                raw = tl.load(delta + (row + way * i) * delta_row, mask=live, other=0.0)
                raw = step_size(raw, bias, False)[0]
                du = along_b[i] * steps[i]
                # `rate` is A log2(e): the factor takes it back to A.
                d_step = along_a[i] * LN2 + along_b[i] * x
                if SOFTPLUS:
                    d_step = d_step / (1.0 + tl.exp(-raw))
                if bias is not None:
                    bias_total += tl.where(live, d_step, 0.0)
                if skip is not None:
                    du += grads[i] * skip
                    skip_total += grads[i] * x
                if z is not None:
                    gate = tl.load(z + (row + way * i) * z_row, mask=live, other=0.0).to(tl.float32)
                    dy = tl.load(grad_y + (row + way * i) * grad_row, mask=live, other=0.0).to(tl.float32)
                    out = outs[i] + (x * skip if skip is not None else 0.0)
                    sigmoid = 1.0 / (1.0 + tl.exp(-gate))
                    dz = dy * out * sigmoid * (1.0 + gate * (1.0 - sigmoid))
                    tl.store(grad_z + (row + way * i) * channels, dz, mask=live)
                tl.store(grad_u + (row + way * i) * channels, du, mask=live)
                tl.store(grad_delta + (row + way * i) * channels, d_step, mask=live)

    if skip is not None:
        tl.store(grad_skip + part * channels + d, skip_total, mask=inside)
    if bias is not None:
        tl.store(grad_bias + part * channels + d, bias_total, mask=inside)
