"""A transformer of scikit-learn: recordings to scene embeddings, for pipelines and cross-validation."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from ..embedding.embedder import AudioEmbedder
from ..hear import load_model
from .clips import embed_clips, samples_of


class AudioMambaTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # no types in the library
    """Recordings to embeddings; there is nothing to fit.

    Args:
        model: a name, file or hub id for `load_model`.
        batch_size: most clips computed at once.
        device: where to compute; by default a GPU if there is one.
    """

    def __init__(self, model: str = "", batch_size: int = 16, device: str | None = None) -> None:
        self.model = model
        self.batch_size = batch_size
        self.device = device

    def fit(self, X: Sequence[Any], y: Any = None) -> AudioMambaTransformer:
        """Do nothing but return itself; the model is loaded when first used."""
        return self

    @functools.cached_property
    def embedder_(self) -> AudioEmbedder:
        """The model."""
        return load_model(self.model, device=self.device)

    def transform(self, X: Sequence[Any]) -> NDArray[np.float32]:
        """Return the scene embeddings `(n, K)` of recordings.

        Args:
            X: paths, arrays at the model's rate, or mappings with "array" and "sampling_rate".
        """
        clips = [samples_of(clip, self.embedder_.sample_rate) for clip in X]
        with torch.no_grad():
            embeddings: NDArray[np.float32] = (
                embed_clips(self.embedder_, clips, batch_size=self.batch_size).cpu().numpy()
            )
        return embeddings

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn that a model needs no fitting."""
        return True
