"""What the benchmarks compare is what they say: every block of every side is computed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from hear_audiomamba.models.registry import list_models
from hear_audiomamba.modules.mamba import MambaBlock
from hear_audiomamba.modules.transformer import TransformerBlock

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import models
from timing import ratio, spread, take_turns

NAMES = [name for name in list_models() if "_tiny" in name and not name.startswith("hiermamba")]


@pytest.mark.parametrize("name", NAMES)
def test_every_block_is_computed_and_adds_something(name):
    model = models.whole_model(name, window_seconds=0.5)
    blocks = [m for m in model.encoder.modules() if isinstance(m, (MambaBlock, TransformerBlock))]
    assert len(blocks) == model.encoder.depth
    added = []
    for block in blocks:

        def note(module, inputs, output):
            added.append((module, (output - inputs[0]).abs().max().item()))

        block.register_forward_hook(note)
    model.scene(torch.rand(1, 8000) - 0.5)
    assert [module for module, _ in added] == blocks
    assert all(change > 0 for _, change in added)


def test_a_spread_is_shown_of_five_pairs_or_more():
    assert spread(ratio([2.0] * 5, [1.0, 1.0, 1.0, 2.0, 0.5]), 1) == "2.0 (1.0–4.0)"
    assert spread(ratio([2.0], [1.0]), 1) == "2.0 (1 pair)"


def test_sides_take_turns_and_slow_ones_take_part_in_the_first_rounds_only():
    order: list[str] = []
    sides = {name: (lambda name=name: order.append(name)) for name in ("ours", "slow")}
    times = take_turns(sides, rounds=3, warmup=1, few={"slow": 2})
    assert order == ["ours", "ours", "slow", "ours", "slow", "ours"]
    assert {name: len(seconds) for name, seconds in times.items()} == {"ours": 3, "slow": 2}
