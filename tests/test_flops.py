"""Operation counts against a count by hand and against VMamba's published one."""

import pytest

from hear_audiomamba.config import LogMelConfig, ModelConfig, SSAMConfig
from hear_audiomamba.models.flops import count_flops
from hear_audiomamba.models.registry import VARIANTS


def test_one_causal_block_by_hand():
    encoder = SSAMConfig(embed_dim=32, depth=1, d_state=8, expand=2)
    found = count_flops(ModelConfig("ssam", "x", LogMelConfig(), encoder), seconds=2.0)
    tokens, d, inner, rank, states = 251, 32, 64, 2, 8
    block = d * 2 * inner + inner * (rank + 2 * states) + rank * inner + inner * d
    patches = 250 * 4 * 16 * d
    assert found.products == 2 * (tokens * block + patches)
    assert found.scans == tokens * inner * (9 * states + 3)
    assert found.windows == 1 and found.total == found.products + found.scans


def test_vmamba_tiny_has_its_published_count():
    """VMamba-T [s1l8]: 4.9 G multiply-adds for 224 × 224; our image is 256 × 256 of one channel."""
    found = count_flops(VARIANTS["hiermamba_tiny"].config, 10.0, window_seconds=10.0)
    assert found.products / 2 * (224 / 256) ** 2 == pytest.approx(4.86e9, rel=0.03)


def test_a_second_window_counts_whole():
    config = VARIANTS["ssam_tiny_200_16x4"].config
    one, two = count_flops(config, 2.0), count_flops(config, 2.5)
    assert (one.windows, two.windows) == (1, 2) and two.total == 2 * one.total
