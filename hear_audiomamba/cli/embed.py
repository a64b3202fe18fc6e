"""`hear-audiomamba embed`: recordings to embeddings on disk."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = "audio files, folders and archives to embeddings on disk"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the verb."""
    parser.add_argument("paths", nargs="+", metavar="PATH", help="audio file, folder, glob, manifest or tar archive")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument("--model", default="", metavar="NAME_OR_FILE", help="variant, weights file or hub id")
    parser.add_argument("--scene", action="store_true", help="one embedding a file")
    parser.add_argument("--timestamps", action="store_true", help="embeddings at regular times")
    parser.add_argument("--device", help="where to compute, for instance cuda:0")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--overwrite", action="store_true", help="throw earlier results of this folder away")
    parser.add_argument("--skip-errors", action="store_true", help="exit status 0 although files could not be read")


def run(args: argparse.Namespace) -> int:
    """Run the verb; returns the exit status."""
    from tqdm import tqdm

    from ..extract.run import embed_sources
    from ..extract.sources import find_sources
    from ..hear import load_model

    sources = find_sources(args.paths)
    model = load_model(args.model, device=args.device, precision=args.precision)
    both = args.scene == args.timestamps
    args.out.mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(sources), unit="file", file=sys.stderr) as bar:

        def progress(source, error):
            bar.update()
            if error:
                bar.write(f"hear-audiomamba: error: {error}", file=sys.stderr)

        failed = embed_sources(
            sources, model, args.out, scene=args.scene or both, timestamps=args.timestamps or both, progress=progress
        )
    print(f"{len(sources) - len(failed)} of {len(sources)} files embedded in {args.out}")
    return 1 if failed and not args.skip_errors else 0
