"""Write the table of models that `hear-audiomamba list` and `info` read: hear_audiomamba/models/catalogue.json.

usage: python tools/catalogue.py     (after a change of variants, encoders, or bundled weights)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hear_audiomamba.config import ModelConfig
from hear_audiomamba.models.bundled import bundled_path
from hear_audiomamba.models.catalogue import read_header
from hear_audiomamba.models.families import FAMILIES, config_from_dict
from hear_audiomamba.models.flops import count_flops
from hear_audiomamba.models.manifest import manifest
from hear_audiomamba.models.registry import ALIASES, VARIANTS, model_info

TARGET = Path(__file__).resolve().parents[1] / "hear_audiomamba" / "models" / "catalogue.json"


def table() -> dict[str, Any]:
    """Return the table."""
    # The name of a family is no short name: it stands for whichever of its models is the default.
    short = {full: name for name, full in ALIASES.items() if name not in FAMILIES}
    variants = {}
    for name, variant in VARIANTS.items():
        info = model_info(name)
        config = info.pop("config")
        variants[name] = {
            **info, "short_name": short.get(name, name), **gflops(variant.config), "config": config,
        }  # fmt: skip
    weights = {}
    for name, entry in manifest()["weights"].items():
        if entry.get("file"):
            settings = read_header(bundled_path("weights") / entry["file"]).settings
            assert settings is not None, name
            config = settings["config"]
            weights[name] = {**gflops(config_from_dict(config)), "config": config}
    return {"variants": variants, "weights": weights}


def gflops(config: ModelConfig) -> dict[str, Any]:
    """Return the operations that embedding 10 s takes."""
    counted = count_flops(config, 10.0)
    parts = {"products": counted.products / 1e9, "scans": counted.scans / 1e9}
    return {"gflops_of_10_s": {name: round(value, 2) for name, value in parts.items()}}


if __name__ == "__main__":
    TARGET.write_text(json.dumps(table(), indent=1) + "\n", encoding="utf-8")
