"""The verb `pretrain stats`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import DataError, counted

_COLUMNS = ("kind", "split", "licence")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("corpus", type=Path, help="a folder of audio, a manifest, or tars")
    add("--model", default="ssam_tiny_200_16x4", help="model whose spectrogram is measured")
    add("--split", help="only this split of the manifest")
    add("--workers", type=int, default=1, help="files decoded at once")
    add("--json", type=Path, metavar="FILE", help="write everything here, each mel bin too")
    add("--no-features", action="store_true",
        help="read the manifest only: hours of each kind, split and licence")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Measure, and return the exit status: 1 where files could not be read."""
    if args.no_features:
        return _manifest_hours(args.corpus, args.split)
    from ..io.files import write_json
    from ..models.families import build_modules
    from ..models.registry import find_variant
    from ..pretrain.config import DataConfig
    from ..pretrain.data.stats import corpus_statistics

    frontend, _ = build_modules(find_variant(args.model).config)
    data = DataConfig(path=str(args.corpus))
    found = corpus_statistics(data, frontend, args.split, args.workers, _tell)
    print(
        f"files      {found.clips}, {found.seconds / 3600:.2f} h, {found.shortest:.2f} to {found.longest:.2f} s"
    )
    for kind, hours in found.hours_by_kind.items():
        print(f"{kind:10} {hours:.2f} h")
    print(f"level      peak {found.peak:.3f}, rms {found.rms:.4f}")
    print(f"log-mel    mean {found.mean:.6f}, deviation {found.std:.6f}, over {found.frames} frames")
    for path, reason in found.skipped:
        print(f"skipped {path}: {reason}", file=sys.stderr)
    if args.json:
        write_json(args.json, vars(found))
    return 1 if found.skipped else 0


def _manifest_hours(corpus: Path, split: str | None) -> int:
    from ..io.manifest import read_rows, seconds_of

    table = corpus / "manifest.csv" if corpus.is_dir() else corpus
    rows = list(read_rows(table, ("path", "seconds")))
    rows = [row for row in rows if split in (None, row.values.get("split"))]
    if not rows:
        raise DataError(f"{corpus}: the manifest lists no clips{f' of split {split!r}' if split else ''}")
    for column in _COLUMNS:
        hours: dict[str, list[float]] = {}
        for row in rows:
            name = str(row.values.get(column) or "(not given)")
            hours.setdefault(name, []).append((seconds_of(row, "seconds") or 0.0) / 3600)
        for name, parts in sorted(hours.items(), key=lambda item: -sum(item[1])):
            print(f"{column:8} {name[:60]:60} {counted(len(parts), 'file'):>13} {sum(parts):9.2f} h")
    return 0


def _tell(done: int, count: int) -> None:
    """Show progress in one line on a terminal; a log file gets the last line only."""
    text = f"{done} of {counted(count, 'file')}"
    if sys.stderr.isatty():
        print(f"\r{text}", end="\n" if done == count else "", file=sys.stderr, flush=True)
    elif done == count:
        print(text, file=sys.stderr, flush=True)
