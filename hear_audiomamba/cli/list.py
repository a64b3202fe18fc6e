"""`hear-audiomamba list`: the models by name."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ..models.catalogue import catalogue, weights_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    rows = []
    for name, entry in catalogue()["variants"].items():
        weights = weights_of(name)
        default = next((tag for tag, found in weights.items() if found["default"]), None)
        rows.append({**entry, "weights": list(weights), "default_weights": default, "sources": weights})
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    from rich.table import Table

    from .console import console

    table = Table(box=None, header_style="bold")
    for column in ("model", "parameters", "embedding", "rate", "step", "weights (* default)"):
        table.add_column(
            column, justify="right" if column in ("parameters", "embedding", "rate", "step") else "left"
        )
    for row in rows:
        table.add_row(
            row["short_name"],
            f"{row['encoder_parameters'] / 1e6:.1f} M",
            str(row["scene_embedding_size"]),
            f"{row['sample_rate'] // 1000} kHz",
            f"{row['timestamp_step_ms']:.0f} ms",
            "\n".join(_weights(tag, found) for tag, found in row["sources"].items())
            or "none: train or convert",
        )
    console().print(table)
    return 0


def _weights(tag: str, entry: dict[str, Any]) -> str:
    """Return a tag with its licence and where the file comes from."""
    where = (
        "bundled" if entry.get("file") else "download" if entry.get("hub") or entry.get("url") else "by hand"
    )
    return f"{tag}{'*' if entry['default'] else ''} ({entry['licence']}, {where})"
