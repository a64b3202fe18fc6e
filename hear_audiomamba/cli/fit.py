"""`hear-audiomamba fit`: labels to a classifier and its report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..errors import ConfigError, counted
from .options import (
    add_label_options,
    add_machine_options,
    add_model_options,
    devices,
    labels_from,
    load,
    model_arguments,
)
from .progress import ProgressLine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("labels", nargs="+", type=Path, metavar="LABELS",
        help="folder a class, table (path,label[,start,end][,split]), Raven or Audacity file, or HEAR task; "
        "several are read as one")  # fmt: skip
    add("--out", required=True, type=Path, metavar="FILE", help="the classifier, a .safetensors file")
    add("--embeddings", type=Path, metavar="DIR",
        help="an archive of `embed` to take embeddings from and add to (default: OUT.embeddings)")  # fmt: skip
    add("--report", type=Path, metavar="FILE",
        help="the page to write (default: OUT with .html); JSON beside it")  # fmt: skip

    group = parser.add_argument_group("labels")
    add_label_options(group)
    add = group.add_argument
    add("--kind", choices=("single", "multi", "events"),
        help="one label a clip, several, or events in time (default: what the labels look like)")  # fmt: skip
    add("--split-column", default="split", metavar="NAME")
    add("--group-by", metavar="COLUMN", help="'folder' or a column: never on both sides of cross-validation")
    add("--drop-rare", action="store_true", help="leave out classes that occur once")
    add("--merge-overlaps", action="store_true", help="join events of one class that overlap")

    add = parser.add_argument_group("fitting").add_argument
    add("--head", default="logistic", choices=("logistic", "mlp"))
    add("--balanced", action="store_true",
        help="give every class the same weight, whatever its number of labels")  # fmt: skip
    add("--folds", type=int, default=5, metavar="N", help="of cross-validation, where the labels name none")
    add("--precision-goal", type=float, metavar="P", help="thresholds for this share of right detections")
    add("--collar", type=float, default=0.2, metavar="S",
        help="an event is right if it begins this near to a label")  # fmt: skip
    add("--seed", type=int, default=0)
    add("--skip-errors", action="store_true", help="fit although some files cannot be read")

    add = parser.add_argument_group("what to label next").add_argument
    add("--suggest", type=int, metavar="N",
        help="write the N sounds whose labels would help most to OUT.suggest.csv")  # fmt: skip
    add("--pool", nargs="+", default=[], metavar="AUDIO",
        help="where from: audio files and folders, or one folder of embeddings")  # fmt: skip

    add_model_options(parser)
    add = add_machine_options(parser)
    add("--quiet", action="store_true", help="no progress line")


def run(args: argparse.Namespace) -> int:
    from ..archive.options import Resources
    from ..classify.fit import fit_labels
    from ..classify.model_file import save_classifier
    from ..classify.outcome import FitOptions
    from ..classify.report import write_report

    if (args.suggest is None) != (not args.pool):
        raise ConfigError("--suggest N and --pool AUDIO belong together: how many, and where from")
    if args.report is not None and args.report.suffix != ".html":
        raise ConfigError(f"--report {args.report}: the page's name ends in .html")
    if args.out.suffix != ".safetensors":
        raise ConfigError(f"--out {args.out}: a classifier's name ends in .safetensors")
    options = FitOptions(
        args.head,
        "balanced" if args.balanced else None,
        args.folds,
        args.precision_goal,
        args.collar,
        args.seed,
    )
    table = labels_from(
        args, args.labels, kind=args.kind, split_column=args.split_column, group_by=args.group_by,
        rare="drop" if args.drop_rare else "refuse", overlaps="merge" if args.merge_overlaps else None,
    )  # fmt: skip
    embeddings = args.embeddings or args.out.with_suffix(".embeddings")
    arguments = model_arguments(args)
    model = load(args, **arguments)
    with ProgressLine(quiet=args.quiet) as line:
        fitted = fit_labels(
            table, model, embeddings, options, arguments=arguments,
            resources=Resources(devices=devices(args), workers=args.workers), on_progress=line.update,
        )  # fmt: skip
    save_classifier(fitted.classifier, args.out)
    report = args.report or args.out.with_suffix(".html")
    write_report(fitted, report, args.out.name)
    print(_sentence(table, fitted, args.out))
    print(f"report: {report}")
    for note in fitted.trial.notes:
        print(f"note: {note}", file=sys.stderr)
    if args.suggest is not None:
        _suggest(args, fitted.classifier, model, table)
    return 1 if fitted.errors and not args.skip_errors else 0


def _suggest(args: argparse.Namespace, classifier: Any, model: Any, table: Any) -> None:
    """Write a table with empty labels, to be filled in and given to `fit` beside the labels so far."""
    from ..archive.journal import FOLDER
    from ..archive.run import Resources, embed_sources
    from ..archive.sources import find_sources
    from ..classify.suggest import COLUMNS, pool_options, suggest
    from ..classify.tables import write_csv

    pool = Path(args.pool[0])
    if len(args.pool) > 1 or not (pool / FOLDER / "run.json").exists():
        sources, pool = find_sources(args.pool), args.out.with_suffix(".pool")
        with ProgressLine(quiet=args.quiet) as line:
            resources = Resources(devices=devices(args), workers=args.workers)
            embed_sources(sources, model, pool, pool_options(classifier), resources, line.update)
    given = {labels.resolve() for labels in args.labels}
    out = args.out.with_suffix(".suggest.csv")
    number = 2
    while out.resolve() in given:  # one that was filled in stays
        out, number = args.out.with_suffix(f".suggest-{number}.csv"), number + 1
    found = suggest(classifier, pool, args.suggest, table)
    rows = (
        (Path(one.path).absolute(), "", "" if one.start is None else round(one.start, 4),
         "" if one.end is None else round(one.end, 4), one.guess, round(one.probability, 4))
        for one in found
    )  # fmt: skip
    write_csv(out, COLUMNS, rows)
    again = " ".join(map(str, args.labels))
    sounds = counted(len(found), "sound")
    print(f"{out}: {sounds} to label; then: fit {again} {out} --kind {table.kind} --out {args.out}")


def _sentence(table: Any, fitted: Any, out: Path) -> str:
    numbers = ", ".join(
        f"{name.replace('_', ' ')} {value:.3f}"
        for name, value in fitted.trial.summary.items()
        if name not in ("rows", "recordings")
    )
    classes = counted(len(table.classes), "class", "classes")
    units = counted(len(fitted.trial.rows), "recording" if table.kind == "events" else "clip")
    return f"{out}: {classes}; on {units} not fitted on ({fitted.trial.source}): {numbers}"
