"""Reference tensors of the published models: read them, and hold results to their own tolerances."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SHARED = Path(__file__).resolve().parents[2] / "shared"
COMMITTED = Path(__file__).resolve().parent / "golden_data"


def golden_path(name: str) -> Path:
    """Return the path of a fixture: the full set beside the checkout, else the committed subset."""
    for folder in (SHARED / "golden", COMMITTED):
        if (folder / f"{name}.safetensors").is_file():
            return folder / f"{name}.safetensors"
    pytest.skip(f"golden tensors {name!r}: ../shared/golden is not here and the subset lacks them")


class Subset(dict):
    """The committed part of a fixture: a test that asks for the rest is skipped, saying so."""

    def __missing__(self, key: str):
        pytest.skip(f"golden tensor {key!r} is only in ../shared/golden, which is not here")


def load_golden(name: str) -> tuple[dict[str, torch.Tensor], dict]:
    """Return the tensors of a fixture and its JSON description."""
    path = golden_path(name)
    tensors = load_file(path)
    if path.parent == COMMITTED:
        tensors = Subset(tensors)
    return tensors, json.loads(path.with_suffix(".json").read_text())


def golden_weights(name: str, prefix: str = "") -> dict[str, torch.Tensor]:
    """Return stored weights as the reference used them: float16 values upcast to float32."""
    tensors, _ = load_golden(name)
    return {
        k.removeprefix(prefix): (v.float() if v.is_floating_point() else v)
        for k, v in tensors.items()
        if k.startswith(prefix)
    }


def assert_golden(actual: torch.Tensor, tensors: dict, meta: dict, key: str) -> None:
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
