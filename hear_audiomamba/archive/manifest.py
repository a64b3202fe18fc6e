"""Manifests: tables (CSV, JSONL, parquet) of stretches of audio files."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError, did_you_mean

MANIFEST_EXTENSIONS = frozenset({".csv", ".jsonl", ".parquet"})
COLUMNS = ("path", "start", "duration", "end", "name")
_MAX_SECONDS = 1e9


@dataclass(frozen=True)
class Entry:
    """One row of a manifest: `start` and `duration` in seconds, `duration` None for all the rest."""

    path: str
    name: str
    start: float = 0.0
    duration: float | None = None


def read_manifest(manifest: str | os.PathLike) -> list[Entry]:
    """Read a table of audio files or stretches of them.

    Args:
        manifest: a .csv with a header line, a .jsonl with one object a line, or a .parquet file. The
            column `path` is needed, relative to the manifest's folder; `start` and `duration` or `end`
            (seconds) name a stretch; `name` names the result. Other columns are left alone.

    Returns:
        The rows in their order.

    Raises:
        DataError: the file cannot be read, has no column `path`, or a row does not make sense; names
            the row.
    """
    manifest = Path(manifest)
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}
    reader = readers.get(manifest.suffix.lower())
    if reader is None:
        raise DataError(f"{manifest}: not a manifest; use {', '.join(sorted(MANIFEST_EXTENSIONS))}")
    try:
        return [
            _entry(row, f"{manifest}, row {n}", manifest.parent) for n, row in enumerate(reader(manifest), 1)
        ]
    except FileNotFoundError:
        raise DataError(f"{manifest}: no such file") from None
    except (OSError, UnicodeError, csv.Error, RecursionError) as error:
        raise DataError(f"{manifest}: cannot be read: {error}") from None


def _csv_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        _check_columns(reader.fieldnames or [], path)
        yield from reader


def _jsonl_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}, line {number}: not JSON: {error}") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: expected an object, got {type(row).__name__}")
            _check_columns(list(row), path)
            yield row


def _parquet_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{path}: parquet needs pyarrow: pip install 'hear-audiomamba[scale]'") from None
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            _check_columns(table.schema_arrow.names, path)
            wanted = [name for name in COLUMNS if name in table.schema_arrow.names]
            for batch in table.iter_batches(columns=wanted):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None


def _check_columns(names: Sequence[str], path: Path) -> None:
    if "path" not in names:
        near = did_you_mean("path", [str(n) for n in names]) if names else "it has none"
        raise DataError(f"{path}: no column 'path'; {near}")


def _entry(row: Mapping[str, Any], where: str, folder: Path) -> Entry:
    text = row.get("path")
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise DataError(f"{where}: path is {text!r}, expected the name of a file")
    start = _seconds(row.get("start"), where, "start") or 0.0
    duration = _seconds(row.get("duration"), where, "duration")
    end = _seconds(row.get("end"), where, "end")
    if end is not None:
        if duration is not None:
            raise DataError(f"{where}: has both duration and end; give one of them")
        duration = end - start
    if duration is not None and not duration > 0:
        raise DataError(f"{where}: a stretch of {duration:g} s, expected more than 0")
    name = row.get("name")
    if not isinstance(name, str) or not name.strip():
        base, ending = os.path.splitext(os.path.basename(text) if os.path.isabs(text) else text)
        name = base + _stretch(start, duration) + ending
    return Entry(os.path.join(folder, text), name, start, duration)


def _stretch(start: float, duration: float | None) -> str:
    if not start and duration is None:
        return ""
    return f"@{start:g}" + ("" if duration is None else f"+{duration:g}")


def _seconds(value: Any, where: str, column: str) -> float | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        seconds = float("" if isinstance(value, bool) else value)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{where}: {column} is {value!r}, expected seconds") from None
    if math.isnan(seconds):  # pandas writes an empty cell so
        return None
    if not 0 <= seconds <= _MAX_SECONDS:
        raise DataError(f"{where}: {column} is {seconds:g} s, expected 0 to {_MAX_SECONDS:g}")
    return seconds
