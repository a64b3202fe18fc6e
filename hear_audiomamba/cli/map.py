"""`hear-audiomamba map`: a picture of folders of embeddings."""

from __future__ import annotations

import argparse
from pathlib import Path

from .options import add_label_files, shown_labels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folders", nargs="+", type=Path, metavar="DIR", help="folder written by `embed`")
    add("--out", type=Path, metavar="FILE", help="picture, .png, .svg or .pdf (default: DIR/map.png)")
    add("--method", default="tsne", choices=("tsne", "umap", "none"),
        help="drawn beside the principal components")  # fmt: skip
    add("--limit", type=int, default=10_000, metavar="N", help="most points; of more, a random sample")
    add("--seed", type=int, default=0)
    add_label_files(parser)


def run(args: argparse.Namespace) -> int:
    from ..archive.map import draw_map

    picture = args.out or args.folders[0] / "map.png"
    labels = shown_labels(args)
    layouts = draw_map(args.folders, picture, args.method, args.limit, args.seed, labels)
    n_drawn = len(layouts["pca"])
    sample = ", the most that --limit allows," if n_drawn == args.limit else ""
    print(f"{n_drawn} clips{sample} drawn in {picture}, their coordinates in {picture.with_suffix('.csv')}")
    return 0
