"""`hear-audiomamba map`: a picture of a folder of embeddings."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="folder written by `embed`")
    add("--out", type=Path, metavar="FILE", help="picture, .png, .svg or .pdf (default: DIR/map.png)")
    add("--method", default="tsne", choices=("tsne", "umap", "none"),
        help="drawn beside the principal components")  # fmt: skip
    add("--limit", type=int, default=10_000, metavar="N", help="most points; of more, a random sample")
    add("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    from ..archive.map import draw_map

    picture = args.out or args.folder / "map.png"
    layouts = draw_map(args.folder, picture, args.method, args.limit, args.seed)
    print(
        f"{len(layouts['pca'])} clips drawn in {picture}, their coordinates in {picture.with_suffix('.csv')}"
    )
    return 0
