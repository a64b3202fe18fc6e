"""Columns of the datasets library: from audio to embeddings.

    from datasets import load_dataset
    from hear_audiomamba.adapters.datasets import add_embeddings

    dataset = add_embeddings(load_dataset("audiofolder", data_dir="recordings", split="train"), "ssam_tiny")

To install: `pip install 'hear_audiomamba[datasets]'`.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from datasets import Audio, Dataset, IterableDataset, List, Value

from ..embedding.embedder import AudioEmbedder
from ..errors import AudioReadError, InputError, did_you_mean
from ..hear import load_model
from .clips import BATCH, embed_clips, samples_of

AnyDataset = TypeVar("AnyDataset", Dataset, IterableDataset)


def add_embeddings(
    dataset: AnyDataset,
    model: str | AudioEmbedder = "",
    *,
    column: str = "audio",
    name: str = "embedding",
    batch_size: int = BATCH,
) -> AnyDataset:
    """Add a column of scene embeddings to a dataset.

    The audio is decoded and resampled by this package, so torchcodec is not needed.

    Args:
        dataset: a dataset with a column of `Audio`, of paths, or of samples at the model's rate.
        model: a name, file or hub id for `load_model`, or what it returned.
        column: where the audio is.
        name: of the new column.
        batch_size: rows read at once, and most clips computed at once.

    Returns:
        The dataset with one more column, lists of K float32; the column of audio is as it was.

    Raises:
        InputError: there is no column of that name, or a row holds no audio; says which row.
        AudioReadError: a file cannot be decoded; says in which row.
    """
    embedder = model if isinstance(model, AudioEmbedder) else load_model(model)
    features = dataset.features
    if features is None or column not in features:
        raise InputError(f"column {column!r} is not in the dataset; {did_you_mean(column, features or ())}")
    # Undecoded audio is the file's path or its bytes.
    audio = features[column]
    raw = dataset.cast_column(column, Audio(decode=False)) if isinstance(audio, Audio) else dataset

    def embed(clips: list[Any], rows: list[int]) -> dict[str, Any]:
        samples = []
        for clip, row in zip(clips, rows, strict=True):
            try:
                samples.append(samples_of(clip, embedder.sample_rate))
            except (AudioReadError, InputError) as error:
                raise type(error)(f"row {row}: {error}") from None
        with torch.no_grad():
            return {name: embed_clips(embedder, samples, batch_size=batch_size).cpu().numpy()}

    new = {**raw.features, name: List(Value("float32"), length=embedder.scene_embedding_size)}
    done = raw.map(
        embed, input_columns=[column], with_indices=True, batched=True, batch_size=batch_size,
        features=type(features)(new),
    )  # fmt: skip
    return done.cast_column(column, audio) if isinstance(audio, Audio) else done
