"""`hear-audiomamba explore`: a page in which an archive is seen, heard and labelled."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import ConfigError, counted
from .options import add_label_files, shown_labels
from .progress import ProgressLine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "folders", nargs="+", type=Path, metavar="DIR",
        help="folder written by `embed`, with or without --segments",
    )  # fmt: skip
    add("--out", type=Path, metavar="FILE", help="the page (default: DIR/explore.html)")
    add("--method", default="auto", choices=("auto", "pca", "tsne", "umap"),
        help="layout; auto: UMAP if installed, else t-SNE of up to 5,000 sounds, else PCA")  # fmt: skip
    add("--limit", type=int, default=50_000, metavar="N", help="most sounds; of more, a random sample")
    add("--no-pictures", action="store_true", help="leave out the spectrograms, for which files are decoded")
    add("--seed", type=int, default=0)
    add_label_files(parser)


def run(args: argparse.Namespace) -> int:
    from ..classify.explore.build import write_page

    page = args.out or args.folders[0] / "explore.html"
    if page.suffix != ".html":
        raise ConfigError(f"--out {page}: the page's name ends in .html")
    labels = shown_labels(args)
    with ProgressLine() as line:
        made = write_page(
            args.folders, page, method=args.method, limit=args.limit, labels=labels, seed=args.seed,
            pictures=not args.no_pictures,
            on_progress=lambda done, count: line.say(f"{done} of {counted(count, 'sound')} drawn"),
        )  # fmt: skip
    if not args.no_pictures and made.pictures < made.shown:
        missing = counted(made.shown - made.pictures, "sound")
        print(f"note: {missing} without a picture, since the file could not be read", file=sys.stderr)
    print(f"{page}: {made.shown} of {counted(made.total, 'sound')}, {made.method}; open it in a browser")
    return 0
