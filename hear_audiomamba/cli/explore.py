"""`hear-audiomamba explore`: a page in which an archive is seen, heard and labelled."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="folder written by `embed`, with or without --segments")
    add("--out", type=Path, metavar="FILE", help="the page (default: DIR/explore.html)")
    add("--method", default="auto", choices=("auto", "pca", "tsne", "umap"),
        help="layout; auto: UMAP if installed, else t-SNE of up to 5,000 sounds, else PCA")  # fmt: skip
    add("--labels", type=Path, metavar="FILE", help="labels given already, as `fit` reads them")
    add("--limit", type=int, default=50_000, metavar="N", help="most sounds; of more, a random sample")
    add("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    from ..classify.explore.build import write_page
    from ..io.labels import read_labels

    page = args.out or args.folder / "explore.html"
    if page.suffix != ".html":
        raise ConfigError(f"--out {page}: the page's name ends in .html")
    labels = None if args.labels is None else read_labels(args.labels, kind="multi", rare="keep")
    made = write_page(args.folder, page, method=args.method, limit=args.limit, labels=labels, seed=args.seed)
    print(f"{page}: {made.shown} of {made.total} sounds, {made.method}; open it in a browser")
    return 0
