"""The real hear-validator on every variant, in the HEAR tools' own environment."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from hear_audiomamba.registry import list_models

ROOT = Path(__file__).resolve().parents[2]
VALIDATOR = ROOT / os.environ.get("HEAREVAL_VENV", ".venv-heareval") / "bin" / "hear-validator"

# The validator cannot be given options, so a module of a few lines forwards the variant.
FORWARD = """
from hear_audiomamba import get_scene_embeddings, get_timestamp_embeddings
from hear_audiomamba import load_model as load


def load_model(model_file_path=""):
    return load(model_file_path, variant={name!r}, device="cpu")
"""


@pytest.mark.skipif(not VALIDATOR.exists(), reason="the HEAR tools are not installed: `make heareval`")
@pytest.mark.parametrize(
    "name",
    [n if n == "ssamba_tiny" else pytest.param(n, marks=pytest.mark.slow) for n in list_models()],
)
def test_hear_validator_has_nothing_to_warn_of(name, tmp_path):
    (tmp_path / "forward_variant.py").write_text(FORWARD.format(name=name))
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [VALIDATOR, "forward_variant"], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.rstrip().endswith("Looks good!")
    # One warning is printed for every model, whatever it does; the other is our own about its weights.
    warned = [line for line in done.stderr.splitlines() if re.search(r"\w*Warning:", line)]
    known = ("UntrainedWeightsWarning", "A common bug we have seen in many codebases")
    assert all(any(part in line for part in known) for line in warned), warned
