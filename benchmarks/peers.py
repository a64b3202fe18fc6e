"""What the bundled weights are compared with, behind the HEAR API: log-mel statistics and free encoders.

    PYTHONPATH=benchmarks hear-audiomamba evaluate --tasks-dir TASKS --out STUDY --tasks all \
        --variants 'yamnet=peers{"peer": "yamnet"}' 'logmel=peers{"peer": "logmel"}' …

`peer` is "logmel" (mean and deviation over time of a 64-band log-mel), "yamnet", "effects" (aiSFX), "speech"
(Google's speech embedding) or "speaker" (Resemblyzer). The last four need what recipes/weights/setup.sh installs.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hear_audiomamba.config import LogMelConfig
from hear_audiomamba.frontends.logmel import LogMel

SAMPLE_RATE = 16000
HOP_MS = 50
# Long enough for one frame of each peer; YAMNet's own patch is 0.96 s.
WINDOW_SECONDS = 0.975


class LogMelStatistics(nn.Module):
    """Mean and deviation over time of a 64-band log-mel."""

    def __init__(self) -> None:
        super().__init__()
        self.features = LogMel(LogMelConfig(n_mels=64, normalize="none"))
        self.size = 128

    def forward(self, audio: Tensor) -> Tensor:
        """Return `(B, 128)` of samples `(B, S)`."""
        frames = self.features(audio)
        return torch.cat([frames.mean(dim=1), frames.std(dim=1)], dim=1)


class Peer(nn.Module):
    """A teacher of the pretraining as a HEAR model; it hears one clip as one vector."""

    def __init__(self, name: str) -> None:
        super().__init__()
        from recipes.corpus.teachers import make_teacher

        with real_tensorflow():
            self.teacher = make_teacher(name, Path())
        self.size = self.teacher.dim

    def forward(self, audio: Tensor) -> Tensor:
        """Return `(B, size)` of samples `(B, S)`."""
        return torch.from_numpy(np.asarray(self.teacher.embed(list(audio.cpu().numpy()), [""] * len(audio))))


@contextlib.contextmanager
def real_tensorflow() -> Iterator[None]:
    """Let YAMNet's checkpoint be read by TensorFlow itself where HEAR's tools run with a stand-in for it."""
    standin = sys.modules.pop("tensorflow", None)
    try:
        yield
    finally:
        if standin is not None:
            sys.modules["tensorflow"] = standin


class HearModel(nn.Module):
    """The attributes that HEAR asks of a model."""

    sample_rate = SAMPLE_RATE

    def __init__(self, encoder: LogMelStatistics | Peer) -> None:
        super().__init__()
        self.encoder = encoder
        self.scene_embedding_size = self.timestamp_embedding_size = encoder.size


def load_model(model_file_path: str = "", peer: str = "logmel") -> HearModel:
    """Return a peer by name; the path is not used, since all of them come with a package."""
    del model_file_path
    return HearModel(LogMelStatistics() if peer == "logmel" else Peer(peer))


def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """Return `(B, size)` float32 of clips `(B, S)`."""
    with torch.inference_mode():
        return model.encoder(audio).float()


def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
    """Return `(B, T, size)` and `(B, T)` milliseconds: a window of about a second around every 50 ms."""
    window, hop = round(WINDOW_SECONDS * SAMPLE_RATE), HOP_MS * SAMPLE_RATE // 1000
    padded = nn.functional.pad(audio, (window // 2, window - window // 2))
    windows = padded.unfold(1, window, hop)[:, : -(-audio.shape[1] // hop)]
    with torch.inference_mode():
        rows = model.encoder(windows.flatten(0, 1)).float().unflatten(0, windows.shape[:2])
    times = torch.arange(windows.shape[1], device=audio.device).float() * HOP_MS
    return rows, times.expand(len(audio), -1)
