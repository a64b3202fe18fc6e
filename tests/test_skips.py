"""A test that is skipped for a reason nobody listed fails the run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent


@pytest.mark.parametrize("spread", [(), ("-n", "2")], ids=["here", "workers"])
@pytest.mark.parametrize("where", ["test", "module"])
@pytest.mark.parametrize(
    ("reason", "status"), [("could not import 'ray': No module named 'ray'", 0), ("an array is missing", 1)]
)
def test_only_listed_skips_pass(reason, status, where, spread, tmp_path):
    if spread:
        pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    skip = f"pytest.skip({reason!r}, allow_module_level=True)"
    (tmp_path / "test_example.py").write_text(f"import pytest\ndef test_one(): {skip}\n")
    if where == "module":
        (tmp_path / "test_example.py").write_text(f"import pytest\n{skip}\n")
    (tmp_path / "test_other.py").write_text("def test_two(): pass\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.skips", "-p", "no:cacheprovider", *spread]
    done = subprocess.run([*command, str(tmp_path)], cwd=TESTS.parent, capture_output=True, text=True)
    assert done.returncode == status, done.stdout
    assert ("not on the list" in done.stdout) == bool(status)
