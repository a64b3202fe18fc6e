"""Resemblyzer: who is speaking."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from hear_audiomamba.models.convert import read_pytorch

from .base import Teacher, needed, package_folder

N_FFT, HOP, N_MELS = 400, 160, 40
TARGET_LEVEL = 10 ** (-30 / 20)


class SpeakerTeacher(Teacher):
    """The 256-d speaker embedding of each clip.

    Source: Wan et al., arXiv 1710.10467; PyPI resemblyzer, whose weights it ships.
    Deviates: the library cuts out silence first, which needs a voice detector; here the clip is taken
        as it is, at the level the library aims at.
    """

    name = "speaker"
    licence = "Apache-2.0"
    source = "PyPI resemblyzer"
    network = True
    dim = 256

    def __init__(self, corpus: Path) -> None:
        super().__init__(corpus)
        path = package_folder("resemblyzer") / "pretrained.pt"
        state = read_pytorch(path)
        self.lstm = torch.nn.LSTM(N_MELS, 256, 3, batch_first=True)
        self.linear = torch.nn.Linear(256, 256)
        self.lstm.load_state_dict({k[5:]: v for k, v in state.items() if k.startswith("lstm.")})
        self.linear.load_state_dict({k[7:]: v for k, v in state.items() if k.startswith("linear.")})
        self.mel = torch.from_numpy(
            needed("librosa", "librosa").filters.mel(sr=16000, n_fft=N_FFT, n_mels=N_MELS)
        )

    def embed(self, clips: Sequence[np.ndarray], paths: Sequence[str]) -> np.ndarray:
        spectra = [self._mel_spectrum(clip) for clip in clips]
        packed = torch.nn.utils.rnn.pack_sequence(spectra, enforce_sorted=False)
        with torch.inference_mode():
            _, (hidden, _) = self.lstm(packed)
            raw = torch.relu(self.linear(hidden[-1]))
        return (raw / raw.norm(dim=1, keepdim=True).clamp_min(1e-6)).numpy()

    def _mel_spectrum(self, samples: np.ndarray) -> torch.Tensor:
        level = float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))
        audio = torch.from_numpy(
            np.pad(samples, (0, max(0, 4000 - len(samples)))) * (TARGET_LEVEL / max(level, 1e-5))
        )
        spectrum = (
            torch.stft(
                audio.float(),
                N_FFT,
                HOP,
                window=torch.hann_window(N_FFT),
                pad_mode="constant",
                return_complex=True,
            )
            .abs()
            .square()
        )
        return (self.mel @ spectrum).T
