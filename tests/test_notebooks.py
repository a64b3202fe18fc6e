"""Notebooks of the documentation run from beginning to end, and their outputs are there and small."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs").glob("*.ipynb"))


def outputs(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [cell["outputs"] for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_outputs_are_kept_and_small(notebook):
    assert sum(map(bool, outputs(notebook))) >= 5
    assert notebook.stat().st_size < 200_000
    assert "Traceback" not in notebook.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_it_runs(notebook, tmp_path):
    for name in ("nbclient", "ipykernel"):
        pytest.importorskip(name, reason=f"{name} is not installed: it is in the extra docs")
    if not shutil.which("hear-audiomamba", path=Path(sys.executable).parent):
        pytest.skip("the program hear-audiomamba is part of a checkout's environment")
    out = tmp_path / "out.ipynb"
    command = [sys.executable, str(ROOT / "tools" / "run_notebook.py"), str(notebook), str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [bool(held) for held in outputs(out)] == [bool(held) for held in outputs(notebook)]
