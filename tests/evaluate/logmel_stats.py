"""A HEAR module that is quick and needs no weights: mean and deviation of a 64-band log-mel over time."""

from __future__ import annotations

import torch
from torch import Tensor

N_MELS, N_FFT, HOP = 64, 512, 160


def _mel_filters(sample_rate: int) -> Tensor:
    edges = torch.linspace(0, 2595 * torch.log10(torch.tensor(1 + sample_rate / 2 / 700.0)), N_MELS + 2)
    hertz = 700 * (10 ** (edges / 2595) - 1)
    bins = torch.linspace(0, sample_rate / 2, N_FFT // 2 + 1)
    rising = (bins - hertz[:-2, None]) / (hertz[1:-1] - hertz[:-2])[:, None]
    falling = (hertz[2:, None] - bins) / (hertz[2:] - hertz[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0)


class LogMelStats(torch.nn.Module):
    sample_rate = 16000
    scene_embedding_size = 2 * N_MELS
    timestamp_embedding_size = N_MELS

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("filters", _mel_filters(self.sample_rate))
        self.register_buffer("window", torch.hann_window(N_FFT))

    def forward(self, audio: Tensor) -> Tensor:
        audio = torch.nn.functional.pad(audio, (0, max(0, N_FFT - audio.shape[1])))
        power = torch.stft(audio, N_FFT, HOP, window=self.window, return_complex=True).abs() ** 2
        return self.scale * torch.log(self.filters @ power + 1e-5).transpose(1, 2)


def load_model(model_file_path: str = "", scale: float = 1.0) -> LogMelStats:
    return LogMelStats(scale)


def get_scene_embeddings(audio: Tensor, model: LogMelStats) -> Tensor:
    frames = model(audio)
    return torch.cat([frames.mean(1), frames.std(1)], dim=1)


def get_timestamp_embeddings(audio: Tensor, model: LogMelStats) -> tuple[Tensor, Tensor]:
    frames = model(audio)[:, :-1:4]
    times = torch.arange(frames.shape[1]) * 4 * HOP * 1000.0 / model.sample_rate
    return frames, times.expand(frames.shape[0], -1)
