"""Checkpoints of other makers, read safely and turned into our format."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from ..config import ModelConfig
from ..errors import CheckpointError
from .registry import FAMILIES, VARIANTS, all_blocks
from .weights import own_metadata, read_safetensors, save_weights

# Names that training arguments pickled beside the weights refer to. Each is replaced by a class that
# keeps what it is given and does nothing; whatever is not listed here, the loader refuses.
_INERT_NAMES = {
    "argparse": ("Namespace",),
    "ml_collections.config_dict.config_dict": ("ConfigDict", "FrozenConfigDict", "FieldReference"),
    "yacs.config": ("CfgNode",),
    "builtins": ("int", "float", "str", "bool", "tuple", "list", "dict"),
}


def read_checkpoint(path: str | Path) -> tuple[ModelConfig, dict[str, Tensor], dict]:
    """Read a weights file of ours or of the published models' authors.

    Args:
        path: `.safetensors`, or a PyTorch file (`.pth`, `.pt`, `.ckpt`, `.bin`).

    Returns:
        The model's configuration, its tensors under our names, and the notes stored with it.

    Raises:
        CheckpointError: not readable, not safe to read, or of no model this package knows.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        state, metadata = read_safetensors(path)
        own = own_metadata(metadata)
        if own is not None:
            return own[0], state, own[1]
    else:
        state = read_pytorch(path)
    config, state = recognise(state, str(path))
    return config, state, {"converted_from": path.name}


def recognise(state: Mapping[str, Tensor], what: str) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Tell from its tensors which model a published checkpoint is.

    Args:
        state: tensors under the authors' names, with or without DataParallel's `module.` prefix.
        what: where they are from, for the error.

    Returns:
        The configuration and the tensors under our names.

    Raises:
        CheckpointError: no family's keys are there.
    """
    if state and all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    for family in FAMILIES.values():
        if family.looks_like(state):
            encoder, features = family.config_from_state(state)
            config = ModelConfig(family.name, "", features, encoder, family.window_seconds)
            return config.replace(variant=name_of(config)), family.convert_state(state)
    keys = ", ".join(sorted(state)[:4])
    raise CheckpointError(
        f"{what}: not a checkpoint of {', '.join(FAMILIES)}; its first keys are {keys or '(none)'}"
    )


def name_of(config: ModelConfig) -> str:
    """Return the variant a configuration is, or a description such as "ssam (embed_dim 192, depth 4)"."""
    for name, variant in VARIANTS.items():
        if variant.config.family == config.family and variant.config.encoder == all_blocks(config.encoder):
            return name
    sizes = {key: getattr(config.encoder, key, None) for key in ("embed_dim", "depth", "depths")}
    return f"{config.family} ({', '.join(f'{k} {v}' for k, v in sizes.items() if v is not None)})"


def convert(source: str | Path, target: str | Path, *, dtype: torch.dtype | None = None) -> ModelConfig:
    """Write a checkpoint in our format.

    Args:
        source: a file `read_checkpoint` takes.
        target: the `.safetensors` file to write.
        dtype: store floating tensors in this type; None keeps theirs.

    Returns:
        The configuration that was found.

    Raises:
        CheckpointError: see `read_checkpoint`.
    """
    config, state, notes = read_checkpoint(source)
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_weights(target, state, config, dtype=dtype, notes=notes)
    return config


def read_pytorch(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a PyTorch file, read by the restricted unpickler.

    Args:
        path: a state dict, or a checkpoint that holds one as model, state_dict or model_state.

    Raises:
        CheckpointError: not readable, or it needs a name that is not on the list.
    """
    try:
        with _inert_names():
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        AttributeError,
    ) as error:
        reason = next(
            (line for line in str(error).splitlines() if "GLOBAL" in line or "global" in line), None
        )
        reason = reason or (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path}: cannot be read safely as a PyTorch checkpoint: {reason.strip()}"
        ) from None
    for key in ("model", "state_dict", "model_state_dict", "model_state"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, expected a dictionary of tensors")
    return {key: value for key, value in content.items() if isinstance(value, Tensor)}


@contextmanager
def _inert_names() -> Iterator[None]:
    """Let the restricted unpickler take the listed names, as stand-ins, and restore its list afterwards."""
    serialization = torch.serialization
    before = list(serialization.get_safe_globals())
    stand_ins = [
        type(name, (_Inert,), {"__module__": module, "__qualname__": name})
        for module, names in _INERT_NAMES.items()
        for name in names
    ]
    serialization.add_safe_globals(stand_ins)
    try:
        yield
    finally:
        serialization.clear_safe_globals()
        serialization.add_safe_globals(before)


class _Inert:
    """Takes any state and does nothing with it."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs) -> None:
        pass

    def __setstate__(self, state) -> None:
        pass
