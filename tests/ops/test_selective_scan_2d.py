"""The four-direction scan of a map against four separate scans of reordered copies."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_audiomamba.ops import selective_scan, selective_scan_2d

from .cases import assert_close, map_inputs, with_gradients


def four_flips(u, delta, A, B, C, D, delta_bias, height, width):
    """SS2D as its authors write it: copy the map in four orders, scan each, flip back, add."""
    channels = u.shape[2]

    def ordered(tensor, direction):
        grid = tensor.unflatten(1, (height, width))
        flat = (grid.transpose(1, 2) if direction % 2 else grid).flatten(1, 2)
        return flat.flip(1) if direction >= 2 else flat

    total = torch.zeros_like(u)
    for direction in range(4):
        own = slice(direction * channels, (direction + 1) * channels)
        y = selective_scan(
            ordered(u, direction),
            ordered(delta[:, :, direction], direction),
            A[own],
            ordered(B[:, :, direction], direction),
            ordered(C[:, :, direction], direction),
            D[own],
            delta_bias=delta_bias[own],
            delta_softplus=True,
            backend="reference",
        )
        y = y.flip(1) if direction >= 2 else y
        if direction % 2:
            y = y.unflatten(1, (width, height)).transpose(1, 2).flatten(1, 2)
        total = total + y
    return total


def test_map_scan_is_four_scans(engine):
    inputs = map_inputs(2, 5, 7, 21, 3)
    actual = with_gradients(lambda **k: selective_scan_2d(**k, height=5, width=7), inputs)
    expected = with_gradients(lambda **k: four_flips(**k, height=5, width=7), inputs, torch.float64)
    assert_close(actual, expected)


@settings(max_examples=20)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.integers(1, 70),
    states=st.sampled_from((1, 4, 16)),
)
def test_any_map_agrees_with_the_reference(height, width, channels, states):
    inputs = map_inputs(1, height, width, channels, states, seed=height * width)
    actual = with_gradients(lambda **k: selective_scan_2d(**k, height=height, width=width), inputs)
    expected = with_gradients(lambda **k: four_flips(**k, height=height, width=width), inputs, torch.float64)
    assert_close(actual, expected)


def test_strided_maps_and_bfloat16(isa):
    inputs = map_inputs(2, 4, 6, 32, 2)
    wide = torch.zeros(2, 24, 96)
    wide[..., 32:64] = inputs["u"]
    inputs["u"] = wide[..., 32:64]
    expected = four_flips(**{k: v.double() for k, v in inputs.items()}, height=4, width=6)
    assert_close([selective_scan_2d(**inputs, height=4, width=6)], [expected])
    half = {k: v.bfloat16() if k in ("u", "delta", "B", "C") else v for k, v in inputs.items()}
    y = selective_scan_2d(**half, height=4, width=6)
    assert y.dtype == torch.bfloat16
    assert_close([y], [four_flips(**{k: v.double() for k, v in half.items()}, height=4, width=6)], 5e-3)


def test_threads_do_not_change_a_bit(isa):
    inputs = map_inputs(2, 6, 6, 130, 4)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(with_gradients(lambda **k: selective_scan_2d(**k, height=6, width=6), inputs))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
