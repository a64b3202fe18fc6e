"""A test that is skipped for a reason nobody listed fails the run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent


@pytest.mark.parametrize(
    ("reason", "status"), [("no GPU; there is a GPU elsewhere", 0), ("I felt like it", 1)]
)
def test_only_listed_skips_pass(reason, status, tmp_path):
    file = tmp_path / "test_example.py"
    file.write_text(
        "import pytest\nfrom tests.conftest import Skips\n"
        f"def test_one(): pytest.skip({reason!r})\ndef test_two(): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", str(file)]
    done = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True)
    assert done.returncode == status, done.stdout
    assert ("not on the list" in done.stdout) == bool(status)
