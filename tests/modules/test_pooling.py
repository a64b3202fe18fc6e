"""Pooling against loops over clips, whole and in pieces, and smoothing against its matrix."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hear_audiomamba.embedding.pooling import pool_parts, pool_rows, smooth_rows


@pytest.mark.parametrize("pooling", ["mean", "mean_plus_max"])
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_padding_does_not_count(pooling, lengths, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(len(lengths), 9, 3, generator=generator)
    found = pool_rows(rows, pooling, torch.tensor(lengths))
    for clip, length, scene in zip(rows, lengths, found):
        own = clip[:length]
        expected = own.mean(0) if pooling == "mean" else own.mean(0) + own.max(0).values
        torch.testing.assert_close(scene, expected)
        torch.testing.assert_close(pool_rows(own[None], pooling)[0], expected)


def test_pieces_make_the_whole():
    rows = torch.randn(1, 10, 4) - 5.0  # all negative: padding must not win the maximum
    pieces = torch.stack([rows[0, :6], torch.nn.functional.pad(rows[0, 6:], (0, 0, 0, 2))])
    totals, largest = pool_parts(pieces, torch.tensor([6, 4]), "mean_plus_max")
    torch.testing.assert_close(totals.sum(0) / 10 + largest.amax(0), pool_rows(rows, "mean_plus_max")[0])
    assert pool_parts(pieces, torch.tensor([6, 4]), "mean")[1] is None


@given(
    n_rows=st.integers(1, 200),
    time_constant=st.one_of(st.floats(1e-3, 30.0), st.floats(1e3, 1e9)),
    seed=st.integers(0, 99),
)
def test_smoothed_rows_are_a_quarter_themselves_and_else_a_weighted_mean(n_rows, time_constant, seed):
    rows = torch.randn(2, n_rows, 3, generator=torch.Generator().manual_seed(seed))
    distance = (torch.arange(n_rows)[:, None] - torch.arange(n_rows)).abs()
    weights = torch.exp(-distance / time_constant)
    weights[distance > math.ceil(5 * time_constant)] = 0.0
    expected = 0.25 * rows + 0.75 * (weights / weights.sum(1, keepdim=True) @ rows)
    torch.testing.assert_close(smooth_rows(rows, time_constant), expected, atol=1e-5, rtol=0)


def test_no_smoothing_leaves_the_rows():
    rows = torch.randn(1, 5, 2)
    assert smooth_rows(rows, 0.0) is rows
