"""The corpus's books: `manifest.csv` (files), `sources.csv` (what became of every source), `labels.csv`."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

from hear_audiomamba.errors import DataError
from hear_audiomamba.io.files import replacing
from hear_audiomamba.io.manifest import read_rows


@dataclasses.dataclass(frozen=True)
class Clip:
    """One audio file of the corpus; `path` is relative to the corpus folder."""

    path: str
    split: str
    source: str
    licence: str
    seconds: float
    sha256: str
    kind: str


@dataclasses.dataclass(frozen=True)
class SourceReport:
    """What became of one source: `status` is ok, gone (the package), failed, or empty (nothing fitted)."""

    source: str
    status: str
    files: int
    hours: float
    version: str = ""
    licences: str = ""
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Label:
    """What a synthesised clip is known to hold: one (path, label) pair a line, `note:60` or `word:en:seven`."""

    path: str
    label: str


def write_table(path: Path, kind: type, rows: Iterable[object]) -> None:
    """Write dataclass rows as CSV, whole or not at all.

    Args:
        path: the file.
        kind: the dataclass, whose fields are the columns.
        rows: instances of it.
    """
    names = [field.name for field in dataclasses.fields(kind)]
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        for row in rows:
            writer.writerow([getattr(row, name) for name in names])


def read_table(path: Path, kind: type) -> list:
    """Read rows written by `write_table`.

    Raises:
        DataError: the file is missing or its columns are others.
    """
    fields = {
        field.name: float if field.type == "float" else int if field.type == "int" else str
        for field in dataclasses.fields(kind)
    }
    made = []
    for row in read_rows(path, tuple(fields)):
        try:
            made.append(kind(**{name: cast(row.values[name]) for name, cast in fields.items()}))
        except (TypeError, ValueError) as error:
            raise DataError(f"{row.where}: {error}") from None
    return made


def read_manifest(corpus: str | Path) -> list[Clip]:
    """Return the clips of a corpus folder.

    Raises:
        DataError: there is no readable `manifest.csv`.
    """
    return read_table(Path(corpus) / "manifest.csv", Clip)


def licence_summary(clips: Sequence[Clip]) -> str:
    """Return the licences of some clips, most files first, joined by " | "."""
    counts: dict[str, int] = {}
    for clip in clips:
        counts[clip.licence or "see the package's copyright file"] = (
            counts.get(clip.licence or "see the package's copyright file", 0) + 1
        )
    return " | ".join(sorted(counts, key=lambda name: (-counts[name], name)))
