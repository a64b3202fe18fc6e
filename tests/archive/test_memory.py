"""Hours-long files take no more memory than short ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from .conftest import TINY

ROOT = Path(__file__).parents[2]
CODE = """
import json, resource, sys, warnings
warnings.simplefilter("ignore")
from hear_audiomamba import load_model
from hear_audiomamba.archive import clips
from hear_audiomamba.archive.options import EmbedOptions
from hear_audiomamba.archive.run import Resources, embed_sources
from hear_audiomamba.archive.sources import find_sources
clips.SPILL_BYTES = 4 << 20  # far below what either recording needs
model = load_model(**json.loads(sys.argv[3]))
options = EmbedOptions(timestamps=True, format=sys.argv[4])
summary = embed_sources(find_sources([sys.argv[1]]), model, sys.argv[2], options, Resources(workers=0))
assert summary.embedded == 1, summary.errors
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak_mib(minutes: float, folder: Path, format: str = "npz", model: dict | None = None) -> int:
    """Embed a recording of so many minutes in a process of its own; return that process's peak memory."""
    path = folder / f"{minutes:g}.wav"
    noise = (np.random.default_rng(0).standard_normal(8000 * 60) * 3000).astype(np.int16)
    with soundfile.SoundFile(path, "w", 8000, 1, "PCM_U8") as file:
        for _ in range(int(minutes)):
            file.write(noise)
    command = [
        sys.executable,
        "-c",
        CODE,
        path,
        folder / f"out{minutes:g}",
        json.dumps(model or TINY),
        format,
    ]
    done = subprocess.run(
        [str(word) for word in command], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_memory_does_not_grow_with_the_length(tmp_path):
    # Each of these would be in memory if it were kept there, with MiB for the 40 minutes between the lengths:
    # samples, 16,000 float32 a second; the spectrogram, 100 frames of 80; rows, 25 of 5 · 64.
    wide = {**TINY, "embed_dim": 64}
    kept = 40 * 60 * 4 / 2**20 * min(16000, 100 * 80, 25 * 5 * 64)
    short, long = peak_mib(10, tmp_path, model=wide), peak_mib(50, tmp_path, model=wide)
    assert long - short < kept / 2, f"{short} MiB for 10 minutes, {long} MiB for 50; kept would be {kept:.0f}"


@pytest.mark.slow
def test_ten_hours_stay_under_two_gigabytes(tmp_path):
    wide = {**TINY, "embed_dim": 192}  # rows as wide as ssam_tiny's: 3.4 GB of timestamp embeddings
    assert peak_mib(600, tmp_path, "npy", wide) < 2000
