"""A transformer of scikit-learn: recordings to scene embeddings, for pipelines and cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from ..embedding.embedder import AudioEmbedder
from ..errors import InputError, shown
from ..hear import load_model
from .clips import embed_clips, samples_of


class AudioMambaTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # no types in the library
    """Recordings to embeddings; there is nothing to fit.

    Pickles hold the model once it has been used, and give the same embeddings where they are opened.

    Args:
        model: a name, file or hub id for `load_model`, or what it returned.
        batch_size: most clips computed at once.
        device: where to compute; by default a GPU if there is one. A model that is given stays where it is.
    """

    # The model in use, with the parameters that it was loaded by; scikit-learn may change these at any time.
    _loaded: tuple[tuple[str, str | None], AudioEmbedder] | None = None

    def __init__(
        self, model: str | Path | AudioEmbedder = "", batch_size: int = 16, device: str | None = None
    ) -> None:
        self.model = model
        self.batch_size = batch_size
        self.device = device

    def fit(self, X: Sequence[Any], y: Any = None) -> AudioMambaTransformer:
        """Do nothing but return itself; the model is loaded when first used."""
        return self

    @property
    def embedder_(self) -> AudioEmbedder:
        """The model."""
        if isinstance(self.model, AudioEmbedder):
            return self.model
        wanted = (str(self.model), self.device)
        if self._loaded is None or self._loaded[0] != wanted:
            self._loaded = wanted, load_model(self.model, device=self.device)
        return self._loaded[1]

    def transform(self, X: Sequence[Any]) -> NDArray[np.float32]:
        """Return the scene embeddings `(n, K)` of recordings.

        Args:
            X: paths, arrays at the model's rate, or mappings with "array" and "sampling_rate".

        Raises:
            AudioReadError: a file cannot be decoded.
            InputError: a single path instead of several, or no audio.
        """
        if isinstance(X, (str, Path)):
            raise InputError(f"X: expected a list of recordings, got {shown(X)}; put it into a list")
        clips = [samples_of(clip, self.embedder_.sample_rate) for clip in X]
        with torch.no_grad():
            embeddings: NDArray[np.float32] = (
                embed_clips(self.embedder_, clips, batch_size=self.batch_size).cpu().numpy()
            )
        return embeddings

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the names of the columns, "e0" and so on, which `set_output(transform="pandas")` uses."""
        return np.array([f"e{i}" for i in range(self.embedder_.scene_embedding_size)], object)

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn that a model needs no fitting."""
        return True
