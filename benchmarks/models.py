"""The models that the benchmarks measure: of a variant's architecture, with every block computed."""

from __future__ import annotations

from typing import Any

import torch

from hear_audiomamba.embedding.embedder import AudioEmbedder
from hear_audiomamba.models.families import all_blocks, build_modules
from hear_audiomamba.models.registry import find_variant


def whole_model(variant: str, device: str = "cpu", seed: int = 0, **options: Any) -> AudioEmbedder:
    """Return a model with random weights whose blocks are all run and all add something.

    Bundled weights may be of fewer trained blocks than the variant has; what such a model saves is no
    speed of the code, so comparisons are made without weights.

    Args:
        variant: a name of the registry.
        device: where to put it.
        seed: of the weights.
        options: of `AudioEmbedder`.
    """
    config = find_variant(variant).config
    config = config.replace(encoder=all_blocks(config.encoder))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        features, encoder = build_modules(config)
    return AudioEmbedder(config, features, encoder, **options).to(device)
