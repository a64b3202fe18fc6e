"""The real hear-validator on every variant and the real runner on one, in the HEAR tools' own environment."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from hear_audiomamba.models.registry import list_models

from ..evaluate.tiny_task import write_scene_task

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / os.environ.get("HEAREVAL_VENV", ".venv-heareval") / "bin"
with_tools = pytest.mark.skipif(
    not (TOOLS / "hear-validator").exists(), reason="the HEAR tools are not installed: `make heareval`"
)

# The validator cannot be given options, so a module of a few lines forwards the variant.
FORWARD = """
from hear_audiomamba import get_scene_embeddings, get_timestamp_embeddings
from hear_audiomamba import load_model as load


def load_model(model_file_path=""):
    return load(model_file_path, variant={name!r}, device="cpu")
"""


def run(*command, folder: Path) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


@with_tools
@pytest.mark.parametrize(
    "name",
    [n if n == "ssamba_tiny" else pytest.param(n, marks=pytest.mark.slow) for n in list_models()],
)
def test_hear_validator_has_nothing_to_warn_of(name, tmp_path):
    (tmp_path / "forward_variant.py").write_text(FORWARD.format(name=name))
    done = run(TOOLS / "hear-validator", "forward_variant", folder=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.rstrip().endswith("Looks good!")
    # One warning is printed for every model, whatever it does; the other is our own about its weights.
    warned = [line for line in done.stderr.splitlines() if re.search(r"\w*Warning:", line)]
    known = ("UntrainedWeightsWarning", "A common bug we have seen in many codebases")
    assert all(any(part in line for part in known) for line in warned), warned


@with_tools
def test_the_embeddings_runner_takes_the_variant_as_an_option(tmp_path):
    write_scene_task(tmp_path / "tasks" / "tones-v1-full", clips=3)
    done = run(
        TOOLS / "python", "-m", "heareval.embeddings.runner", "hear_audiomamba", "--tasks-dir", "tasks",
        "--model-options", '{"variant": "ssamba_tiny"}', folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (task,) = (tmp_path / "embeddings").glob("hear_audiomamba*ssamba*/tones-v1-full")
    embeddings = list(task.glob("fold*/*.embedding.npy"))
    assert len(embeddings) == 9
    assert all(np.load(path).shape == (1536,) for path in embeddings)
