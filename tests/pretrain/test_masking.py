"""Masks hide exactly as many patches as asked, in the encoder's order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hear_audiomamba.errors import ConfigError
from hear_audiomamba.pretrain.config import MaskConfig
from hear_audiomamba.pretrain.data.masking import MaskSampler


@given(
    kind=st.sampled_from(["random", "clusters"]),
    grid=st.tuples(st.integers(1, 64), st.integers(1, 8)).filter(lambda g: g[0] * g[1] > 1),
    share=st.floats(0.01, 0.99),
    low=st.integers(1, 6),
    extra=st.integers(0, 3),
    seed=st.integers(0, 9),
)
def test_the_count_is_exact(kind, grid, share, low, extra, seed):
    total = grid[0] * grid[1]
    count = min(max(1, round(share * total)), total - 1)
    sampler = MaskSampler(MaskConfig(kind=kind, count=count, cluster=(low, low + extra)), grid)
    mask = sampler.draw(np.random.default_rng(seed))
    assert mask.shape == (total,) and mask.dtype == bool and mask.sum() == count


def test_half_of_ssam_is_125_patches_as_published():
    assert MaskSampler(MaskConfig(), (50, 5)).count == 125


def test_clusters_are_squares_in_time_and_frequency():
    config = MaskConfig(kind="clusters", count=9, cluster=(3, 3))
    for seed in range(50):
        planes = {}
        for order, shape in (("time", (64, 8)), ("frequency", (8, 64))):
            mask = MaskSampler(config, (64, 8), order).draw(np.random.default_rng(seed))
            planes[order] = mask.reshape(shape) if order == "time" else mask.reshape(shape).T
        np.testing.assert_array_equal(planes["time"], planes["frequency"])
        t, f = np.nonzero(planes["time"])
        if t.max() - t.min() == 2 and f.max() - f.min() == 2:
            return
    pytest.fail("no draw was a single whole square")


def test_every_patch_is_hidden_about_as_often():
    sampler = MaskSampler(MaskConfig(kind="clusters", count=250), (64, 8))
    rng = np.random.default_rng(0)
    share = np.mean([sampler.draw(rng) for _ in range(300)], axis=0)
    assert share.min() > 0.3 and share.max() < 0.7


@pytest.mark.parametrize("count", [0, 250, 400])
def test_masking_nothing_or_everything_is_refused(count):
    with pytest.raises(ConfigError, match="a clip has 250"):
        MaskSampler(MaskConfig(count=count), (50, 5))
