"""The causal convolution against torch's own, at every size, direction and state."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_audiomamba.ops import causal_conv1d, use_backend

from .cases import assert_close, with_gradients


def by_torch(x, weight, bias=None, initial_state=None, *, activation, reverse):
    """The same operator through `F.conv1d`: flip, pad, convolve, flip."""
    channels, taps = weight.shape
    x = x.flip(1) if reverse else x
    past = x.new_zeros(x.shape[0], channels, taps - 1) if initial_state is None else initial_state
    padded = torch.cat([past, x.transpose(1, 2)], dim=2)
    y = F.conv1d(padded, weight.unsqueeze(1), bias, groups=channels).transpose(1, 2)
    y = F.silu(y) if activation else y
    return (y.flip(1) if reverse else y), padded[..., padded.shape[2] - (taps - 1) :]


def conv_inputs(batch, length, channels, taps, optional, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = {
        "x": torch.randn(batch, length, channels, generator=generator),
        "weight": torch.randn(channels, taps, generator=generator),
    }
    if optional:
        inputs["bias"] = torch.randn(channels, generator=generator)
        inputs["initial_state"] = torch.randn(batch, channels, taps - 1, generator=generator)
    return inputs


@settings(max_examples=60)
@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 30),
    channels=st.integers(1, 150),
    taps=st.integers(1, 16),
    optional=st.booleans(),
    reverse=st.booleans(),
    activation=st.sampled_from(("silu", None)),
    backend=st.sampled_from(("reference", None)),
)
def test_any_shape_agrees_with_torch(batch, length, channels, taps, optional, reverse, activation, backend):
    inputs = conv_inputs(batch, length, channels, taps, optional, seed=length)
    options = {"activation": activation, "reverse": reverse}
    with use_backend(backend):
        actual = with_gradients(lambda **k: causal_conv1d(**k, **options, return_last_state=True), inputs)
    assert_close(actual, with_gradients(lambda **k: by_torch(**k, **options), inputs, torch.float64), 1e-6)


def test_strided_views_and_a_clip_in_pieces(isa):
    xz = torch.randn(2, 40, 100)
    x, weight, bias = xz[..., 50:], torch.randn(50, 4), torch.randn(50)
    whole, last = causal_conv1d(x, weight, bias, return_last_state=True)
    expected, _ = by_torch(*(t.double() for t in (x, weight, bias)), activation="silu", reverse=False)
    assert_close([whole], [expected], 1e-6)
    state, pieces = None, []
    for part in (slice(0, 1), slice(1, 3), slice(3, 40)):
        y, state = causal_conv1d(x[:, part], weight, bias, initial_state=state, return_last_state=True)
        pieces.append(y)
    assert torch.equal(torch.cat(pieces, 1), whole) and torch.equal(state, last)


def test_bfloat16_keeps_its_dtype(isa):
    x, weight, bias = torch.randn(2, 40, 50).bfloat16(), torch.randn(50, 4), torch.randn(50)
    y = causal_conv1d(x, weight, bias)
    assert y.dtype == torch.bfloat16
    expected, _ = by_torch(*(t.double() for t in (x, weight, bias)), activation="silu", reverse=False)
    assert_close([y], [expected], 5e-3)


def test_threads_do_not_change_a_bit(isa):
    inputs = conv_inputs(3, 33, 200, 4, True)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(with_gradients(causal_conv1d, inputs))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
