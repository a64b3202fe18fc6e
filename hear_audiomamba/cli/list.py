"""`hear-audiomamba list`: the models by name."""

from __future__ import annotations

import argparse
import json

from ..models.manifest import manifest
from ..models.registry import list_models, model_info


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    listing = manifest()
    rows = []
    for name in list_models():
        info = model_info(name)
        # An entry without a hash is a place to look, not yet weights to load: `info` shows it.
        known = [key for key, entry in listing["weights"].items() if entry.get("sha256")]
        tags = [key.partition(".")[2] for key in known if key.partition(".")[0] == name]
        rows.append({**info, "weights": tags, "default_weights": listing["defaults"].get(name)})
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    from rich.table import Table

    from .console import console

    table = Table(box=None, header_style="bold")
    for column in ("model", "parameters", "embedding", "rate", "step", "weights"):
        table.add_column(column, justify="left" if column in ("model", "weights") else "right")
    for row in rows:
        tags = [t + ("*" if t == row["default_weights"] else "") for t in row["weights"]]
        table.add_row(
            row["name"],
            f"{row['encoder_parameters'] / 1e6:.1f} M",
            str(row["scene_embedding_size"]),
            f"{row['sample_rate'] // 1000} kHz",
            f"{row['timestamp_step_ms']:.0f} ms",
            ", ".join(tags) or "none bundled",
        )
    console().print(table)
    return 0
