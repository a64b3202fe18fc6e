"""A small corpus of real recordings, cut into clips of several lengths and kinds."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from hear_audiomamba.pretrain import read_config
from hear_audiomamba.pretrain.run.runlog import read_log

from ..threads import one_thread as one_thread

REPOSITORY = Path(__file__).resolve().parents[2]
RECORDINGS = REPOSITORY / "examples" / "audio"
# The smallest SSAM that still has every part.
SMALL = ["model_options={embed_dim: 32, depth: 2, d_state: 4, expand: 2}"]
QUIET = ["run.progress=false", "run.tensorboard=false", "run.log_every=1", "data.workers=0", "device=cpu"]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """Eighteen clips of the example recordings: 0.5 to 3 s, FLAC at 16 kHz, with a manifest."""
    root = tmp_path_factory.mktemp("corpus")
    rows = []
    for kind, name in (
        ("music", "music_koto.flac"),
        ("music", "music_raincat.ogg"),
        ("speech", "speech_english.wav"),
    ):
        samples, rate = soundfile.read(RECORDINGS / name, dtype="float32", always_2d=True)
        samples = soxr.resample(samples.mean(axis=1), rate, 16000)
        for index in range(6):
            seconds = (0.5, 1.0, 2.0, 2.5, 3.0, 2.0)[index]
            start = int(index * (len(samples) - 3 * 16000) / 6) if len(samples) > 4 * 16000 else 0
            clip = samples[start : start + int(seconds * 16000)]
            path = f"{kind}/{name.split('.')[0]}-{index}.flac"
            (root / kind).mkdir(exist_ok=True)
            soundfile.write(root / path, clip, 16000)
            split = "valid" if index == 5 else "train"
            rows.append(
                {"path": path, "split": split, "kind": kind, "seconds": len(clip) / 16000, "labels": kind}
            )
    with open(root / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return root


@pytest.fixture
def config(corpus, tmp_path):
    """Return a function that reads a configuration of a run small enough for a test."""

    def make(*overrides: str, name: str = "ssam_tiny", out: str = "run", small: bool = True):
        common = [f"data.path={corpus}", f"run.out={tmp_path / out}", "optim.batch=4", "optim.lr_batch=null"]
        return read_config(name, [*common, *QUIET, *(SMALL if small else []), *overrides])

    return make


def losses(out: Path) -> dict[int, float]:
    """Return step → loss of a run's log."""
    return {e["step"]: e["loss"] for e in read_log(out / "log.jsonl") if e["event"] == "train"}


def events(out: Path, kind: str) -> list[dict]:
    """Return the events of one kind of a run's log."""
    return [e for e in read_log(out / "log.jsonl") if e["event"] == kind]


def command(*words: str, processes: int = 1, **environment: str) -> subprocess.Popen:
    """Start `python -m hear_audiomamba.pretrain …`, or as many processes of it under torchrun."""
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    return subprocess.Popen(
        [*launcher, "hear_audiomamba.pretrain", *words], cwd=REPOSITORY, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def write_wav(path: Path, seconds: float, rate: int = 16000, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Write noise and return it."""
    samples = (
        np.random.default_rng(seed).uniform(-0.5, 0.5, (int(seconds * rate), channels)).astype(np.float32)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return samples
