"""Checks of what callers hand in: typed errors that name the row and the allowed range."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError
from ..io.audio import PEAK_LIMIT


def check_audio(audio: Tensor) -> Tensor:
    """Return a batch of clips as float32 after checking it.

    Args:
        audio: `(n_sounds, n_samples)` floating point, both at least 1, finite, nominally in [-1, 1].

    Returns:
        The same values, float32.

    Raises:
        InputError: wrong type, dtype or rank, nothing in it, NaN or infinity, or values beyond ±8.
    """
    if not isinstance(audio, Tensor):
        raise InputError(
            f"audio: expected a torch.Tensor of shape (n_sounds, n_samples), got {type(audio).__name__}"
        )
    if not audio.is_floating_point():
        raise InputError(
            f"audio: dtype {audio.dtype} is not floating point; scale integer samples to [-1, 1] "
            "(int16: audio.float() / 32768)"
        )
    if audio.dim() != 2:
        hint = "; add a batch axis with audio[None]" if audio.dim() == 1 else ""
        raise InputError(f"audio: shape {tuple(audio.shape)}, expected (n_sounds, n_samples){hint}")
    if audio.shape[0] == 0 or audio.shape[1] == 0:
        raise InputError(f"audio: shape {tuple(audio.shape)} is empty, expected at least one sample")
    audio = audio.float()
    peaks = torch.stack([audio.amax(dim=1), -audio.amin(dim=1)]).amax(dim=0)  # NaN passes through
    bad = torch.nonzero(~(peaks <= PEAK_LIMIT)).flatten()
    if len(bad):
        row = int(bad[0])
        peak = float(peaks[row])
        if peak != peak or peak == float("inf"):
            finite = torch.isfinite(audio[row])
            at = int(torch.nonzero(~finite).flatten()[0])
            raise InputError(f"audio: row {row} holds {float(audio[row, at])} at sample {at}; must be finite")
        raise InputError(
            f"audio: row {row} reaches {peak:.4g}; samples must lie in [-1, 1] (int16 values: divide by 32768)"
        )
    return audio
