"""Reference tensors of the published models: read them, and hold results to their own tolerances."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

COMMITTED = Path(__file__).resolve().parent / "golden_data"
# The full set beside the checkout, where it is; AUDIOMAMBA_GOLDEN=committed tests as a clone without it does.
FULL = Path(__file__).resolve().parents[2] / "shared" / "golden"
FOLDERS = (COMMITTED,) if os.environ.get("AUDIOMAMBA_GOLDEN") == "committed" else (FULL, COMMITTED)


def golden_path(name: str) -> Path:
    """Return the path of a fixture: of the full set, else of the committed subset."""
    return next(path for folder in FOLDERS if (path := folder / f"{name}.safetensors").is_file())


def available(*names: str) -> list[str]:
    """Return the fixtures that are here; of each family at least one is in the committed subset."""
    return [name for name in names if any((folder / f"{name}.safetensors").is_file() for folder in FOLDERS)]


def describe(name: str) -> dict[str, Any]:
    """Return the description of a fixture."""
    description: dict[str, Any] = json.loads(golden_path(name).with_suffix(".json").read_text())
    return description


def load_golden(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a fixture and its description."""
    return load_file(golden_path(name)), describe(name)


def golden_weights(name: str, prefix: str = "") -> dict[str, Tensor]:
    """Return stored weights as the reference used them: float16 values upcast to float32."""
    return {
        key.removeprefix(prefix): (value.float() if value.is_floating_point() else value)
        for key, value in load_file(golden_path(name)).items()
        if key.startswith(prefix)
    }


def published_file(name: str, prefix: str = "") -> dict[str, Tensor]:
    """Return tensors with the names and shapes of a whole published file.

    Where only some layers are committed they stand for the others: good for reading a file, not for results.
    """
    weights = golden_weights(name, prefix)
    depth = describe(name).get("published_depth")
    if depth is None:
        return weights
    layer = re.compile(r"(?P<head>.*\blayers\.)(?P<index>\d+)(?P<tail>\..*)")
    repeated = {}
    kept = 1 + max(int(match["index"]) for key in weights if (match := layer.fullmatch(key)))
    for key, value in weights.items():
        match = layer.fullmatch(key)
        if match is None:
            repeated[key] = value
            continue
        for index in range(int(match["index"]), depth, kept):
            repeated[f"{match['head']}{index}{match['tail']}"] = value.clone()
    return repeated


def assert_golden(actual: Tensor, tensors: dict[str, Tensor], meta: dict[str, Any], key: str) -> None:
    """Assert that `actual` agrees with the fixture's `key` within both of its recorded tolerances."""
    expected = tensors[key].double()
    info = meta["keys"][key]
    actual = actual.detach().double()
    assert actual.shape == expected.shape, f"{key}: shape {tuple(actual.shape)}, not {tuple(expected.shape)}"
    error = actual - expected
    assert torch.isfinite(error).all(), f"{key}: not finite"
    worst = error.abs().max().item()
    assert worst <= info["atol_float32"], f"{key}: max abs {worst:.3g} > {info['atol_float32']:.3g}"
    limit = info.get("rms_rel_tol_float32")
    if limit is not None:
        ratio = (error.pow(2).mean().sqrt() / expected.pow(2).mean().sqrt().clamp_min(1e-300)).item()
        assert ratio <= limit, f"{key}: rms ratio {ratio:.3g} > {limit:.3g}"
