"""`hear-audiomamba predict`: a classifier's classes found in recordings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import ConfigError, counted
from ..io.drawing import require_drawing
from .options import add_machine_options, devices, load
from .progress import ProgressLine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("paths", nargs="+", metavar="AUDIO",
        help="audio file, folder, glob, manifest or .tar; or a folder of embeddings made by `embed`")  # fmt: skip
    add("--model", required=True, type=Path, metavar="FILE", help="classifier written by `fit`")
    add("--out", required=True, type=Path, metavar="FILE", help="table of detections (.csv, .parquet, .json), "
        "Raven table (.selections.txt); for Raven or Audacity labels of many recordings a folder")  # fmt: skip
    add("--format", choices=("csv", "parquet", "json", "raven", "audacity"),
        help="default: by the name of --out")  # fmt: skip
    add("--probabilities", type=Path, metavar="FILE", help="also the probability of every class, row by row")
    add("--plot", type=int, metavar="N",
        help="pictures of the N most certain detections of each class, in OUT.plots")  # fmt: skip

    add = parser.add_argument_group("detections").add_argument
    add("--hop", type=float, metavar="S", help="from one piece of a long recording to the next")
    add("--threshold", type=float, metavar="P", help="of every class, instead of the classifier's own")
    add("--min-length", type=float, metavar="S", help="drop shorter detections")
    add("--merge-gap", type=float, metavar="S", help="join detections with less between them")
    add("--smooth", type=float, metavar="S", help="median filter over time")
    add("--keep-share", type=float, metavar="R",
        help="a detection continues above this share of the threshold")  # fmt: skip

    add = parser.add_argument_group("model").add_argument
    add("--embedding-model", metavar="NAME_OR_FILE",
        help="new place of the model that the classifier was fitted on")  # fmt: skip

    add = add_machine_options(parser)
    add("--ray", metavar="ADDRESS", help="spread over a Ray cluster (needs the extra `scale`)")
    add("--overwrite", action="store_true", help="delete the results of an earlier run")
    add("--skip-errors", action="store_true", help="exit status 0 although some files could not be read")
    add("--retry-errors", action="store_true", help="try files again that failed in an earlier run")
    add("--quiet", action="store_true", help="no progress line")


def run(args: argparse.Namespace) -> int:
    from ..classify.model_file import load_classifier
    from ..classify.predict import detect
    from ..classify.tables import format_of, write_detections, write_probabilities

    if args.plot is not None:
        if args.plot < 1:
            raise ConfigError(f"--plot {args.plot}: expected at least 1")
        require_drawing("--plot", "hear_audiomamba[classify]")
    format = format_of(args.out, args.format)
    classifier = _adjusted(load_classifier(args.model), args)
    recordings, failed = _recordings(args, classifier)
    if args.probabilities:
        table = format_of(args.probabilities, None)
        write_probabilities(recordings(), classifier.head.classes, args.probabilities, table)
    paths: list[str] = []
    seconds = 0.0

    def noted() -> Iterator[Any]:
        nonlocal seconds
        for recording in recordings():
            paths.append(recording.path)
            seconds += float(recording.ends[-1] - recording.starts[0])
            yield recording

    detections = list(detect(noted(), classifier))
    high = classifier.embedding.settings["config"]["features"]["sample_rate"] / 2
    about = {"classifier": str(args.model), "classes": list(classifier.head.classes)}
    files = write_detections(detections, paths, args.out, format, high_hz=high, about=about)
    if args.plot is not None:
        _plot(args, classifier, detections)
    where = args.out if len(files) == 1 else f"{counted(len(files), 'file')} in {args.out}"
    found, among = counted(len(detections), "detection"), counted(len(paths), "recording")
    print(f"{found} in {among} ({seconds / 3600:.2f} h): {where}")
    return 1 if failed and not args.skip_errors else 0


def _adjusted(classifier: Any, args: argparse.Namespace) -> Any:
    """The classifier with what the options change in it."""
    from dataclasses import replace

    import numpy as np

    given = {"min_length": args.min_length, "merge_gap": args.merge_gap, "smooth_seconds": args.smooth,
             "keep_share": args.keep_share}  # fmt: skip
    events = classifier.events.replace(**{key: value for key, value in given.items() if value is not None})
    head = classifier.head
    if args.threshold is not None:
        if not 0 <= args.threshold <= 1:
            raise ConfigError(f"--threshold {args.threshold:g}: expected a probability, 0 to 1")
        head = replace(head, thresholds=np.full_like(head.thresholds, args.threshold))
    return replace(classifier, head=head, events=events)


def _recordings(args: argparse.Namespace, classifier: Any) -> tuple[Any, int]:
    """Return what gives the probabilities of all recordings, as often as it is called, and how many failed."""
    from ..archive.journal import FOLDER
    from ..classify.scores import passes, read_scores, score_archive

    folders = [Path(path) for path in args.paths if (Path(path) / FOLDER / "run.json").exists()]
    if folders:
        if len(folders) < len(args.paths):
            raise ConfigError("folders of embeddings and audio cannot be mixed; give one kind at a time")
        return lambda: (one for folder in folders for one in score_archive(folder, classifier)), 0
    from ..archive.sources import find_sources

    sources = passes(find_sources(args.paths), classifier, args.hop)
    folder = args.out.with_name(f"{args.out.name}.scores")
    failed = _compute(args, classifier, sources, folder)
    return lambda: read_scores(folder, classifier, sources), failed


def _loading(args: argparse.Namespace, classifier: Any) -> dict[str, Any]:
    """Return the keywords of `load_model` for the model that the classifier takes embeddings from."""
    given = {} if args.embedding_model is None else {"model_file_path": args.embedding_model}
    return {**classifier.embedding.arguments, **given}


def _plot(args: argparse.Namespace, classifier: Any, detections: Any) -> None:
    from ..classify.pictures import draw_detections

    folder = args.out.with_name(f"{args.out.name}.plots")
    files = draw_detections(detections, load(args, **_loading(args, classifier)), folder, args.plot)
    print(f"{counted(len(files), 'picture')} in {folder}")


def _compute(args: argparse.Namespace, classifier: Any, sources: Any, folder: Path) -> int:
    from ..archive.run import Resources, embed_sources
    from ..classify.scores import made_by_another, score_sources

    # What another classifier computed under this name is of no use; it is made again in its place.
    overwrite = args.overwrite or made_by_another(folder, classifier)
    resources = Resources(
        devices=devices(args), workers=args.workers, retry_errors=args.retry_errors, overwrite=overwrite
    )
    loading = _loading(args, classifier)
    embed = embed_sources if args.ray is None else partial(_on_ray, loading, args.ray)
    with ProgressLine(quiet=args.quiet) as line:
        summary = score_sources(
            sources, classifier, load(args, **loading), folder, resources=resources,
            on_progress=line.update, embed=embed,
        )  # fmt: skip
    if args.ray is not None:
        for error in summary.errors:
            print(f"hear-audiomamba: error: {error['reason']}", file=sys.stderr)
    return summary.failed


def _on_ray(
    loading: dict[str, Any], address: str, sources: Any, model: Any, out: Path, options: Any, resources: Any,
    on_progress: Any, product: Any,
) -> Any:  # fmt: skip
    from ..archive.cluster import embed_on_ray

    return embed_on_ray(sources, loading, out, options, resources, address, product=product)
