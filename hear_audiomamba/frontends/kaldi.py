"""Kaldi log-mel filterbanks in batched torch: the input of SSAMBA, AuM and Gong's SSAST."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import KaldiFbankConfig
from ..errors import InputError
from .base import Frontend, power_by_products

# Kaldi floors mel energies with the float32 machine epsilon, whatever the dtype computed in.
ENERGY_FLOOR = torch.finfo(torch.float32).eps
# Frames are views of the waveform until windowed; blocks of this many, over all clips, keep memory flat.
FRAMES_PER_BLOCK = 8192


class KaldiFbank(Frontend):
    """Log-mel filterbank energies as Kaldi computes them, without dither, for a batch of clips.

    Each clip's mean is subtracted; frames lie wholly inside the clip (`snip_edges`); each frame loses
    its own mean, is pre-emphasised, windowed, and padded with zeros to a power of two.

    Args:
        config: frame, filterbank and normalisation settings.

    Source:
        Povey et al., "The Kaldi Speech Recognition Toolkit" (2011), `compute-fbank-feats`; agrees with
        `torchaudio.compliance.kaldi.fbank` and the `_wav2fbank` of AST, SSAST, SSAMBA and AuM.

    Deviates:
        A clip shorter than one frame is extended with silence to one frame, where the originals fail.
    """

    clip_normalized = False
    samples_before = 0
    window: Tensor
    mel_banks: Tensor

    def __init__(self, config: KaldiFbankConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate = config.sample_rate
        self.hop_length = config.hop_length
        self.n_mels = config.n_mels
        self.samples_after = config.frame_length
        self.frame_center = config.frame_length / 2
        self.pad_value = (0.0 - config.mean) / (2 * config.std)
        self.n_fft = 1 << (config.frame_length - 1).bit_length()
        self.register_buffer("window", _window(config), persistent=False)
        self.register_buffer("mel_banks", _mel_banks(config, self.n_fft), persistent=False)

    def n_frames(self, n_samples: int) -> int:
        """Return how many frames a clip of `n_samples` samples has: at least one."""
        return 1 + max(0, n_samples - self.config.frame_length) // self.hop_length

    def log_mel(self, audio: Tensor) -> Tensor:
        """Compute the log filterbank energies before normalisation.

        Args:
            audio: `(B, S)` waveforms in [-1, 1] at `sample_rate`; not scaled to 16-bit integers.

        Returns:
            `(B, T, F)` float32, `T = 1 + (S - frame_length) // hop_length`, lowest band first.

        Raises:
            InputError: `audio` is not a batch of mono clips with at least one sample.
        """
        if audio.ndim != 2 or audio.shape[1] == 0:
            raise InputError(f"KaldiFbank takes (n_sounds, n_samples) with samples, got {tuple(audio.shape)}")
        audio = audio.to(self.window.dtype)
        audio = audio - audio.mean(dim=1, keepdim=True)
        audio = F.pad(audio, (0, max(0, self.config.frame_length - audio.shape[1])))
        frames = audio.unfold(1, self.config.frame_length, self.hop_length)
        if self.fourier == "products":  # an exported graph must not depend on the number of clips
            return self._block(frames)
        blocks = frames.split(max(1, FRAMES_PER_BLOCK // len(frames)), dim=1)
        return torch.cat([self._block(block) for block in blocks], dim=1)

    def normalize(self, log_mel: Tensor) -> Tensor:
        """Return `(x - mean) / (2 * std)` with the configured constants, as SSAST and SSAMBA do."""
        return (log_mel - self.config.mean) / (2 * self.config.std)

    def _block(self, frames: Tensor) -> Tensor:
        frames = frames - frames.mean(dim=-1, keepdim=True)
        # Kaldi repeats the first sample to the left, so the first output is x[0] * (1 - coefficient).
        previous = torch.cat((frames[..., :1], frames[..., :-1]), dim=-1)
        frames = (frames - self.config.preemphasis * previous) * self.window
        if self.fourier == "products":
            power = power_by_products(frames, self.n_fft)
        else:
            power = torch.fft.rfft(frames, n=self.n_fft).abs().square()
        with torch.autocast(frames.device.type, enabled=False):
            energies = power @ self.mel_banks
        return energies.clamp_min(ENERGY_FLOOR).log()


def _window(config: KaldiFbankConfig) -> Tensor:
    """Symmetric Hann window, or Kaldi's own "povey": the same raised to 0.85."""
    # In float32, as the models' training code computed it: the exact window differs by 2e-7.
    window = torch.hann_window(config.frame_length, periodic=False)
    return window**0.85 if config.window == "povey" else window


def _mel_banks(config: KaldiFbankConfig, n_fft: int) -> Tensor:
    """Triangles on Kaldi's mel scale, (n_fft // 2 + 1, n_mels); the Nyquist bin has no weight."""

    def mel(hertz: float) -> float:
        return 1127.0 * math.log(1.0 + hertz / 700.0)

    bins = torch.arange(n_fft // 2, dtype=torch.float64) * (config.sample_rate / n_fft)
    bins = 1127.0 * torch.log(1.0 + bins / 700.0)
    edges = torch.linspace(mel(config.f_min), mel(config.f_max), config.n_mels + 2, dtype=torch.float64)
    left, center, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - left) / (center - left)
    falling = (right - bins[:, None]) / (right - center)
    return F.pad(torch.minimum(rising, falling).clamp_min(0.0), (0, 0, 0, 1)).float()
