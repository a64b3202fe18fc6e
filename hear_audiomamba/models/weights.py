"""Weights files: our safetensors format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..config import ModelConfig
from ..errors import CheckpointError
from ..io.files import replacing
from ..io.tensors import system_errors
from .catalogue import METADATA_KEY
from .families import config_from_dict


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file.

    Raises:
        CheckpointError: the file is missing, truncated, or not safetensors.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file: {error}") from None


def save_weights(
    path: str | Path,
    state: Mapping[str, Tensor],
    config: ModelConfig,
    *,
    dtype: torch.dtype | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Path:
    """Write weights in our format: safetensors with the model's configuration in the metadata.

    The file appears under its name only when it is complete.

    Args:
        path: where to; the folder is made.
        state: the encoder's tensors.
        config: what model they belong to.
        dtype: store floating tensors in this type, for instance `torch.float16`; None keeps theirs.
        notes: more facts for the metadata (recipe, steps, licence, …), fit for JSON.

    Returns:
        The path.

    Raises:
        CheckpointError: the name does not end in `.safetensors`.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(
            f"{path}: weights are saved as safetensors; give a name that ends in .safetensors"
        )
    tensors = {key: value.detach().cpu() for key, value in state.items()}
    if dtype is not None:
        tensors = {key: v.to(dtype) if v.is_floating_point() else v for key, v in tensors.items()}
    # Cloned, since safetensors stores no two tensors that share memory.
    tensors = {key: value.clone().contiguous() for key, value in tensors.items()}
    metadata = {METADATA_KEY: json.dumps({"config": config.to_dict(), "notes": dict(notes or {})})}
    with replacing(path) as partial, system_errors():
        # As the user's umask wants it; safetensors puts a private file in its place.
        mode = partial.stat().st_mode
        save_file(tensors, partial, metadata)
        partial.chmod(mode)
    return path


def own_metadata(metadata: Mapping[str, str]) -> tuple[ModelConfig, dict[str, Any]] | None:
    """Return configuration and notes from the metadata of a file of ours, or None of another's.

    Raises:
        CheckpointError: the metadata is ours but damaged.
    """
    text = metadata.get(METADATA_KEY)
    if text is None:
        return None
    try:
        values = json.loads(text)
        return config_from_dict(values["config"]), values.get("notes", {})
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"the file's own description of its model cannot be used: {error}") from None


def load_strict(
    module: nn.Module, state: Mapping[str, Tensor], what: str, optional: tuple[str, ...] = ()
) -> None:
    """Load tensors into a module, every one in its place.

    Args:
        module: an encoder.
        state: its tensors, any floating type.
        what: where they are from, for the error.
        optional: prefixes of keys that may be missing.

    Raises:
        CheckpointError: names the keys that are missing, unexpected, of another shape or not finite.
    """
    own = module.state_dict()
    missing = [k for k in own if k not in state and not (optional and k.startswith(optional))]
    unexpected = [k for k in state if k not in own]
    shapes = [
        f"{k} {tuple(state[k].shape)} instead of {tuple(own[k].shape)}"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    faults = [
        f"{label} {', '.join(keys[:4])}{f' and {len(keys) - 4} more' if len(keys) > 4 else ''}"
        for label, keys in (("missing", missing), ("unexpected", unexpected), ("wrong shape", shapes))
        if keys
    ]
    if faults:
        raise CheckpointError(f"{what} does not fit: {'; '.join(faults)}")
    broken = [k for k in own if k in state and not torch.isfinite(state[k]).all()]
    if broken:
        raise CheckpointError(
            f"{what}: {broken[0]}{f' and {len(broken) - 1} more' if len(broken) > 1 else ''} "
            "contain NaN or infinity, as after a training run that diverged; take an earlier checkpoint"
        )
    module.load_state_dict(dict(state), strict=False)
