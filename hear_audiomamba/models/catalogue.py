"""What the models are, without building them: a table made once, and the headers of weights files. Needs no torch."""

from __future__ import annotations

import functools
import json
import struct
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import CheckpointError, VariantError, did_you_mean
from .bundled import bundled_path
from .manifest import manifest

METADATA_KEY = "hear_audiomamba"
_LONGEST_HEADER = 100_000_000  # bytes: the limit of safetensors itself
_TABLE = Path(__file__).with_name("catalogue.json")


@functools.cache
def catalogue() -> dict[str, Any]:
    """Return the table `tools/catalogue.py` made.

    Keys: "variants" (name → what `models.registry.model_info` tells, with "short_name" and
    "gflops_of_10_s"), and "weights" ("variant.tag" → config and gflops_of_10_s of bundled files).
    """
    table: dict[str, Any] = json.loads(_TABLE.read_text(encoding="utf-8"))
    return table


def find_entry(name: str) -> dict[str, Any]:
    """Return a variant's entry by its name or short name.

    Raises:
        VariantError: the name is not known; says which names are near.
    """
    variants: dict[str, dict[str, Any]] = catalogue()["variants"]
    for full, entry in variants.items():
        if name in (full, entry["short_name"]):
            return entry
    names = {*variants, *(entry["short_name"] for entry in variants.values())}
    raise VariantError(f"unknown model {name!r}; {did_you_mean(name, names)}")


class Header(NamedTuple):
    """What a safetensors file says before its tensors.

    Attributes:
        settings: of a file of ours, `{"config": …, "notes": …}`; None of another's.
        n_tensors: how many tensors it holds.
        dtypes: their types, as safetensors writes them.
    """

    settings: dict[str, Any] | None
    n_tensors: int
    dtypes: list[str]


def read_header(path: str | Path) -> Header:
    """Read the header of a safetensors file.

    Raises:
        CheckpointError: not readable, not safetensors, or its description is damaged.
    """
    try:
        with open(path, "rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > _LONGEST_HEADER:
                raise ValueError("its header is too long")
            header = json.loads(file.read(size))
        own = header.pop("__metadata__", {}).get(METADATA_KEY)
        settings = None if own is None else json.loads(own)
        if settings is not None and not isinstance(settings["config"], dict):
            raise ValueError("its configuration is no mapping")
        return Header(settings, len(header), sorted({entry["dtype"] for entry in header.values()}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file: {error}") from None


def weights_of(variant: str) -> dict[str, dict[str, Any]]:
    """Return the manifest's entries of a variant's weights by tag, each with "default" (bool)."""
    listing = manifest()
    entries = {}
    for name, entry in listing["weights"].items():
        owner, _, tag = name.partition(".")
        if owner == variant:
            entries[tag] = {**entry, "default": listing["defaults"].get(variant) == tag}
    return entries


def bundled_settings(entry: dict[str, Any]) -> dict[str, Any] | None:
    """Return the configuration in the file of a manifest entry; None where no file is bundled."""
    if not entry.get("file"):
        return None
    settings = read_header(bundled_path("weights") / entry["file"]).settings
    return None if settings is None else settings["config"]
