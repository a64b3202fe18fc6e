"""`hear-audiomamba info NAME_OR_FILE`: everything about one model or weights file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..io.files import sha256_of
from ..models.catalogue import bundled_settings, catalogue, find_entry, read_header, weights_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a model, with a weights tag or without, or a weights file")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    info = _of_file(Path(args.model)) if Path(args.model).is_file() else _of_name(args.model)
    if args.json:
        print(json.dumps(info, indent=2))
        return 0
    for key, value in info.items():
        _print(key, value, 0)
    return 0


def _of_name(name: str) -> dict[str, Any]:
    """Describe a variant with the weights that its name loads: those of the tag, else the default's."""
    variant, _, tag = name.partition(".")
    info = dict(find_entry(variant))
    weights = weights_of(info["name"])
    if tag and tag not in weights:
        raise CheckpointError(f"no weights {tag!r} for {variant}; known: {', '.join(weights) or 'none'}")
    chosen = tag or next((each for each, entry in weights.items() if entry["default"]), "")
    config = bundled_settings(weights[chosen]) if chosen else None
    info["loads"] = chosen or "nothing: the weights are random"
    if config is not None:
        info = _with_settings(info, config, f"{info['name']}.{chosen}")
    else:
        info = _with_settings(info, info["config"], info["name"])
    return {**info, "weights": {each: entry for each, entry in weights.items() if not tag or each == tag}}


def _of_file(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        header = read_header(path)
        if header.settings is not None:
            info = _described(header.settings["config"])
            facts = {"tensors": header.n_tensors, "dtypes": header.dtypes}
            return {
                **info,
                "file": {"sha256": sha256_of(path), **facts, "notes": header.settings.get("notes", {})},
            }
    from ..models.convert import read_checkpoint

    config, state, notes = read_checkpoint(path)
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in state.values()})
    facts = {"tensors": len(state), "dtypes": dtypes, "notes": notes}
    return {**_described(config.to_dict()), "file": {"sha256": sha256_of(path), **facts}}


def _described(config: dict[str, Any]) -> dict[str, Any]:
    """Describe the model of a configuration: from the table if it is there, else by building it."""
    table = catalogue()
    known = {**table["variants"], **table["weights"]}
    for name, entry in known.items():
        if entry["config"] == config:
            return _with_settings(dict(find_entry(name.partition(".")[0])), config, name)
    from ..models.families import config_from_dict, describe
    from ..models.flops import count_flops

    model = config_from_dict(config)
    counted = count_flops(model, 10.0)
    gflops = {"products": round(counted.products / 1e9, 2), "scans": round(counted.scans / 1e9, 2)}
    return _with_settings({**describe(model), "gflops_of_10_s": gflops}, config, "")


def _with_settings(info: dict[str, Any], config: dict[str, Any], name: str) -> dict[str, Any]:
    """Put what belongs to the weights where the variant's own settings stand, the configuration last."""
    settings = ("window_seconds", "scene_pooling", "timestamp_smoothing_ms")
    info = {**info, **{key: config[key] for key in settings if key in config}}
    known = catalogue()["weights"].get(name)
    if known is not None and known["config"] == config:
        info["gflops_of_10_s"] = known["gflops_of_10_s"]
    info.pop("config", None)
    return {**info, "config": config}


def _print(key: str, value: Any, depth: int) -> None:
    pad = "  " * depth
    if isinstance(value, dict) and value:
        print(f"{pad}{key}:")
        for inner, content in value.items():
            _print(inner, content, depth + 1)
    else:
        print(f"{pad}{key}: {f'{value:,}' if isinstance(value, int) and value > 9999 else value}")
