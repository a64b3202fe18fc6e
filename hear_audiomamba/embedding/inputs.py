"""Checks of what callers hand in: typed errors that name the row, the allowed range and the likely mistake."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._subclasses import FakeTensor

from ..config import plain_number
from ..errors import InputError, shown
from ..frontends.inputs import as_batch
from ..io.audio import MAX_SAMPLE_RATE, PEAK_LIMIT


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
    audio = as_batch(audio)
    # A graph must not depend on values, one clip of `torch.func.vmap` may not, and a fake tensor has none.
    if torch.compiler.is_compiling() or _is_mapped(audio) or isinstance(audio, FakeTensor):
        return audio
    audio = audio.contiguous()  # sums of strided values round otherwise
    if torch._C._get_tracing_state() is not None:
        check: Callable[[Tensor, int], Tensor] = torch.jit.script(_of_one_length)  # a trace keeps no `if`
        audio = check(audio, int(audio.shape[1]))
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


def _is_mapped(audio: Tensor) -> bool:
    """Tell whether a tensor stands for one clip of many, in `torch.func.vmap`."""
    # PyTorch has no public way to ask. The check of values asks which are wrong, and `vmap` cannot answer that.
    while torch._C._functorch.is_functorch_wrapped_tensor(audio):
        if torch._C._functorch.is_batchedtensor(audio):
            return True
        audio = torch._C._functorch.get_unwrapped(audio)
    return False


def check_clip(samples: Tensor | NDArray[np.floating], least: int = 1) -> Tensor:
    """Return one clip as float32 after checking it.

    Args:
        samples: `(n_samples,)`; see `check_audio`.
        least: 0 to let a clip without samples pass.

    Raises:
        InputError: see `check_audio`.
    """
    if not isinstance(samples, (Tensor, np.ndarray)):
        raise InputError(
            f"audio: expected a torch.Tensor or a numpy array of shape (n_samples,), got {type(samples).__name__}"
        )
    if samples.ndim != 1:
        raise InputError(f"audio: shape {tuple(samples.shape)}, expected (n_samples,)")
    if not least and not len(samples):
        return torch.zeros(0)
    return check_audio(samples[None])[0]


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
    if given is None:
        return
    rate = check_rate(given)
    if rate == wanted:
        return
    if rate == wanted / 1000:
        raise InputError(f"sample_rate: {rate:g} looks like kHz; give {wanted} Hz")
    raise InputError(
        f"sample_rate: the audio has {rate:g} Hz, but the model takes {wanted} Hz; "
        "resample it, as hear_audiomamba.embed_file and load_audio do"
    )


def check_rate(given: object) -> float:
    """Return a sample rate in Hz.

    Raises:
        InputError: it is no positive number.
    """
    rate = plain_number(given)
    if rate is None or not 0 < rate <= MAX_SAMPLE_RATE:
        raise InputError(f"sample_rate: {shown(given)} is not a number of samples a second")
    return rate
