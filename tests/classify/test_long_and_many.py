"""`predict` on a cluster, after a kill, and over recordings that are longer than the memory should be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_audiomamba.cli import main

from .conftest import RATE, SOUNDS, TINY_WORDS, sound

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fitted(class_folders, tmp_path) -> Path:
    out = tmp_path / "model.safetensors"
    assert main(["fit", str(class_folders(6)), "--out", str(out), *TINY_WORDS]) == 0
    return out


@pytest.fixture
def field(recording, tmp_path) -> Path:
    """Sixty recordings: four units of work."""
    for number in range(60):
        recording(f"field/{number:02}.wav", *[(kind, 2.0) for kind in np.roll(SOUNDS, number)], seed=number)
    return tmp_path / "field"


def predict_words(field: Path, fitted: Path, out: Path) -> list[str]:
    return ["predict", str(field), "--model", str(fitted), "--out", str(out), "--workers", "0", "--quiet"]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_DISABLE_IMPORT_WARNING": "1"}


def killed_after_a_unit(words: list[str], scores: Path) -> None:
    """Start a command, and kill it and its children without warning once a unit of work is on record."""
    program = [sys.executable, "-m", "hear_audiomamba", *words]
    process = subprocess.Popen(program, env=environment(), start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    while process.poll() is None and not list(scores.glob("*/units/*.json")):
        time.sleep(0.01)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_a_killed_run_goes_on_where_it_was(field, fitted, tmp_path, capsys):
    words = predict_words(field, fitted, tmp_path / "found.csv")
    killed_after_a_unit(words, tmp_path / "found.csv.scores")
    assert main(words) == 0
    assert main(predict_words(field, fitted, tmp_path / "alone.csv")) == 0
    assert (tmp_path / "found.csv").read_text() == (tmp_path / "alone.csv").read_text()


@pytest.mark.slow
def test_a_ray_cluster_gives_what_one_process_gives_also_after_a_kill(field, fitted, tmp_path):
    pytest.importorskip("ray")
    (field / "broken.wav").write_bytes(b"nothing to hear")
    assert main(predict_words(field, fitted, tmp_path / "alone.csv")) == 1
    words = [*predict_words(field, fitted, tmp_path / "ray.csv"), "--ray", "local"]
    killed_after_a_unit(words, tmp_path / "ray.csv.scores")
    program = [sys.executable, "-m", "hear_audiomamba", *words]
    done = subprocess.run(program, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 1 and "broken.wav" in done.stderr, done.stderr
    assert (tmp_path / "ray.csv").read_text() == (tmp_path / "alone.csv").read_text()


def write_hours(path: Path, hours: float) -> Path:
    """Write a recording minute by minute: noise with a tone of 2 s at the start of each."""
    minute = sound("silence", 60.0, 0)
    minute[: 2 * RATE] += sound("high", 2.0, 1)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for _ in range(round(60 * hours)):
            file.write(minute)
    return path


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from Linux's getrusage")
def test_memory_does_not_grow_with_the_length_of_a_recording(fitted, tmp_path):
    program = (
        "import resource, sys\n"
        "from hear_audiomamba.cli import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    peaks = {}
    for hours in (0.1, 2.0):
        path = write_hours(tmp_path / f"{hours}.wav", hours)
        words = predict_words(path, fitted, tmp_path / f"{hours}.csv")
        done = subprocess.run([sys.executable, "-c", program, *words], env=environment(), capture_output=True,
                              text=True, timeout=1800)  # fmt: skip
        assert done.returncode == 0, done.stderr
        peaks[hours] = int(done.stdout.split()[-1]) / 1024
        lines = (tmp_path / f"{hours}.csv").read_text().splitlines()
        assert sum(",high," in line for line in lines) >= 0.9 * 60 * hours
    # Two hours of samples are 460 MB as float32; the probabilities of each second are 86 kB.
    assert peaks[2.0] < peaks[0.1] + 60, peaks
