"""What other libraries call an audio input, as samples; and clips of any lengths, embedded together."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..embedding.embedder import AudioEmbedder
from ..embedding.recordings import read_recording
from ..errors import InputError

BATCH = 16


@runtime_checkable
class Decoder(Protocol):
    """What torchcodec's AudioDecoder offers."""

    def get_all_samples(self) -> Any:
        """Return an object with `data` `(channels, samples)` and `sample_rate`."""


def samples_of(clip: Any, sample_rate: int) -> NDArray[np.floating]:
    """Return an audio input of another library as samples.

    Args:
        clip: a path or open file; samples `(n,)` or `(channels, n)` at `sample_rate`; a mapping with "array" and
            "sampling_rate", or with "bytes" (a file's) or "path" (the datasets library); or torchcodec's AudioDecoder.
        sample_rate: of the result, Hz.

    Returns:
        `(n,)` float32, n ≥ 1.

    Raises:
        AudioReadError: a file cannot be decoded.
        InputError: what is given is no audio.
    """
    if isinstance(clip, Mapping):
        array = clip.get("array")
        if array is None:
            if clip.get("bytes"):
                return read_recording(io.BytesIO(clip["bytes"]), sample_rate)
            if clip.get("path"):
                return read_recording(clip["path"], sample_rate)
            raise InputError(f"audio: expected the keys 'array' and 'sampling_rate', got {sorted(clip)}")
        return read_recording(_array(array), sample_rate, given_rate=clip.get("sampling_rate"))
    if isinstance(clip, Decoder):
        decoded = clip.get_all_samples()
        return read_recording(decoded.data, sample_rate, given_rate=decoded.sample_rate)
    if isinstance(clip, (np.ndarray, Tensor, list, tuple)):
        return read_recording(_array(clip), sample_rate, given_rate=sample_rate)
    return read_recording(clip, sample_rate)


def embed_clips(
    model: AudioEmbedder, clips: Sequence[NDArray[np.floating]], *, batch_size: int = BATCH
) -> Tensor:
    """Return one embedding for each clip, which does not depend on the clips beside it.

    Clips of the same length share a batch. No clip is padded to the length of another.

    Args:
        model: what `load_model` returned.
        clips: each `(n,)` in [-1, 1] at the model's rate.
        batch_size: most clips computed at once.

    Returns:
        `(len(clips), K)` float32, on the model's device, with gradients where they are on.
    """
    places: dict[int, list[int]] = {}
    for place, clip in enumerate(clips):
        places.setdefault(len(clip), []).append(place)
    found: list[Tensor | None] = [None] * len(clips)
    for same in places.values():
        for start in range(0, len(same), batch_size):
            batch = same[start : start + batch_size]
            scenes = model.embed(torch.as_tensor(np.stack([clips[place] for place in batch])))
            for place, scene in zip(batch, scenes, strict=True):
                found[place] = scene
    if not found:
        return torch.zeros(0, model.scene_embedding_size, device=model.device)
    return torch.stack([scene for scene in found if scene is not None])


def _array(values: Any) -> NDArray[np.floating] | Tensor:
    if isinstance(values, (np.ndarray, Tensor)):
        return values
    return np.asarray(values, np.float32)
