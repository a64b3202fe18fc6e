"""A model as a module of sentence-transformers, for audio embeddings by `SentenceTransformer.encode`.

    from hear_audiomamba.adapters.sentence_transformers import sentence_transformer

    model = sentence_transformer("ssam_tiny")
    model.encode(["a.wav", {"array": samples, "sampling_rate": 44100}])

To install: `pip install 'hear_audiomamba[sentence-transformers]'`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.input_module import InputModule

from ..embedding.embedder import AudioEmbedder
from ..errors import InputError
from ..hear import load_model
from .clips import embed_clips, samples_of

WEIGHTS = "model.safetensors"


class AudioMamba(InputModule):  # type: ignore[misc]  # the library has no types here
    """The first and only module of a SentenceTransformer: recordings to scene embeddings.

    Args:
        model: what `load_model` returned.
    """

    def __init__(self, model: AudioEmbedder) -> None:
        super().__init__()
        self.model = model

    @property
    def modalities(self) -> list[str]:
        """What it takes: audio only."""
        return ["audio"]

    @property
    def max_seq_length(self) -> None:
        """Recordings may have any length."""
        return None

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Read and resample recordings.

        Args:
            inputs: paths, arrays at the model's rate, mappings with "array" and "sampling_rate", or decoders;
                their rates may differ.
            prompt: not for audio.

        Returns:
            Features for `forward`.
        """
        if prompt:
            raise InputError(f"prompt: {prompt!r} was given, but a recording takes none")
        return {"modality": "audio", "clips": [samples_of(clip, self.model.sample_rate) for clip in inputs]}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add "sentence_embedding" `(B, K)` to the features."""
        features["sentence_embedding"] = embed_clips(self.model, features["clips"])
        return features

    def get_embedding_dimension(self) -> int:
        """Return K."""
        return self.model.scene_embedding_size

    def get_sentence_embedding_dimension(self) -> int:
        """Return K, under the library's older name."""
        return self.get_embedding_dimension()

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Write the weights with all their settings into a folder."""
        self.model.save(Path(output_path) / WEIGHTS)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        **kwargs: Any,
    ) -> AudioMamba:
        """Read what `save` wrote, from a folder or the hub."""
        path = cls.load_file_path(
            model_name_or_path, WEIGHTS, subfolder=subfolder, token=token, cache_folder=cache_folder,
            revision=revision, local_files_only=local_files_only,
        )  # fmt: skip
        return cls(load_model(path, device="cpu"))


def sentence_transformer(model: str | Path | AudioEmbedder = "", **options: Any) -> SentenceTransformer:
    """Return a SentenceTransformer of a model.

    Args:
        model: a name, file or hub id for `load_model`, or what it returned.
        options: keywords for `load_model`.

    Returns:
        A model whose `encode` takes recordings, and whose `similarity` is the cosine.
    """
    if not isinstance(model, AudioEmbedder):
        model = load_model(model, **options)
    device = str(model.device)
    return SentenceTransformer(modules=[AudioMamba(model)], device=device, similarity_fn_name="cosine")
