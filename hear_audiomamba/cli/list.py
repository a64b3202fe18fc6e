"""`hear-audiomamba list`: the models by name, and the weights by name."""

from __future__ import annotations

import argparse
import fnmatch
import json
from typing import Any

from ..errors import VariantError, did_you_mean
from ..models.catalogue import catalogue, weights_of
from ..models.manifest import manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", help="only these names, for instance 'ssam*'; in quotes")
    parser.add_argument("--pretrained", action="store_true",
        help="the weights by name, and where they come from")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    rows = _weights() if args.pretrained else _models()
    if args.pattern is not None:
        known = [name for row in rows for name in _names(row)]
        rows = [row for row in rows if fnmatch.filter(_names(row), args.pattern)]
        if not rows:
            raise VariantError(f"no name is like {args.pattern!r}; {did_you_mean(args.pattern, known)}")
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    from .console import console, table

    if args.pretrained:
        shown = table("name", "where", "licence", "how it was made")
        shown.columns[0].no_wrap = True
    else:
        numbers = ("parameters", "embedding", "rate", "step")
        shown = table("model", *numbers, "weights (* default)", right=numbers)
    for row in rows:
        shown.add_row(*(_weights_cells(row) if args.pretrained else _model_cells(row)))
    console().print(shown)
    return 0


def _names(row: dict[str, Any]) -> list[str]:
    return [row["name"], *([row["short_name"]] if "short_name" in row else [])]


def _models() -> list[dict[str, Any]]:
    rows = []
    for name, entry in catalogue()["variants"].items():
        weights = weights_of(name)
        default = next((tag for tag, found in weights.items() if found["default"]), None)
        rows.append({**entry, "weights": list(weights), "default_weights": default, "sources": weights})
    return rows


def _model_cells(row: dict[str, Any]) -> tuple[str, ...]:
    tags = (f"{tag}{'*' if entry['default'] else ''} ({entry['licence']}, {_where(entry)})"
            for tag, entry in row["sources"].items())  # fmt: skip
    return (
        row["short_name"], f"{row['encoder_parameters'] / 1e6:.1f} M", str(row["scene_embedding_size"]),
        f"{row['sample_rate'] // 1000} kHz", f"{row['timestamp_step_ms']:.0f} ms",
        "\n".join(tags) or "none: train or convert",
    )  # fmt: skip


def _weights() -> list[dict[str, Any]]:
    listed = manifest()["weights"]
    order = [
        name for variant in catalogue()["variants"] for name in listed if name.partition(".")[0] == variant
    ]
    return [{"name": name, **listed[name]} for name in order]


def _weights_cells(row: dict[str, Any]) -> tuple[str, ...]:
    return row["name"], _where(row), row["licence"], row["recipe"]


def _where(entry: dict[str, Any]) -> str:
    """Say in a word where the file comes from."""
    if entry.get("file"):
        return "bundled"
    return "download" if entry.get("hub") or entry.get("url") else "by hand"
