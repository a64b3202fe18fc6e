"""Models for X-ARES, which takes an encoder from a Python file.

    from hear_audiomamba.adapters.xares import AudioMambaEncoder

To install: `pip install 'hear_audiomamba[xares]'`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..hear import load_model


class AudioMambaEncoder(nn.Module):
    """An encoder by X-ARES' rules: waveforms to embeddings at regular times.

    Args:
        name: what `load_model` takes as a variant; by default the default model.
        options: keywords for `load_model`.

    Attributes:
        sampling_rate: of the audio, Hz.
        output_dim: D.
        hop_size_in_ms: time between two embeddings.
    """

    def __init__(self, name: str | None = None, **options: Any) -> None:
        super().__init__()
        self.model = load_model(variant=name, **options)
        self.sampling_rate = self.model.sample_rate
        self.output_dim = self.model.timestamp_embedding_size
        with torch.no_grad():
            _, times = self.model.timestamps(torch.zeros(1, self.sampling_rate))
        self.hop_size_in_ms = round(float(times[0].diff().mean()), 3)

    def forward(self, audio: Tensor) -> Tensor:
        """Return the embeddings `(B, T, D)` of clips `(B, S)` of one length."""
        return self.model.embed_timestamps(audio)[0]
