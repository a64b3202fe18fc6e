"""Detections to files: CSV, parquet, JSON, Raven selection tables and Audacity labels."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from ..errors import ConfigError, require
from ..io.files import replacing, strict_json, write_text
from ..io.names import valid_text
from .predict import Detection
from .scores import Recording

FORMATS = ("csv", "parquet", "json", "raven", "audacity")
# Raven Pro refuses a table without frequencies; these stand for the whole range of a model at 16 kHz.
_LOW_HZ = 0.0
RAVEN_COLUMNS = (
    "Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)",
    "Begin Path", "Begin File", "File Offset (s)", "Annotation", "Score",
)  # fmt: skip
_TEXTS = frozenset({"path", "label", "query"})


def format_of(out: Path, given: str | None) -> str:
    """Return the format of an output file, by its name where none is given.

    Raises:
        ConfigError: the name does not show the format.
    """
    if given is not None:
        if given not in FORMATS:
            raise ConfigError(f"format: {given!r} is not one of {', '.join(map(repr, FORMATS))}")
        return given
    if out.name.endswith(".selections.txt"):
        return "raven"
    found = {".csv": "csv", ".parquet": "parquet", ".json": "json"}.get(out.suffix.lower())
    if found is None:
        raise ConfigError(
            f"{out}: its name does not show the format; end it in .csv, .parquet, .json or .selections.txt (Raven), "
            f"or give --format {'|'.join(FORMATS)}"
        )
    return found


def write_detections(
    detections: Iterable[Detection],
    paths: Sequence[str],
    out: Path,
    format: str,
    *,
    high_hz: float,
    about: dict[str, Any] | None = None,
) -> list[Path]:
    """Write detections to a file, or for Raven and Audacity to a file for each recording.

    Args:
        detections: recording by recording.
        paths: all recordings, also those in which nothing was found.
        out: the file. For Raven and Audacity a folder, unless there is one recording and the name ends in .txt.
        format: of `FORMATS`.
        high_hz: upper frequency of Raven's selections.
        about: what stands at the head of a JSON file.

    Returns:
        The files written, each complete or not there.

    Raises:
        OutputError: one cannot be written.
    """
    if format in ("raven", "audacity"):
        return _write_labels(list(detections), paths, out, format, high_hz)
    if format == "json":
        events = [{**one._asdict(), "score": round(one.score, 6)} for one in detections]
        _write_json(out, {**(about or {}), "recordings": list(paths), "detections": events})
    elif format == "parquet":
        write_parquet(out, Detection._fields, ([one] for one in detections))
    else:
        write_csv(out, Detection._fields, (_row(one) for one in detections))
    return [out]


def write_rows(out: Path, names: Sequence[str], rows: Sequence[Sequence[Any]], format: str) -> None:
    """Write a table as "csv", "parquet" or "json" (a list of objects)."""
    if format == "json":
        _write_json(out, [dict(zip(names, row)) for row in rows])
    elif format == "parquet":
        write_parquet(out, names, [rows])
    else:
        write_csv(out, names, rows)


def write_probabilities(
    recordings: Iterable[Recording], classes: Sequence[str], out: Path, format: str
) -> int:
    """Write every row's probabilities, a column a class, as they come; return how many rows.

    Args:
        recordings: one after the other.
        classes: names of the columns. A class named as a column that there is already, such as "start",
            gets the column "label:start".
        out: the file.
        format: "csv" or "parquet".

    Raises:
        ConfigError: another format.
        OutputError: the file cannot be written.
    """
    if format not in ("csv", "parquet"):
        raise ConfigError(f"format: {format!r}; probabilities of all rows are written as csv or parquet")
    counts = 0

    def pieces() -> Iterator[list[tuple[Any, ...]]]:
        nonlocal counts
        for recording in recordings:
            for at in range(0, len(recording.starts), 4096):
                own = slice(at, at + 4096)
                values = np.asarray(recording.probabilities[own], np.float64).round(6).tolist()
                times = zip(recording.starts[own].tolist(), recording.ends[own].tolist())
                rows = [
                    (recording.path, round(start, 4), round(end, 4), *row)
                    for (start, end), row in zip(times, values)
                ]
                counts += len(rows)
                yield rows

    own = ("path", "start", "end")
    names = (*own, *_class_columns(classes, own))
    if format == "csv":
        write_csv(out, names, (row for rows in pieces() for row in rows))
    else:
        write_parquet(out, names, pieces(), texts={"path"})
    return counts


def _class_columns(classes: Sequence[str], own: Sequence[str]) -> list[str]:
    """Name a column for each class so that no two are the same, to programs that ignore capitals too."""
    columns = []
    for name in classes:
        column = name
        while column.casefold() in own or (column != name and column in classes):
            column = f"label:{column}"
        columns.append(column)
    return columns


def write_csv(out: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file, row by row."""
    with replacing(out) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for row in chain([names], rows):
            writer.writerow([_valid(cell) for cell in row])


