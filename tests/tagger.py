"""A small model with classes of its own, as `hear-audiomamba finetune` leaves one."""

from __future__ import annotations

from pathlib import Path

import torch

from hear_audiomamba.models.families import build_modules, with_options
from hear_audiomamba.models.registry import find_variant
from hear_audiomamba.models.weights import save_weights

CLASSES = ("high", "low|er")


def write_tagger(path: Path, single_label: bool = False) -> Path:
    """Write a weights file of a small SSAMBA with random weights and two classes."""
    options = {"embed_dim": 48, "depth": 2, "d_state": 4, "num_classes": len(CLASSES)}
    config = with_options(find_variant("ssamba_tiny").config, options).replace(
        labels=CLASSES, single_label=single_label
    )
    torch.manual_seed(0)
    _, encoder = build_modules(config)
    return save_weights(path, encoder.state_dict(), config)
