"""Sounds that even an untrained model tells apart, and a model small enough to embed them in no time."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_audiomamba import load_model
from hear_audiomamba.embedding.embedder import AudioEmbedder

from ..threads import one_thread as one_thread

RATE = 16000
TINY = {"variant": "ssam_tiny", "embed_dim": 16, "depth": 1, "d_state": 2, "expand": 1}
# The same model on the command line.
TINY_WORDS = ["--model", "ssam_tiny", "--workers", "0", "--quiet"]
for key, value in TINY.items():
    if key != "variant":
        TINY_WORDS += ["--option", f"{key}={value}"]
SOUNDS = ("high", "low", "noise")


def sound(kind: str, seconds: float, seed: int) -> np.ndarray:
    """Return a tone of about 400 or 2500 Hz, or noise, `(n,)`, of random level."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    level = random.uniform(0.1, 0.4)
    background = 0.003 * random.standard_normal(len(time))
    if kind == "silence":
        return background
    if kind == "noise":
        return level * 0.5 * random.standard_normal(len(time)) + background
    hertz = {"low": 400, "high": 2500}[kind] * random.uniform(0.9, 1.1)
    return level * np.sin(2 * np.pi * hertz * time) + background


def write_sound(path: Path, samples: np.ndarray) -> Path:
    """Write samples to an audio file whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples.astype(np.float32), RATE)
    return path


@pytest.fixture(scope="session")
def tiny_model() -> AudioEmbedder:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_model(**TINY, device="cpu")


@pytest.fixture
def class_folders(tmp_path) -> Callable[..., Path]:
    """Return a function that writes `count` clips of 1 s of each sound, a folder a class."""

    def write(count: int, name: str = "sounds", seed: int = 0) -> Path:
        for number, kind in enumerate(SOUNDS):
            for index in range(count):
                samples = sound(kind, 1.0, 1000 * seed + 100 * number + index)
                write_sound(tmp_path / name / kind / f"{index}.wav", samples)
        return tmp_path / name

    return write


@pytest.fixture
def recording(tmp_path) -> Callable[..., Path]:
    """Return a function that writes sounds one after the other: `recording("a.wav", ("low", 2.0), …)`."""

    def write(name: str, *parts: tuple[str, float], seed: int = 0) -> Path:
        pieces = [sound(kind, seconds, seed * 77 + index) for index, (kind, seconds) in enumerate(parts)]
        return write_sound(tmp_path / name, np.concatenate(pieces))

    return write
