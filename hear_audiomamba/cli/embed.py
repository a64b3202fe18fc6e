"""`hear-audiomamba embed`: recordings to embeddings on disk."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, counted, require
from .options import add_machine_options, add_model_options, devices, load, machine_arguments, model_arguments
from .progress import ProgressLine, length

if TYPE_CHECKING:
    from ..archive.progress import Summary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("paths", nargs="+", metavar="PATH",
        help="audio file, folder, glob, manifest (.csv, .jsonl, .parquet) or .tar")  # fmt: skip
    add("--out", required=True, type=Path, metavar="DIR",
        help="folder for the results; the same command continues a stopped run")  # fmt: skip

    add = parser.add_argument_group("what to make").add_argument
    add("--scene", action="store_true", help="only one embedding a file (parquet, npy: the default)")
    add("--timestamps", action="store_true", help="also embeddings every 50 ms or less (npz: the default)")
    add("--segments", type=float, metavar="SECONDS",
        help="one scene embedding for every stretch of this length")  # fmt: skip
    add("--format", default="npz", choices=("npz", "parquet", "npy", "csv", "hoplite"),
        help="one npz a file, shards of many, or a database of perch-hoplite")  # fmt: skip
    add("--columns", default="default", choices=("default", "birdnet", "opensoundscape", "raven"),
        help="names of the columns of parquet and csv, as other programs call them")  # fmt: skip
    add("--dtype", default="float32", choices=("float32", "float16"), help="of the embeddings on disk")
    add("--normalize", default="clip", choices=("clip", "window"),
        help="log-mel statistics: of the whole file, as the model defines it, or of each window")  # fmt: skip
    add("--shard-size", type=int, default=512, metavar="N", help="files in a shard")

    add_model_options(parser)
    add = add_machine_options(parser)
    add("--shard", metavar="I/N", help="do share I of N, counted from 0: for array jobs on many machines")
    add("--ray", metavar="ADDRESS",
        help="spread over a Ray cluster (needs the extra `scale`); 'local' starts one here")  # fmt: skip

    add = parser.add_argument_group("errors and earlier results").add_argument
    add("--overwrite", action="store_true", help="delete the results of an earlier run in DIR")
    add("--skip-errors", action="store_true", help="exit status 0 although some files could not be read")
    add("--keep-truncated", action="store_true", help="embed the readable part of files that are cut")
    add("--retry-errors", action="store_true", help="try files again that failed in an earlier run")
    add("--quiet", action="store_true", help="no progress line")


def run(args: argparse.Namespace) -> int:
    from ..archive.options import EmbedOptions
    from ..archive.run import Resources, check_libraries, embed_sources
    from ..archive.sources import find_sources
    from ..models.devices import find_device

    hoplite = args.format == "hoplite"
    if hoplite:
        _check_hoplite(args)
    options = EmbedOptions(
        timestamps=_timestamps(args), format="npy" if hoplite else args.format, columns=args.columns,
        dtype=args.dtype, segment_seconds=args.segments, normalize=args.normalize, shard_sources=args.shard_size,
    )  # fmt: skip
    resources = Resources(
        devices=devices(args), workers=args.workers, share=_share(args.shard),
        retry_errors=args.retry_errors, overwrite=args.overwrite, keep_truncated=args.keep_truncated,
    )  # fmt: skip
    check_libraries(options)
    for device in resources.devices:
        find_device(device)
    sources = find_sources(args.paths)
    if args.ray is not None:
        from ..archive.cluster import embed_on_ray

        arguments = {**machine_arguments(args), **model_arguments(args)}
        summary = embed_on_ray(sources, arguments, args.out, options, resources, args.ray)
        for error in summary.errors:
            print("hear-audiomamba: error:", *error["reason"].splitlines(), file=sys.stderr)
    else:
        model = load(args, **model_arguments(args))
        with ProgressLine(quiet=args.quiet) as line:
            summary = embed_sources(sources, model, args.out, options, resources, line.update)
    print(_sentence(summary, args.out))
    if hoplite:
        from ..adapters.hoplite import DATABASE_FILES, write_database

        write_database(args.out, name=args.model)
        print(f"{' and '.join(DATABASE_FILES)} written in {args.out}")
    return 1 if summary.failed and not args.skip_errors else 0


def _check_hoplite(args: argparse.Namespace) -> None:
    """Refuse what cannot become one database before anything is embedded."""
    if args.shard is not None:
        raise ConfigError(
            "--shard: --format hoplite writes one database; embed the shares with --format npy first"
        )
    require("perch_hoplite", "--format hoplite", "hear_audiomamba[hoplite]")


def _timestamps(args: argparse.Namespace) -> bool:
    """Scene embeddings are made in any case, since `search` and `map` need them; timestamps where asked for."""
    by_default = args.format == "npz" and args.segments is None and not args.scene
    return bool(args.timestamps or by_default)


def _share(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, slash, second = text.partition("/")
    if not (slash and first.isdecimal() and second.isdecimal() and int(first) < int(second)):
        raise ConfigError(f"--shard {text}: expected I/N with 0 ≤ I < N, for instance 0/4")
    return int(first), int(second)


def _sentence(summary: Summary, out: Path) -> str:
    files = f"{summary.embedded} of {counted(summary.sources, 'file')}"
    text = f"{files} ({length(summary.audio_seconds)}) embedded in {out}"
    if summary.resumed:
        text += f", {summary.resumed} of them in earlier runs"
    if summary.resumed < summary.sources:
        text += f"; {summary.seconds:.1f} s, {summary.times_real_time:.0f} × real time"
    if summary.truncated:
        text += f"; {len(summary.truncated)} of them only in part, see {out / 'summary.json'}"
    return text + (f"; {summary.failed} failed, see {out / 'errors.jsonl'}" if summary.failed else "")
