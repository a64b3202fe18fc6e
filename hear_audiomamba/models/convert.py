"""Checkpoints of other makers, read safely and turned into our format."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config import ModelConfig
from ..errors import CheckpointError, ConfigError, SettingsWarning
from ..io.audio import AUDIO_EXTENSIONS
from ..io.files import make_folder
from .families import FAMILIES, all_blocks, build_modules, sizes_of
from .registry import VARIANTS
from .weights import own_metadata, read_safetensors, save_weights

# Names that training arguments pickled beside the weights refer to. Each is replaced by a class that
# keeps what it is given and does nothing; whatever is not listed here, the loader refuses.
_INERT_NAMES = {
    "argparse": ("Namespace",),
    "ml_collections.config_dict.config_dict": ("ConfigDict", "FrozenConfigDict", "FieldReference"),
    "yacs.config": ("CfgNode",),
    "builtins": ("int", "float", "str", "bool", "tuple", "list", "dict"),
}


# Under our names: tensors whose length is the model's width, and those whose length is the number of classes.
_WIDTHS = ("patch_embed.proj.bias", "backbone.stages.0.0.norm.weight")
_HEADS = ("classifier.weight", "classifier.1.weight", "head.linear.weight", "head.conv.weight")


def read_checkpoint(path: str | Path) -> tuple[ModelConfig, dict[str, Tensor], dict[str, Any]]:
    """Read a weights file of ours or of the published models' authors.

    Args:
        path: `.safetensors`, or a PyTorch file (`.pth`, `.pt`, `.ckpt`, `.bin`).

    Returns:
        The model's configuration, its tensors under our names, and the notes stored with it.

    Raises:
        CheckpointError: not readable, not safe to read, or of no model this package knows.

    Warns:
        SettingsWarning: a bare state dict of ours, which does not contain window, pooling, smoothing and labels.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    if path.suffix.lower() in AUDIO_EXTENSIONS:
        raise CheckpointError(
            f"{path} is an audio file, not weights; embed_file or `embed` makes embeddings of it"
        )
    bare = True
    if path.suffix == ".safetensors":
        state, metadata = read_safetensors(path)
        own = own_metadata(metadata)
        if own is not None:
            _check_size(own[0], state, path)
            return own[0], state, own[1]
    else:
        state, bare = _read_pytorch(path)
    found = None
    for wrapper, names in _without_wrappers(state):
        # A published checkpoint of SSAM has our names too, inside a dictionary.
        if bare or wrapper not in ("", "module."):
            found = own_names(names)
        if found is not None:
            state = names
            break
    if found is None:
        config, state = recognise(state, str(path))
        return config, state, {"converted_from": path.name}
    warnings.warn(
        f"{path.name}: a bare state dict says nothing of its settings, so those of {found.variant} are taken: "
        f"windows of {found.window_seconds:g} s, {found.scene_pooling} pooling, smoothing "
        f"{found.timestamp_smoothing_ms:g} ms; model.save(path) keeps a model's own",
        SettingsWarning,
        stacklevel=3,
    )
    return found, state, {"converted_from": path.name}


