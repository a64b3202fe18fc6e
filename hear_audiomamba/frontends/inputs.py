"""What a batch of clips is: a check of its type and shape, which costs nothing."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError

# An array `(n_samples, n_channels)` reads as very many clips of next to no samples.
_SHORTEST_BATCH_CLIP, _MANY_TIMES = 400, 10


def as_batch(audio: Tensor | NDArray[np.floating]) -> Tensor:
    """Return a batch of clips as float32 after checking its type and shape, not its values.

    Args:
        audio: `(n_sounds, n_samples)` floating point, both at least 1; a tensor or an array.

    Returns:
        The same values, float32.

    Raises:
        InputError: wrong type, dtype or rank, transposed, or nothing in it.
    """
    if isinstance(audio, np.ndarray):
        audio = _from_array(audio)
    if not isinstance(audio, Tensor):
        raise InputError(
            "audio: expected a torch.Tensor or a numpy array of shape (n_sounds, n_samples), "
            f"got {type(audio).__name__}"
        )
    if audio.layout != torch.strided or audio.is_nested or audio.device.type == "meta":
        kind = "nested" if audio.is_nested else f"{audio.layout} on {audio.device}".removeprefix("torch.")
        raise InputError(f"audio: {kind}, expected a dense tensor with its values: one length for all clips")
    if not audio.is_floating_point():
        raise InputError(
            f"audio: dtype {audio.dtype} is not floating point; scale integer samples to [-1, 1] "
            "(int16: audio.float() / 32768)"
        )
    if audio.dim() != 2:
        hint = "; add a batch axis with audio[None]" if audio.dim() == 1 else ""
        raise InputError(f"audio: shape {tuple(audio.shape)}, expected (n_sounds, n_samples){hint}")
    if audio.shape[0] == 0 or audio.shape[1] == 0:
        raise InputError(
            f"audio: shape {tuple(audio.shape)} is empty, expected (n_sounds, n_samples) with at least one sample"
        )
    n_sounds, n_samples = audio.shape
    if n_samples < _SHORTEST_BATCH_CLIP and n_sounds > max(_MANY_TIMES * n_samples, _SHORTEST_BATCH_CLIP):
        raise InputError(
            f"audio: shape {tuple(audio.shape)} would be {n_sounds} clips of {n_samples} samples; "
            "it looks transposed: pass audio.T"
        )
    return audio.float()


def _from_array(audio: NDArray[np.floating]) -> Tensor:
    if audio.dtype == object or audio.dtype.kind not in "fiub":
        raise InputError(f"audio: dtype {audio.dtype} is not floating point")
    if isinstance(audio, np.ma.MaskedArray) and np.ma.is_masked(audio):
        raise InputError("audio: some samples are masked; fill them, as audio.filled(0) does")
    if audio.dtype.kind == "f":
        audio = audio.astype(np.float32 if audio.dtype.itemsize != 4 else "=f4", copy=False)
    return torch.from_numpy(np.require(audio, requirements=("C", "W")))
