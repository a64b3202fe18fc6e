"""Checkpoints of a run: the model in our own format, and all that is needed to continue exactly.

`checkpoints/step-00001000/model.safetensors` is what `load_model` opens (the averaged weights if the
run keeps an average); `training.safetensors` beside it holds the trained parameters, the heads and
the optimiser's moments. A checkpoint's folder appears under its name only when it is complete.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ...config import ModelConfig
from ...errors import CheckpointError, counted
from ...io.files import remove_unfinished, replacing, replacing_folder, write_text
from ...io.tensors import system_errors
from ...models.weights import read_safetensors, save_weights
from .optim import WeightAverage

_KEY = "hear_audiomamba.training"
_ENCODER = "encoder."
_NAME = re.compile(r"step-(\d+)$")


class Checkpoints:
    """The checkpoints of one run's folder.

    Args:
        out: the run's folder.
        keep: how many of the newest to keep; the best one stays besides.
    """

    def __init__(self, out: Path, keep: int) -> None:
        self.out, self.keep = out, keep
        self.folder = out / "checkpoints"

    def steps(self) -> list[int]:
        """Return the steps of the complete checkpoints, oldest first."""
        if not self.folder.is_dir():
            return []
        found = (_NAME.match(path.name) for path in self.folder.iterdir() if path.is_dir())
        return sorted(int(match[1]) for match in found if match)

    def path(self, step: int) -> Path:
        """Return the folder of a checkpoint."""
        return self.folder / f"step-{step:08d}"

    def best(self) -> dict[str, Any] | None:
        """Return {step, metric, value} of the best checkpoint so far, or None."""
        try:
            best: dict[str, Any] = json.loads((self.folder / "best.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return best

    def note_metric(self, step: int, metric: str, value: float) -> None:
        """Keep the checkpoint of `step` as the best if its `value` is higher than that of the best so far.

        A best by another metric, as a run resumed with other settings may leave, is replaced.
        """
        best = self.best()
        if best is None or best["metric"] != metric or value > best["value"]:
            best = {"step": step, "metric": metric, "value": value}
            write_text(self.folder / "best.json", json.dumps(best))

    def save(
        self,
        step: int,
        objective: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: WeightAverage | None,
        model: ModelConfig,
        notes: dict[str, Any],
        state: dict[str, Any],
    ) -> Path:
        """Write a checkpoint and remove those that are no longer kept.

        Args:
            step: steps done.
            objective: encoder and heads.
            optimizer: AdamW over the objective's parameters.
            average: of the objective's weights, or None.
            model: configuration of the model.
            notes: for the model's metadata.
            state: further facts the run needs to continue, fit for JSON.

        Raises:
            CheckpointError: it cannot be written (disk full, no permission).
        """
        target = self.path(step)
        try:
            with replacing_folder(target) as folder, system_errors():
                tensors = {f"state/{k}": v for k, v in objective.state_dict().items()}
                kept = dict(objective.state_dict())
                if average is not None:
                    kept.update(average.values)
                    tensors.update({f"average/{k}": v for k, v in _heads_of(average.values).items()})
                weights = {k.removeprefix(_ENCODER): v for k, v in kept.items() if k.startswith(_ENCODER)}
                save_weights(folder / "model.safetensors", weights, model, notes={**notes, "step": step})
                tensors.update(_optimizer_tensors(objective, optimizer))
                tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
                facts = {_KEY: json.dumps({**state, "step": step})}
                save_file(tensors, folder / "training.safetensors", facts)
        except OSError as error:
            raise CheckpointError(f"{target}: cannot be written: {error}") from None
        return target

    def publish(self, step: int) -> None:
        """Make a checkpoint's model the run's; a reader never sees half of one."""
        with replacing(self.out / "model.safetensors") as partial:
            shutil.copyfile(self.path(step) / "model.safetensors", partial)

    def remove_old(self) -> None:
        """Remove all but the newest `keep` checkpoints and the best one, and what a killed run left."""
        best = self.best()
        steps = self.steps()
        for step in steps[: -self.keep]:
            if best is None or step != best["step"]:
                shutil.rmtree(self.path(step), ignore_errors=True)
        remove_unfinished(self.folder)

    def facts(self, step: int) -> dict[str, Any]:
        """Return the `state` a checkpoint was saved with.

        Raises:
            CheckpointError: it is damaged.
        """
        path = self.path(step) / "training.safetensors"
        try:
            with safe_open(str(path), framework="pt") as file:
                facts: dict[str, Any] = json.loads((file.metadata() or {})[_KEY])
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise CheckpointError(f"{path}: not a readable training checkpoint: {error}") from None
        return facts

    def load(
        self,
        step: int,
        objective: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: WeightAverage | None,
    ) -> None:
        """Put a checkpoint's values into a run.

        Raises:
            CheckpointError: it is damaged or of another model.
        """
        tensors, _ = read_safetensors(self.path(step) / "training.safetensors")
        stored = {k.removeprefix("state/"): v for k, v in tensors.items() if k.startswith("state/")}
        own = objective.state_dict()
        wrong = sorted(set(stored) ^ set(own)) or sorted(k for k in own if stored[k].shape != own[k].shape)
        if wrong:
            raise CheckpointError(
                f"{self.path(step)} is of another model or recipe: "
                f"{counted(len(wrong), 'tensor does', 'tensors do')} not fit, for instance {wrong[0]}"
            )
        objective.load_state_dict(stored)
        _load_optimizer(objective, optimizer, tensors)
        if average is not None:
            average.load(self._kept(step, objective, tensors))

    def load_kept(self, step: int, objective: nn.Module) -> None:
        """Put into an objective the weights a checkpoint's model has: the averaged ones, if there is an average.

        Raises:
            CheckpointError: it is damaged or of another model.
        """
        tensors, _ = read_safetensors(self.path(step) / "training.safetensors")
        objective.load_state_dict(self._kept(step, objective, tensors))

    def _kept(self, step: int, objective: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        model, _ = read_safetensors(self.path(step) / "model.safetensors")
        kept = {f"{_ENCODER}{k}": v for k, v in model.items()}
        device = next(objective.parameters()).device
        for name in objective.state_dict():
            if name not in kept:
                kept[name] = tensors.get(f"average/{name}", tensors[f"state/{name}"])
        return {name: value.to(device) for name, value in kept.items()}


def provenance() -> dict[str, Any]:
    """Return versions and the state of the source checkout, for the metadata of weights."""
    from ... import __version__

    found: dict[str, Any] = {
        "hear_audiomamba": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    package = Path(__file__).resolve().parent
    try:
        git = ["git", "-C", str(package)]
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, encoding="utf-8", errors="replace", timeout=10
        )
        if commit.returncode == 0:
            changes = subprocess.run(
                [*git, "status", "--porcelain", "--untracked-files=no"],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=10,
            )
            found["commit"] = commit.stdout.strip()
            found["uncommitted_changes"] = bool(changes.stdout.strip())
    except (OSError, subprocess.TimeoutExpired):
        pass  # no git here: the versions must do
    return found


def _heads_of(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in values.items() if not name.startswith(_ENCODER)}


def _optimizer_tensors(objective: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    names: dict[Tensor, str] = {parameter: name for name, parameter in objective.named_parameters()}
    return {
        f"optimizer/{names[parameter]}/{key}": value
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
    }


def _load_optimizer(
    objective: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    parameters = dict(objective.named_parameters())
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            name, field = key.removeprefix("optimizer/").rsplit("/", 1)
            parameter = parameters[name]
            optimizer.state[parameter][field] = value.to(parameter.device)