def _without_wrappers(state: dict[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield tensors by name, then without what modules around the encoder put before every name.

    That is "encoder." of `AudioEmbedder`, "module." of DistributedDataParallel, "_orig_mod." of a compiled
    module, "model." or the like of a user's own; and any of these before another.
    """
    wrapper = ""
    yield wrapper, state
    while len(first := {key.partition(".")[0] for key in state}) == 1 and all("." in key for key in state):
        wrapper += f"{first.pop()}."
        state = {key.partition(".")[2]: value for key, value in state.items()}
        yield wrapper, state


def own_names(state: Mapping[str, Tensor]) -> ModelConfig | None:
    """Return the configuration of a model whose tensors, under our names, are these; None where there is none.

    The published SSAM has the names and shapes of ours.
    """
    width = next((len(state[key]) for key in _WIDTHS if key in state), 0)
    for variant in VARIANTS.values():
        if sizes_of(variant.config.encoder)[0] != width:  # building each to compare it takes its time
            continue
        config = variant.config.replace(encoder=_resized(variant.config.encoder, state))
        try:
            encoder = build_modules(config, "meta")[1]
        except ConfigError:
            continue
        own = encoder.state_dict()
        heads = encoder.optional_keys
        needed = {key for key in own if not (heads and key.startswith(heads))}
        if needed <= state.keys() <= own.keys() and all(own[key].shape == state[key].shape for key in state):
            return config.replace(variant=name_of(config))
    return None


def _resized(encoder: Any, state: Mapping[str, Tensor]) -> Any:
    """Return an encoder's configuration with the depth and the classes that tensors under our names have."""
    changes: dict[str, Any] = {}
    blocks = {match[1] for key in state if (match := re.match(r"blocks\.(\d+)\.", key))}
    heads = [state[key] for key in _HEADS if key in state]
    known = {field.name for field in fields(encoder)}
    if "depth" in known and blocks:
        changes["depth"] = len(blocks)
    if "num_classes" in known and "head" not in known:
        changes["num_classes"] = len(heads[0]) if heads else 0
    elif "num_classes" in known and heads:
        changes["num_classes"] = len(heads[0])
    elif "head" in known:
        changes["head"] = "none"
    return encoder.replace(**changes)


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
    keys = ", ".join(sorted(map(str, state))[:4])
    raise CheckpointError(
        f"{what}: not a checkpoint of {', '.join(FAMILIES)}; its first keys are {keys or '(none)'}"
    )


def name_of(config: ModelConfig) -> str:
    """Return the variant a configuration is, or a description such as "ssam (embed_dim 192, depth 4)"."""
    for name, variant in VARIANTS.items():
        if variant.config.family == config.family and variant.config.encoder == all_blocks(config.encoder):
            return name
    width, depths = sizes_of(config.encoder)
    sizes = f"embed_dim {width}, depth {depths[0]}" if len(depths) == 1 else f"depths {depths}"
    return f"{config.family} ({sizes})"


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
    make_folder(target.parent)
    save_weights(target, state, config, dtype=dtype, notes=notes)
    return config


def read_pytorch(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a PyTorch file, read by the restricted unpickler.

    Args:
        path: a state dict, or a checkpoint that holds one as model, state_dict or model_state.

    Raises:
        CheckpointError: not readable, or it needs a name that is not on the list.
    """
    return _read_pytorch(path)[0]


def _read_pytorch(path: Path) -> tuple[dict[str, Tensor], bool]:
    """Return the tensors of a PyTorch file, and whether they may be a plain state dict of ours.

    They may, except as `model` beside the `args` of a training run: so the authors of SSAM published theirs.
    """
    try:
        with _inert_names():
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file makes the unpickler raise is not one kind of error
        lines = str(error).splitlines() or [type(error).__name__]
        reason = next((line for line in lines if "global" in line.lower()), lines[0])
        if f"GLOBAL {__name__.partition('.')[0]}." in reason:
            raise CheckpointError(
                f"{path}: holds a whole model as torch.save(model) pickles it, and unpickling can run any code; "
                "write weights with model.save(path)"
            ) from None
        raise CheckpointError(
            f"{path}: cannot be read safely as a PyTorch checkpoint: {reason.strip()}"
        ) from None
    bare = True
    for key in ("model", "state_dict", "model_state_dict", "model_state"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content, bare = content[key], key != "model" or "args" not in content
            break
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, expected a dictionary of tensors")
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}, bare


@contextmanager
def _inert_names() -> Iterator[None]:
    """Let the restricted unpickler take the listed names, as stand-ins, and restore its list afterwards."""
    serialization = torch.serialization
    before = list(serialization.get_safe_globals())
    stand_ins: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
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


def _check_size(config: ModelConfig, state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse a description of a model far larger than the file, before memory is taken for it."""
    most = {"depth": len(state), "trained_depth": len(state)}
    longest = max((size for tensor in state.values() for size in tensor.shape), default=0)
    for name, value in config.encoder.to_dict().items():
        for number in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(number, int) and not 0 <= number <= most.get(name, 64 * longest):
                raise CheckpointError(
                    f"{path}: its description says {name} {number}, which its tensors are too few for"
                )


class _Inert:
    """Takes any state and does nothing with it."""

    def __new__(cls, *args: object, **kwargs: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass
