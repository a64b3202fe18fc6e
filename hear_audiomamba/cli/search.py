"""`hear-audiomamba search`: the nearest recordings in a folder of embeddings."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from .options import add_machine_options, add_model_options, load, model_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("query", type=Path, metavar="QUERY", help="an audio file")
    add("folder", type=Path, metavar="DIR", help="folder written by `embed`")
    add("--count", type=int, default=10, metavar="N", help="how many to show")
    add("--metric", default="cosine", choices=("cosine", "euclidean"))
    add("--engine", default="exact", choices=("exact", "faiss", "usearch"),
        help="what computes; all are exact")  # fmt: skip
    add("--json", action="store_true", help="one JSON object a line instead of a table")
    add_model_options(parser)
    add_machine_options(parser, decoding=False)


def run(args: argparse.Namespace) -> int:
    from ..archive.read import read_scenes
    from ..archive.search import embed_query, search

    made_with = next(iter(read_scenes(args.folder))).provenance
    args.model = args.model or made_with["model"]
    model = load(args, **{**_changed_options(made_with), **model_arguments(args)})
    query = embed_query(args.query, model, args.folder)
    for rank, hit in enumerate(search(query, args.folder, args.count, args.metric, args.engine), 1):
        if args.json:
            print(json.dumps({"rank": rank, **hit._asdict()}))
        else:
            stretch = "" if hit.start != hit.start else f"  {hit.start:8.2f} s  +{hit.duration:.2f} s"
            print(f"{rank:3}  {hit.score:8.4f}{stretch}  {hit.path}")
    return 0


def _changed_options(made_with: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the folder's model that differ from its variant's: they need not be given again."""
    from ..models.registry import find_variant

    own = find_variant(made_with["model"]).config.to_dict()
    return {
        key: value
        for part in ("features", "encoder")
        for key, value in made_with["config"][part].items()
        if own[part].get(key) != value
    }
