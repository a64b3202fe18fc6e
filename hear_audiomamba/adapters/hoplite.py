"""Models for perch-hoplite, a vector database with search and agile modelling for bioacoustics.

from perch_hoplite.agile.embed import EmbedWorker
from hear_audiomamba.adapters.hoplite import AudioMambaModel

EmbedWorker(sources, config, db, embedding_model=AudioMambaModel.of("ssam_tiny", window_size_s=5.0))
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from ml_collections import config_dict
from numpy.typing import NDArray
from perch_hoplite.zoo import zoo_interface

from ..embedding.embedder import AudioEmbedder
from ..errors import ConfigError
from ..hear import load_model

BATCH = 16


@dataclasses.dataclass
class AudioMambaModel(zoo_interface.EmbeddingModel):  # type: ignore[misc]  # the library has no types here
    """A model in hoplite's form: each window of a recording gets one scene embedding.

    Attributes:
        model: what `load_model` returned.
        window_size_s: length of a window, seconds.
        hop_size_s: from one window to the next, seconds.
    """

    model: AudioEmbedder
    window_size_s: float = 5.0
    hop_size_s: float = 5.0

    @classmethod
    def of(
        cls, name: str = "", *, window_size_s: float = 5.0, hop_size_s: float | None = None, **options: Any
    ) -> AudioMambaModel:
        """Return a model by name.

        Args:
            name: what `load_model` takes.
            window_size_s: length of a window, seconds.
            hop_size_s: from one window to the next, seconds; by default the window's length.
            options: keywords for `load_model`.
        """
        hop = window_size_s if hop_size_s is None else hop_size_s
        if not (window_size_s > 0 and hop > 0):
            raise ConfigError(f"window_size_s {window_size_s} and hop_size_s {hop}: expected more than 0")
        model = load_model(name, **options)
        return cls(model.sample_rate, model, window_size_s, hop)

    @classmethod
    def from_config(cls, model_config: config_dict.ConfigDict) -> AudioMambaModel:
        """Return the model of a configuration with the keywords of `of`."""
        return cls.of(**dict(model_config))

    def embed(self, audio_array: NDArray[np.floating]) -> zoo_interface.InferenceOutputs:
        """Return the embeddings `(frames, 1, K)` of a recording `(samples,)`."""
        return zoo_interface.embed_from_batch_embed_fn(self.batch_embed, audio_array)

    def batch_embed(self, audio_batch: NDArray[np.floating]) -> zoo_interface.InferenceOutputs:
        """Return the embeddings `(B, frames, 1, K)` of recordings of one length `(B, samples)`."""
        framed = self.frame_audio(audio_batch, self.window_size_s, self.hop_size_s)
        windows = torch.as_tensor(np.ascontiguousarray(framed, np.float32)).flatten(0, -2)
        scenes = torch.cat([self.model.scene(batch) for batch in windows.split(BATCH)]).cpu().numpy()
        return zoo_interface.InferenceOutputs(
            embeddings=scenes.reshape(*framed.shape[:-1], 1, -1), batched=True
        )
