"""Waveforms to spectrograms: batched, plain torch, on whatever device the audio is on."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import LogMelConfig
from .base import FLAT, Frontend, power_by_products

_EPS = 1.1920928955078125e-07  # the float32 machine epsilon, which the reference code adds before the log


def mel_filterbank(
    n_freqs: int, f_min: float, f_max: float, n_mels: int, sample_rate: int, scale: str, norm: str
) -> Tensor:
    """Return triangular mel filters over the bins of a power spectrum.

    Args:
        n_freqs: bins, n_fft // 2 + 1.
        f_min: lower end of the first triangle, Hz.
        f_max: upper end of the last triangle, Hz.
        n_mels: number of triangles.
        sample_rate: Hz.
        scale: "htk" or "slaney".
        norm: "slaney" divides each triangle by its half width in Hz; "none" leaves the peaks at one.

    Returns:
        `(n_freqs, n_mels)` float32, computed in float64.

    Source: the scales as in HTK's book and Slaney's Auditory Toolbox; agrees with torchaudio's
        `melscale_fbanks` to its own float32 rounding (8e-6).
    """
    to_mel, to_hz = (_htk_mel, _htk_hz) if scale == "htk" else (_slaney_mel, _slaney_hz)
    ends = torch.tensor([f_min, f_max], dtype=torch.float64)
    low, high = to_mel(ends).tolist()
    corners = to_hz(torch.linspace(low, high, n_mels + 2, dtype=torch.float64))
    freqs = torch.linspace(0, sample_rate // 2, n_freqs, dtype=torch.float64)
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    rising = (freqs[:, None] - left) / (centre - left)
    falling = (right - freqs[:, None]) / (right - centre)
    bank = torch.minimum(rising, falling).clamp_min(0)
    if norm == "slaney":
        bank = bank * (2.0 / (right - left))
    return bank.float()


def _htk_mel(hz: Tensor) -> Tensor:
    return 2595.0 * torch.log10(1.0 + hz / 700.0)


def _htk_hz(mel: Tensor) -> Tensor:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


def _slaney_mel(hz: Tensor) -> Tensor:
    log = 15.0 + torch.log(hz.clamp_min(1e-10) / 1000.0) * 27.0 / math.log(6.4)
    return torch.where(hz < 1000.0, hz * 3.0 / 200.0, log)


def _slaney_hz(mel: Tensor) -> Tensor:
    log = 1000.0 * torch.exp((mel - 15.0) * math.log(6.4) / 27.0)
    return torch.where(mel < 15.0, mel * 200.0 / 3.0, log)


class LogMel(Frontend):
    """A log-mel spectrogram of centred, reflect-padded, periodic-Hann frames.

    Frame i is centred on sample i · hop_length, so a clip of S samples has 1 + S // hop_length frames.
    Clips shorter than half a window are padded with silence to the length reflection needs, and keep
    the number of frames of their true length.

    Args:
        config: see `LogMelConfig`.

    Source: LogMelSpec of audio-mamba-official (torchaudio MelSpectrogram, power 2).
    """

    frame_center = 0.0
    window: Tensor
    filterbank: Tensor

    def __init__(self, config: LogMelConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate, self.hop_length = config.sample_rate, config.hop_length
        self.n_mels = config.n_mels
        self.samples_before = self.samples_after = config.n_fft // 2
        self.clip_normalized = config.normalize == "clip"
        self.pad_value = 0.0 if self.clip_normalized else self._log(torch.zeros((), device="cpu")).item()
        window = torch.hann_window(config.win_length)
        bank = mel_filterbank(
            config.n_fft // 2 + 1, config.f_min, config.f_max, config.n_mels,
            config.sample_rate, config.mel_scale, config.mel_norm,
        )  # fmt: skip
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filterbank", bank, persistent=False)

    def n_frames(self, n_samples: int) -> int:
        """Return the number of frames of a clip of `n_samples` samples."""
        return 1 + n_samples // self.hop_length

    def log_mel(self, audio: Tensor) -> Tensor:
        """Return the logarithm of the mel power, not normalised.

        Args:
            audio: `(B, S)` float, in [-1, 1], S ≥ 1.

        Returns:
            `(B, 1 + S // hop_length, n_mels)` float32.
        """
        n_samples = audio.shape[-1]
        pad = self.config.n_fft // 2
        audio = audio.float()
        if n_samples <= pad:
            audio = F.pad(audio, (0, pad + 1 - n_samples))
        # A caller's mixed precision is for the encoder: rounded powers would be other features.
        with torch.autocast(audio.device.type, enabled=False):
            return self._log(self._power(audio)[:, : self.n_frames(n_samples)] @ self.filterbank)

    def _power(self, audio: Tensor) -> Tensor:
        """Return the power spectra `(B, frames, bins)` of centred frames."""
        n_fft, win_length = self.config.n_fft, self.config.win_length
        if self.fourier == "products":
            before = (n_fft - win_length) // 2
            window = F.pad(self.window, (before, n_fft - win_length - before))
            padded = F.pad(audio[:, None], (n_fft // 2, n_fft // 2), mode="reflect")[:, 0]
            return power_by_products(padded.unfold(1, n_fft, self.hop_length) * window, n_fft)
        spectrum = torch.stft(
            audio, n_fft, self.hop_length, win_length, self.window,
            center=True, pad_mode="reflect", return_complex=True,
        )  # fmt: skip
        # Several times as fast as a sum over the pairs of real and imaginary parts.
        return torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag).transpose(1, 2)

    def normalize(self, log_mel: Tensor) -> Tensor:
        """Return a clip's log-mel after the configured normalisation, `(B, T, n_mels)`.

        Deviates:
            A clip whose values differ by rounding only (see `FLAT`) gives zeros. The reference runtime divides that
            rounding by its own tiny spread, so what it gives depends on the machine.
        """
        if not self.clip_normalized:
            return log_mel
        centred = log_mel - log_mel.mean(dim=(1, 2), keepdim=True)
        n_values = log_mel.shape[1] * log_mel.shape[2]
        # Unbiased, as in the reference runtime.
        std = (centred.square().sum(dim=(1, 2), keepdim=True) / (n_values - 1)).sqrt()
        return torch.where(std < FLAT, 0.0, centred / (std + 1e-8))

    def _log(self, mel: Tensor) -> Tensor:
        if self.config.log == "db":
            return 10.0 * torch.log10(mel.clamp_min(1e-10))
        return torch.log(mel + _EPS)
