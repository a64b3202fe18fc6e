"""What the results of a run depend on, besides the audio: it stands in every file and decides what may be continued."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from ..embedding.embedder import AudioEmbedder
from .options import EmbedOptions
from .writers import Product, Provenance

_UNSAID = (("columns", "default"),)  # so that archives from before this option can be continued


def describe(model: AudioEmbedder, options: EmbedOptions, product: Product | None = None) -> Provenance:
    """Return all that a run's results depend on, besides the audio."""
    settings: dict[str, Any] = {
        "options": {key: value for key, value in options.to_dict().items() if (key, value) not in _UNSAID},
        "config": model.config.to_dict(),
        "window_frames": model.window_frames,
        "precision": model.precision,
        "timestamps": model.timestamp_kind,
        "compat": model.compat,
    }
    if product is not None:
        settings["product"] = product.settings
    return Provenance(model.config.variant, weights_hash(model), settings)


def weights_hash(model: AudioEmbedder) -> str:
    """Return a SHA-256 over names, shapes and values of the encoder's tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.encoder.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
