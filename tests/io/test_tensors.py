"""A disk that is full is told by whoever writes safetensors."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

# A process whose files may hold 4,000 bytes only, and what each of them writes.
SMALL_FILES = """
import resource, signal, sys
import numpy as np
from hear_audiomamba import load_model
from hear_audiomamba.classify.classifier import AudioClassifier
from hear_audiomamba.errors import OutputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
model = load_model(variant="ssam_tiny", depth=1, device="cpu")
classifier = AudioClassifier().fit(np.random.default_rng(0).normal(size=(20, 2000)), np.arange(20) % 2)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))
for name, save in (("model", model.save), ("classifier", classifier.save)):
    try:
        save(f"{sys.argv[1]}/{name}.safetensors")
    except OutputError as error:
        print(f"{error.errno} {error}")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits on the size of files are POSIX")
def test_a_full_disk_is_an_error_of_the_file_that_was_to_be_written(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", SMALL_FILES, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    expected = [
        f"{errno.EFBIG} {tmp_path / name}.safetensors: cannot be written: {os.strerror(errno.EFBIG)}"
        for name in ("model", "classifier")
    ]
    assert done.stdout.splitlines() == expected, done.stderr
    assert list(tmp_path.iterdir()) == []
