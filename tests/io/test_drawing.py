"""Pictures are refused before the work, where matplotlib does not start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("matplotlib")


def test_a_backend_that_there_is_not_is_one_line():
    program = (
        "from hear_audiomamba.errors import ConfigError\n"
        "from hear_audiomamba.io.drawing import require_drawing\n"
        "try:\n"
        "    require_drawing('a map', 'matplotlib')\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "MPLBACKEND": "nonsense"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("MPLBACKEND") and "'nonsense'" in done.stdout
    assert len(done.stdout.splitlines()) == 1 and not done.stderr