def write_parquet(
    out: Path,
    names: Sequence[str],
    pieces: Iterable[Sequence[Sequence[Any]]],
    *,
    texts: Collection[str] = _TEXTS,
) -> None:
    """Write a parquet file, piece by piece; the columns in `texts` hold text, others numbers."""
    require("pyarrow", "parquet", "hear_audiomamba[parquet]")
    import pyarrow as arrow
    from pyarrow import parquet

    schema = arrow.schema(
        [(valid_text(name), arrow.string() if name in texts else arrow.float64()) for name in names]
    )
    with replacing(out) as partial, parquet.ParquetWriter(partial, schema) as writer:
        for rows in pieces:
            columns = [list(map(_valid, column)) for column in zip(*rows)] if rows else [[] for _ in names]
            arrays = [arrow.array(values, field.type) for values, field in zip(columns, schema)]
            writer.write_table(arrow.table(arrays, schema=schema))


def _valid(cell: Any) -> Any:
    return valid_text(cell) if isinstance(cell, str) else cell


def _write_json(out: Path, value: Any) -> None:
    write_text(out, json.dumps(strict_json(value), indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def _row(one: Detection) -> tuple[str, float, float, str, float]:
    return one.path, round(one.start, 4), round(one.end, 4), one.label, round(one.score, 6)


def _write_labels(
    detections: Sequence[Detection], paths: Sequence[str], out: Path, format: str, high_hz: float
) -> list[Path]:
    text_of: Callable[[str, list[Detection]], str]
    if format == "raven":
        ending, text_of = ".selections.txt", lambda path, own: raven_table(path, own, high_hz)
    else:
        ending, text_of = ".txt", lambda path, own: audacity_labels(own)
    found = {path: list(own) for path, own in groupby(detections, key=lambda one: one.path)}
    if len(paths) == 1 and out.suffix == ".txt":
        write_text(out, text_of(paths[0], found.get(paths[0], [])))
        return [out]
    files = []
    for path, name in zip(paths, _short_names(paths)):
        files.append(out / f"{name}{ending}")
        write_text(files[-1], text_of(path, found.get(path, [])))
    return files


def _short_names(paths: Sequence[str]) -> list[str]:
    """Name each recording by as much of its path, without the ending, as tells it from the others."""
    parts = [PurePath(path).parts for path in paths]
    shared = 0
    while len(parts) > 1 and all(len(p) > shared + 1 and p[shared] == parts[0][shared] for p in parts):
        shared += 1
    kept = [PurePath(*p[shared:]) if len(parts) > 1 else PurePath(p[-1]) for p in parts]
    names = ["/".join(x for x in k.with_suffix("").parts if x not in ("/", "..", k.anchor)) for k in kept]
    # a.wav and a.flac in one folder keep their endings.
    return [str(k).lstrip("/") if names.count(n) > 1 else n for k, n in zip(kept, names)]


def raven_table(path: str, detections: Sequence[Detection], high_hz: float) -> str:
    """Return a Raven selection table of one recording.

    Args:
        path: the recording.
        detections: in it.
        high_hz: upper frequency of the selections.

    Source: Raven Pro User's Manual, "Selection tables": tab-separated, a header line, times in seconds from the
        beginning of the sound.
    """
    lines = ["\t".join(RAVEN_COLUMNS)]
    for number, one in enumerate(detections, 1):
        cells = (
            number, "Spectrogram 1", 1, f"{one.start:.6f}", f"{one.end:.6f}", f"{_LOW_HZ:.1f}", f"{high_hz:.1f}",
            path, PurePath(path).name, f"{one.start:.6f}", _one_line(one.label), f"{one.score:.4f}",
        )  # fmt: skip
        lines.append("\t".join(map(str, cells)))
    return "\n".join(lines) + "\n"


def audacity_labels(detections: Sequence[Detection]) -> str:
    """Return an Audacity label file: start, end and label, tabs between, six decimals as Audacity writes them."""
    return "".join(f"{one.start:.6f}\t{one.end:.6f}\t{_one_line(one.label)}\n" for one in detections)


def _one_line(label: str) -> str:
    return " ".join(label.split())
