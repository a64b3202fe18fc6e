"""Where HEAR's own tools are, for the tests that compare with them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def kit_python() -> str:
    """The interpreter with HEAR's tools. `make test` always makes it, so in CI a missing one is a failure."""
    named = os.environ.get("AUDIOMAMBA_HEAREVAL_PYTHON")
    python = Path(named) if named else ROOT / ".venv-heareval" / "bin" / "python"
    if python.is_file():
        return str(python)
    if os.environ.get("CI") == "true":
        pytest.fail(f"HEAR's tools are not installed: no {python}")
    pytest.skip(f"HEAR's tools are not installed (make heareval): no {python}")


def run_kit(*arguments: str | Path, cwd: Path, timeout: float = 1200) -> subprocess.CompletedProcess[str]:
    """Run something in the environment of HEAR's tools and return what it printed."""
    return subprocess.run(
        [kit_python(), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
