"""Checks of what callers hand in: typed errors that name the row, the allowed range and the likely mistake."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from ..io.audio import PEAK_LIMIT

# An array `(n_samples, n_channels)` reads as very many clips of next to no samples.
_SHORTEST_BATCH_CLIP, _MANY_TIMES = 400, 10


def check_audio(audio: Tensor | NDArray[np.floating]) -> Tensor:
    """Return a batch of clips as float32 after checking it.

    Args:
        audio: `(n_sounds, n_samples)` floating point, both at least 1, finite, nominally in [-1, 1]; a
            tensor or an array.

    Returns:
        The same values, float32, in the order of memory that the batch has.

    Raises:
        InputError: wrong type, dtype or rank, transposed, nothing in it, NaN or infinity, or values
            beyond ±8.
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
        raise InputError(f"audio: shape {tuple(audio.shape)} is empty, expected at least one sample")
    n_sounds, n_samples = audio.shape
    if n_samples < _SHORTEST_BATCH_CLIP and n_sounds > max(_MANY_TIMES * n_samples, _SHORTEST_BATCH_CLIP):
        raise InputError(
            f"audio: shape {tuple(audio.shape)} would be {n_sounds} clips of {n_samples} samples; "
            "it looks transposed: pass audio.T"
        )
    audio = audio.float()
    if torch.compiler.is_compiling():  # a graph must not depend on values, so only shapes are checked in it
        return audio
    audio = audio.contiguous()  # sums of strided values round otherwise
    if torch._C._get_tracing_state() is not None:
        check: Callable[[Tensor, int], Tensor] = torch.jit.script(_of_one_length)  # a trace keeps no `if`
        audio = check(audio, int(n_samples))
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


def _of_one_length(audio: Tensor, n_samples: int) -> Tensor:
    """Check, in a traced model, that the audio is as long as what was traced: windows and times follow from it."""
    if audio.shape[1] != n_samples:
        raise ValueError("audio: a traced model takes clips as long as the one it was traced with only")
    return audio


def check_sample_rate(given: object, wanted: int) -> None:
    """Refuse audio of another rate than the model's.

    Args:
        given: Hz; None where the caller does not say.
        wanted: Hz.

    Raises:
        InputError: it is no rate, or another one.
    """
    if given is None or given == wanted:
        return
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not given > 0:
        raise InputError(f"sample_rate: {given!r} is not a number of samples a second")
    if given == wanted / 1000:
        raise InputError(f"sample_rate: {given:g} looks like kHz; give {wanted} Hz")
    raise InputError(
        f"sample_rate: the audio has {given:g} Hz, but the model takes {wanted} Hz; "
        "resample it, as hear_audiomamba.embed_file and load_audio do"
    )


def _from_array(audio: NDArray[np.floating]) -> Tensor:
    if audio.dtype == object or audio.dtype.kind not in "fiub":
        raise InputError(f"audio: dtype {audio.dtype} is not floating point")
    if isinstance(audio, np.ma.MaskedArray) and np.ma.is_masked(audio):
        raise InputError("audio: some samples are masked; fill them, as audio.filled(0) does")
    if audio.dtype.kind == "f":
        audio = audio.astype(np.float32 if audio.dtype.itemsize != 4 else "=f4", copy=False)
    return torch.from_numpy(np.require(audio, requirements=("C", "W")))
