"""Weights files: our safetensors format, the manifest of known weights, and the hub."""

from __future__ import annotations

import functools
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
from ..io.files import replacing, sha256_of
from .bundled import bundled_path
from .registry import config_from_dict

METADATA_KEY = "hear_audiomamba"


@functools.cache
def manifest() -> dict[str, Any]:
    """Return the list of known weights: `weights/manifest.json`.

    Keys: "defaults" (variant → tag) and "weights" ("variant.tag" → entry). An entry has sha256, bytes,
    licence, source, recipe, and either "file" (bundled beside the manifest) or "hub" (repo, file, revision).
    """
    path = bundled_path("weights") / "manifest.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"the list of weights {path} cannot be read: {error}") from None


def known_weights(variant: str, tag: str | None = None) -> Path | None:
    """Return the local file of weights the manifest knows, fetched from the hub if need be.

    Args:
        variant: full name of a variant.
        tag: which of its weights; None takes the variant's default.

    Returns:
        The file, its hash checked; None when no tag was asked for and the variant has no bundled default.

    Raises:
        CheckpointError: the tag is not known, its entry is incomplete, the hash is wrong, or the hub
            cannot be reached.
    """
    listing = manifest()
    wanted = tag or listing["defaults"].get(variant)
    if wanted is None:
        return None
    name = f"{variant}.{wanted}"
    entry = listing["weights"].get(name)
    if entry is None:
        tags = [key.split(".", 1)[1] for key in listing["weights"] if key.split(".", 1)[0] == variant]
        raise CheckpointError(f"no weights {wanted!r} for {variant}; known: {', '.join(tags) or 'none'}")
    if entry.get("file"):
        path = bundled_path("weights") / entry["file"]
        if not path.is_file():
            raise CheckpointError(
                f"the bundled weights {name} are not in this installation: {path.name} is missing"
            )
    else:
        path = _hub_entry(name, entry)
    found = sha256_of(path)
    if found != entry["sha256"]:
        raise CheckpointError(
            f"{path.name}: SHA-256 {found[:12]}… differs from the manifest's {entry['sha256'][:12]}…; "
            "the file is damaged or was changed"
        )
    return path


def hub_file(repo: str, file: str | None = None, revision: str | None = None) -> Path:
    """Return a file of a Hugging Face repository, from the local cache or downloaded.

    Args:
        repo: "owner/name".
        file: path inside it; by default "model.safetensors".
        revision: commit, tag or branch.

    Raises:
        CheckpointError: it is neither cached nor reachable (`HF_HUB_OFFLINE=1` keeps to the cache).
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    file = file or "model.safetensors"
    try:
        return Path(hf_hub_download(repo, file, revision=revision))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{repo}: cannot get {file!r} from the hub or its cache: {reason}") from None


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
        OutputError: the file cannot be written.
    """
    path = Path(path)
    tensors = {
        key: (value.to(dtype) if dtype and value.is_floating_point() else value).detach().cpu().contiguous()
        for key, value in state.items()
    }
    metadata = {METADATA_KEY: json.dumps({"config": config.to_dict(), "notes": dict(notes or {})})}
    with replacing(path) as partial:
        save_file(tensors, partial, metadata)
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
        CheckpointError: names the keys that are missing, unexpected or of another shape.
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
    module.load_state_dict(dict(state), strict=False)


def _hub_entry(name: str, entry: Mapping[str, Any]) -> Path:
    hub = entry["hub"]
    wanted = {"file": hub.get("file"), "revision": hub.get("revision"), "sha256": entry.get("sha256")}
    gaps = [key for key, value in wanted.items() if not value]
    if gaps:
        raise CheckpointError(
            f"{name}: the manifest entry lacks {', '.join(gaps)}, so the file from {hub['repo']} could not be "
            "checked; download it yourself and pass its path to load_model"
        )
    return hub_file(hub["repo"], hub["file"], hub["revision"])
