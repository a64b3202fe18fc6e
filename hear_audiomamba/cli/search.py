"""`hear-audiomamba search`: the nearest recordings in folders of embeddings."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, counted
from .options import add_machine_options, add_model_options, load, model_arguments

if TYPE_CHECKING:
    from ..archive.search import Hit

COLUMNS = ("query", "rank", "score", "path", "start", "end")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "words", nargs="+", metavar="QUERY… DIR",
        help="audio files, or stretches of them in seconds such as night.wav@12.5-14; then folders written by `embed`",
    )  # fmt: skip
    add("--count", type=int, default=10, metavar="N", help="how many to show for each query")
    add("--metric", default="cosine", choices=("cosine", "euclidean"))
    add("--engine", default="exact", choices=("exact", "faiss", "usearch"),
        help="what computes; all are exact")  # fmt: skip
    add("--json", action="store_true", help="one JSON object a line instead of a table")
    add("--out", type=Path, metavar="FILE", help="write a table (.csv, .parquet, .json), a Raven table "
        "(.selections.txt); for Raven or Audacity labels of many recordings a folder")  # fmt: skip
    add("--format", choices=("csv", "parquet", "json", "raven", "audacity"),
        help="default: by the name of --out")  # fmt: skip
    add_model_options(parser)
    add_machine_options(parser, decoding=False)


def run(args: argparse.Namespace) -> int:
    import numpy as np

    from ..archive.read import read_scenes
    from ..archive.search import embed_query, parse_query, search_all
    from ..classify.tables import format_of

    queries, folders = _sorted(args.words)
    if args.format is not None and args.out is None:
        raise ConfigError("--format: give --out too, the file or folder to write")
    format = None if args.out is None else format_of(args.out, args.format)
    asked = [parse_query(text) for text in queries]
    made_with = next(iter(read_scenes(folders[0]))).provenance
    args.model = args.model or made_with["model"]
    model = load(args, **{**_changed_options(made_with), **model_arguments(args)})
    rows = np.stack([embed_query(query, model, folders[0]) for query in asked])
    found = search_all(rows, folders, args.count, args.metric, args.engine)
    if format is not None:
        _write(queries, found, args.out, format, model.sample_rate / 2)
        written = counted(sum(map(len, found)), "hit")
        print(f"{written} of {counted(len(queries), 'query', 'queries')}: {args.out}")
        return 0
    for query, hits in zip(queries, found):
        if len(queries) > 1 and not args.json:
            print(query)
        for rank, hit in enumerate(hits, 1):
            _show(query, rank, hit, args.json)
    return 0


def _sorted(words: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Tell queries from folders of embeddings."""
    folders = [Path(word) for word in words if Path(word).is_dir()]
    queries = [word for word in words if not Path(word).is_dir()]
    if not folders and len(words) > 1:
        # The last word was meant to be one; reading it says that there is none.
        return queries[:-1], [Path(queries[-1])]
    if not folders or not queries:
        raise ConfigError("search: give one or more audio files, then a folder written by `embed`")
    return queries, folders


def _changed_options(made_with: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the folder's model that differ from its variant's: they need not be given again."""
    from ..models.registry import find_variant

    own = find_variant(made_with["model"]).config.to_dict()
    parts = ("features", "encoder")
    return {
        key: value
        for part in parts
        for key, value in made_with["config"][part].items()
        if own[part].get(key) != value
    }


def _show(query: str, rank: int, hit: Hit, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"query": query, "rank": rank, **hit._asdict()}))
    else:
        stretch = "" if math.isnan(hit.start) else f"  {hit.start:8.2f} s  +{hit.duration:.2f} s"
        print(f"{rank:3}  {hit.score:8.4f}{stretch}  {hit.path}")


def _write(
    queries: Sequence[str], found: Sequence[Sequence[Hit]], out: Path, format: str, high_hz: float
) -> None:
    from ..archive.search import seconds_of
    from ..classify.predict import Detection
    from ..classify.tables import write_detections, write_rows

    hits = [(query, rank, hit) for query, own in zip(queries, found) for rank, hit in enumerate(own, 1)]
    if format in ("csv", "parquet", "json"):
        rows = [
            (query, rank, round(hit.score, 6), hit.path, *(round(value, 4) for value in seconds_of(hit)))
            for query, rank, hit in hits
        ]
        write_rows(out, COLUMNS, rows, format)
        return
    labels = [Detection(hit.path, *seconds_of(hit), query, hit.score) for query, _, hit in hits]
    labels.sort(key=lambda one: one[:3])
    write_detections(labels, list(dict.fromkeys(one.path for one in labels)), out, format, high_hz=high_hz)
