"""One recording in, samples at a model's rate out: files, arrays, tensors."""

from __future__ import annotations

import os
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..io.audio import load_audio
from .inputs import check_audio, check_rate

Recording = str | os.PathLike[str] | BinaryIO | NDArray[np.floating] | Tensor
_LOWEST_RATE = 100  # Hz; below this a rate was probably given in kHz


def read_recording(
    recording: Recording, sample_rate: int, *, given_rate: float | None = None
) -> NDArray[np.floating]:
    """Return a recording as one channel at a given rate, whatever its own rate and channels.

    Args:
        recording: an audio file, its path, or samples: `(n_samples,)` or `(n_channels, n_samples)` in [-1, 1].
        sample_rate: of the result, Hz.
        given_rate: of samples, Hz; files say theirs.

    Returns:
        `(n,)` float32, n ≥ 1.

    Raises:
        AudioReadError: the file cannot be decoded.
        InputError: samples without a rate, transposed, or that `check_audio` refuses.
    """
    if isinstance(recording, (np.ndarray, Tensor)):
        return to_mono(recording, given_rate, sample_rate)
    if given_rate is not None:
        raise InputError("sample_rate: the file contains its sample rate; leave the argument out")
    return load_audio(recording, sample_rate)


def to_mono(audio: NDArray[np.floating] | Tensor, given: float | None, wanted: int) -> NDArray[np.floating]:
    """Return samples as one channel at another rate.

    Args:
        audio: `(n_samples,)` or `(n_channels, n_samples)` in [-1, 1].
        given: their rate, Hz.
        wanted: rate of the result, Hz.

    Returns:
        `(n,)` float32, n ≥ 1: the mean of the channels, resampled with soxr's high quality.

    Raises:
        InputError: no rate, an unlikely one, a transposed array, or what `check_audio` refuses.
    """
    if given is None:
        raise InputError(
            f"sample_rate: give the sample rate of these samples in Hz (the model takes {wanted})"
        )
    rate = check_rate(given)
    if rate < _LOWEST_RATE:
        raise InputError(f"sample_rate: {rate:g} Hz is too low for sound; is it in kHz?")
    if audio.ndim not in (1, 2):
        raise InputError(
            f"audio: shape {tuple(audio.shape)}, expected (n_samples,) or (n_channels, n_samples)"
        )
    if audio.ndim == 2 and audio.shape[0] > audio.shape[1]:
        raise InputError(
            f"audio: shape {tuple(audio.shape)} would be {audio.shape[0]} channels of {audio.shape[1]} samples; "
            "it looks transposed: pass audio.T"
        )
    channels = check_audio(audio if audio.ndim == 2 else audio[None]).cpu().numpy()
    samples: NDArray[np.floating] = channels.mean(axis=0)
    if rate == wanted:
        return samples
    import soxr

    resampled: NDArray[np.floating] = soxr.resample(samples, rate, wanted, quality="HQ")
    return resampled if len(resampled) else np.zeros(1, np.float32)
