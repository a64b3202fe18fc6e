"""`hear-audiomamba info NAME_OR_FILE`: everything about one model or weights file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..config import ModelConfig
from ..io.files import sha256_of
from ..models.convert import read_checkpoint
from ..models.flops import count_flops
from ..models.manifest import manifest
from ..models.registry import describe, find_variant, model_info


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a variant, with a weights tag or without, or a weights file")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    if Path(args.model).is_file():
        config, state, notes = read_checkpoint(args.model)
        info = _with_flops(describe(config), config)
        info["file"] = {
            "sha256": sha256_of(args.model),
            "tensors": len(state),
            "dtypes": sorted({str(t.dtype).removeprefix("torch.") for t in state.values()}),
            "notes": notes,
        }
    else:
        name, _, tag = args.model.partition(".")
        info = _with_flops(model_info(name), find_variant(name).config)
        entries = {k: v for k, v in manifest()["weights"].items() if k.partition(".")[0] == info["name"]}
        info["weights"] = {k: v for k, v in entries.items() if not tag or k.endswith("." + tag)}
    if args.json:
        print(json.dumps(info, indent=2))
        return 0
    for key, value in info.items():
        _print(key, value, 0)
    return 0


def _with_flops(info: dict, config: ModelConfig) -> dict:
    """Put the operations that embedding 10 s takes before the configuration."""
    counted = count_flops(config, 10.0)
    layout = info.pop("config")
    gflops = {"products": counted.products / 1e9, "scans": counted.scans / 1e9}
    return info | {"gflops_of_10_s": {k: round(v, 2) for k, v in gflops.items()}, "config": layout}


def _print(key: str, value, depth: int) -> None:
    pad = "  " * depth
    if isinstance(value, dict) and value:
        print(f"{pad}{key}:")
        for inner, content in value.items():
            _print(inner, content, depth + 1)
    else:
        print(f"{pad}{key}: {f'{value:,}' if isinstance(value, int) and value > 9999 else value}")
