"""What every front end offers: a spectrogram, before and after normalisation, and where its frames lie."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import ConfigError
from .inputs import as_batch

if TYPE_CHECKING:
    from typing_extensions import Self


FLAT = 2.0**-10
"""Standard deviation of a log-mel spectrogram (natural logarithm) below which it holds nothing but rounding.

A constant signal has no power in any band. Its spectrum holds rounding, which beside the floor under the logarithm is
at most 3e-4 at full scale. The smallest sound of 16 bits has 0.5, and noise at -120 dB of full scale 0.003.
"""


class Frontend(nn.Module):
    """Base class of the front ends: waveforms to normalised log-mel spectrograms.

    Attributes:
        sample_rate: of the audio, Hz.
        hop_length: samples between two frames.
        n_mels: F, mel bins of a frame.
        frame_center: samples from the clip's start to the centre of frame 0.
        samples_before, samples_after: samples that frame i needs before and behind sample i · hop_length.
        clip_normalized: `normalize` needs the whole clip; where it is False, frames may be normalised
            one by one.
        pad_value: what stands for padding behind a clip, after normalisation.
        window: of a frame, `(win_length,)`.
        fourier: how spectra are computed: by the fast transform, or by matrix "products" with sines and
            cosines, for exported graphs, whose runtimes know no complex numbers.
    """

    sample_rate: int
    hop_length: int
    n_mels: int
    frame_center: float
    samples_before: int
    samples_after: int
    clip_normalized: bool
    pad_value: float
    window: Tensor
    fourier: Literal["fft", "products"] = "fft"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Let `.to`, `.half()` … move all tensors and change none: spectrograms are computed in float32.

        Also `.to_empty` leaves them their values, which no state dict would bring back.

        Raises:
            ConfigError: the device is "meta", which would keep no values.
        """

        def moved(tensor: Tensor) -> Tensor:
            device = fn(tensor).device
            if device.type == "meta" and tensor.device.type != "meta":
                raise ConfigError(
                    "device: on 'meta' a model would lose its weights; move it to a device that computes"
                )
            return tensor.to(device)

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]  # torch's is not typed
        return self

    def n_frames(self, n_samples: int) -> int:
        """Return how many frames a clip of `n_samples` samples has: at least one."""
        raise NotImplementedError

    def log_mel(self, audio: Tensor) -> Tensor:
        """Return the logarithm of the mel energies before normalisation.

        Args:
            audio: `(B, S)` waveforms in [-1, 1] at `sample_rate`, S ≥ 1.

        Returns:
            `(B, T, n_mels)` float32, lowest band first.
        """
        raise NotImplementedError

    def normalize(self, log_mel: Tensor) -> Tensor:
        """Return what the encoder takes, `(B, T, n_mels)`, of what `log_mel` gives for whole clips."""
        raise NotImplementedError

    def forward(self, audio: Tensor | NDArray[np.floating]) -> Tensor:
        """Return the normalised spectrogram.

        Args:
            audio: `(B, S)` waveforms in [-1, 1] at `sample_rate`, S ≥ 1; a tensor or an array.

        Returns:
            `(B, T, n_mels)` float32.

        Raises:
            InputError: see `frontends.inputs.as_batch`.
        """
        return self.normalize(self.log_mel(as_batch(audio).to(self.window.device)))


def power_by_products(frames: Tensor, n_fft: int) -> Tensor:
    """Return the power spectra of frames without complex numbers.

    Args:
        frames: `(…, n)`, n ≤ n_fft, windowed; zeros are thought behind them up to n_fft.
        n_fft: length of the transform.

    Returns:
        `(…, n_fft // 2 + 1)` in the frames' dtype.
    """
    positions = torch.arange(frames.shape[-1], dtype=torch.float64)
    # The product of the two integers is taken modulo n_fft first, so that the angles stay exact.
    turns = (positions[:, None] * torch.arange(n_fft // 2 + 1)) % n_fft
    angles = turns * (2.0 * math.pi / n_fft)
    cosines, sines = angles.cos().to(frames.dtype), angles.sin().to(frames.dtype)
    return (frames @ cosines).square() + (frames @ sines).square()
