"""Moments of pieces are those of the whole, wherever the cuts lie."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_audiomamba.io.moments import Moments


@settings(max_examples=50, deadline=None)
@given(cuts=st.lists(st.integers(0, 500), max_size=6), seed=st.integers(0, 99), offset=st.floats(-1e3, 1e3))
def test_pieces_give_the_moments_of_the_whole(cuts, seed, offset):
    rows = np.random.default_rng(seed).standard_normal((500, 7)) + offset
    moments = Moments()
    edges = [0, *sorted(cuts), 500]
    for first, last in itertools.pairwise(edges):
        moments.add(rows[first:last])
    # Sums of 500 values about `offset`, in float64: relative errors of 500 roundings at the most.
    scale = 500 * np.finfo(np.float64).eps * (abs(offset) + 10)
    assert moments.count == 500
    np.testing.assert_allclose(moments.mean, rows.mean(axis=0), rtol=0, atol=scale)
    np.testing.assert_allclose(moments.std, rows.std(axis=0), rtol=1e-9, atol=scale)
    for ddof in (0, 1):
        mean, std = moments.overall(ddof)
        assert mean == pytest.approx(rows.mean(), abs=scale)
        assert std == pytest.approx(rows.std(ddof=ddof), rel=1e-9, abs=scale)


def test_before_anything_was_seen_and_after_one_value():
    moments = Moments()
    assert moments.overall() == (0.0, 0.0)
    moments.add(np.zeros((0, 3)))
    moments.add(np.full((1, 1), 2.5, dtype=np.float32))
    assert moments.overall(1) == (2.5, 0.0)
    assert moments.std.tolist() == [0.0]
