"""A model small enough to embed a thousand clips in a test, and archives to embed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hear_audiomamba import load_model
from hear_audiomamba.embedding.embedder import AudioEmbedder

from ..threads import one_thread as one_thread

TINY = {"variant": "ssam_tiny", "embed_dim": 16, "depth": 1, "d_state": 2, "expand": 1, "device": "cpu"}
# Written by these tests' runs but not promised to be the same in each: times and who worked.
VOLATILE = ("summary", "lock")


@pytest.fixture(scope="session")
def tiny_model() -> AudioEmbedder:
    return load_model(**TINY)


@pytest.fixture
def make_archive(tmp_path) -> Callable[..., Path]:
    """Return a function that writes clips of noise of various lengths: `make_archive(count, seconds)`."""

    def make(
        count: int, seconds: tuple[float, float] = (0.05, 5.0), name: str = "audio", seed: int = 0
    ) -> Path:
        folder = tmp_path / name
        random = np.random.default_rng(seed)
        for index in range(count):
            path = folder / f"group{index % 3}" / f"clip{index:04d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_noise(path, random.uniform(*seconds), seed=seed + index)
        return folder

    return make


def write_noise(path: Path, seconds: float, rate: int = 16000, seed: int = 0, channels: int = 1) -> Path:
    """Write noise that grows louder, so that every stretch of it differs from every other."""
    samples = max(1, round(seconds * rate))
    noise = np.random.default_rng(seed).standard_normal((samples, channels)) * 0.1
    soundfile.write(path, (noise * np.linspace(0.1, 1, samples)[:, None]).astype(np.float32), rate)
    return path


def digest_tree(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of an output folder, the journal's included."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(VOLATILE)
    }


def embed_one(model: AudioEmbedder, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scene, timestamp embeddings and times of a file, by the model's own methods."""
    from hear_audiomamba.io.audio import load_audio

    audio = torch.from_numpy(load_audio(path, model.sample_rate))[None]
    rows, times = model.timestamps(audio)
    return model.scene(audio)[0].numpy(), rows[0].numpy(), times[0].numpy()
