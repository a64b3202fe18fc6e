"""HEAR's real tools, unmodified: the validator and the embeddings runner, with and without the launcher."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from hear_audiomamba import load_model
from hear_audiomamba.evaluate.kit.install import write_settings
from hear_audiomamba.models.weights import save_weights
from tests.evaluate.kit import kit_python, run_kit
from tests.evaluate.tiny_task import write_event_task, write_scene_task

# The validator says this to every module; the other is about weights that are not bundled (yet).
_ALWAYS_SAID = ("IMPORTANT: A common bug", "UntrainedWeightsWarning")


def _warnings(text: str) -> list[str]:
    found = re.findall(r"^.*?(\w*Warning: .*)$", text, flags=re.MULTILINE)
    return [w for w in found if not any(known in w for known in _ALWAYS_SAID)]


def _validator() -> Path:
    return Path(kit_python()).with_name("hear-validator")


def test_the_validator_is_content_with_the_default_as_its_own_command(tmp_path: Path) -> None:
    import subprocess

    done = subprocess.run(
        [_validator(), "hear_audiomamba"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("Looks good!")
    assert _warnings(done.stderr) == []


@pytest.mark.parametrize(
    "variant", ["ssam_small_200_16x4", pytest.param("ssam_base_200_16x4", marks=pytest.mark.slow)]
)
def test_the_validator_is_content_with_the_larger_sizes(variant: str, tmp_path: Path) -> None:
    model = load_model(variant=variant, device="cpu")
    weights = save_weights(tmp_path / f"{variant}.safetensors", model.encoder.state_dict(), model.config)
    launcher = ("-m", "hear_audiomamba.evaluate.heartools")
    done = run_kit(*launcher, "validator", "hear_audiomamba", "--model", weights, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("Looks good!")
    assert f"scene_embedding_size: {model.scene_embedding_size}" in done.stdout
    assert _warnings(done.stderr) == []


def test_the_embeddings_runner_writes_a_folder_a_task(tmp_path: Path) -> None:
    write_scene_task(tmp_path / "tasks" / "tones-v1", clips=3)
    write_event_task(tmp_path / "tasks" / "events-v1", clips=1)
    done = run_kit(
        "-m", "heareval.embeddings.runner", "hear_audiomamba", "--tasks-dir", "tasks", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    made = tmp_path / "embeddings" / "hear_audiomamba"
    assert sorted(p.name for p in made.iterdir()) == ["events-v1", "tones-v1"]
    assert all((made / task / ".done.embeddings").exists() for task in ("events-v1", "tones-v1"))
    rows, size = json.loads((made / "tones-v1" / "fold00.embedding-dimensions.json").read_text())
    values = np.fromfile(made / "tones-v1" / "fold00.embeddings.npy", np.float32).reshape(rows, size)
    assert rows == 3 and np.isfinite(values).all()
    assert size == load_model(device="cpu").scene_embedding_size

    # The numbers are those of the package itself.
    import soundfile

    model = load_model(device="cpu")
    for name in json.loads((made / "tones-v1" / "fold00.json").read_text()):
        audio, _ = soundfile.read(
            tmp_path / "tasks" / "tones-v1" / "16000" / "fold00" / name, dtype="float32"
        )
        expected = model.scene(torch.from_numpy(audio)[None])[0].detach().numpy()
        stored = np.load(made / "tones-v1" / "fold00" / f"{name}.embedding.npy")
        assert np.allclose(stored, expected, atol=1e-4)


def test_the_environment_lets_the_predictions_runner_read_its_own_checkpoints(tmp_path: Path) -> None:
    import os
    import subprocess
    import venv

    venv.create(tmp_path / "made", symlinks=True)
    python = tmp_path / "made" / "bin" / "python"
    (packages,) = (tmp_path / "made").glob("lib/python3*/site-packages")
    write_settings(packages)
    show = "import os; print(os.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'])"
    for given, seen in (({}, "1"), ({"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "0"}, "0")):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("TORCH", "PYTHON"))}
        done = subprocess.run([python, "-c", show], env={**clean, **given}, capture_output=True, text=True)
        assert done.stdout.strip() == seen, done.stderr


def test_the_launcher_needs_no_tensorflow(tmp_path: Path) -> None:
    code = (
        "import sys; from hear_audiomamba.evaluate.heartools import supply_tensorflow; supply_tensorflow();"
        "import tensorflow as tf; assert 'standin' in tf.__version__ and not isinstance(object(), tf.Module);"
        "import heareval.embeddings.task_embeddings, hearvalidator.validate"
    )
    done = run_kit("-W", "ignore", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
