"""Killed at twenty random places, or without room on the disk: resumed, the same bytes, nothing partial shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("format", "first_seed"), [("npz", 0), ("parquet", 10), ("npy", 20)])
def test_killed_anywhere_and_resumed_is_byte_identical(make_archive, tmp_path, format, first_seed):
    archive = make_archive(18, (0.1, 2.5))
    (archive / "group0" / "corrupt.wav").write_bytes(b"nothing to hear")
    command = [sys.executable, "-m", "tests.archive.interrupted", archive, tmp_path, format, first_seed, 10]
    done = subprocess.run(
        [str(word) for word in command], cwd=ROOT, capture_output=True, text=True, timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["killed"] == 10
    assert found["different"] == [] and found["visible"] == []
    assert found["full"], "after a full disk the folder differs from that of an undisturbed run"
    assert "no space left" in found["message"] and "run the same command again" in found["message"]
