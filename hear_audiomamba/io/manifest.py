"""Manifests: tables (CSV, JSON, JSONL, parquet) of audio files or stretches of them."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError, did_you_mean, one_line, require
from .names import one_path, path_of
from .text_tables import csv_rows, not_text

MANIFEST_EXTENSIONS = frozenset({".csv", ".jsonl", ".parquet"})
TABLE_EXTENSIONS = MANIFEST_EXTENSIONS | {".tsv", ".json"}
COLUMNS = ("path", "start", "duration", "end", "name")
_MAX_SECONDS = 1e9
_MAX_JSON_BYTES = 1 << 30
_MAX_LINE = 16 << 20


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        where: file and row or line, as an error shows it.
        values: by column; strings from CSV, plain values of any type from the others.
        surplus: the line has more cells than the first one.
    """

    where: str
    values: Mapping[str, Any]
    surplus: bool = False


@dataclass(frozen=True)
class Entry:
    """One row of a manifest: `start` and `duration` in seconds, `duration` None for all the rest."""

    path: str
    name: str
    start: float = 0.0
    duration: float | None = None


def read_rows(
    table: str | os.PathLike[str],
    required: Sequence[str] = (),
    wanted: Sequence[str] | None = None,
    *,
    keep_surplus: bool = False,
) -> Iterator[Row]:
    """Read a table row by row.

    Args:
        table: a .csv or .tsv with a header line (separated by commas, semicolons or tabs; see `csv_rows`), a
            .jsonl with one object a line, a .json with a list of objects or an object that holds one, or a
            .parquet.
        required: columns that must be there.
        wanted: the only columns that the caller looks at; spares reading the others of a parquet file.
        keep_surplus: yield lines with more cells than the first one, instead of refusing them.

    Yields:
        The rows in their order.

    Raises:
        DataError: the file cannot be read, or a column is missing; names the line. May come after rows.
    """
    table = Path(one_path(table, "table"))
    readers = {
        ".csv": _csv_rows, ".tsv": _csv_rows, ".json": _json_rows, ".jsonl": _jsonl_rows,
        ".parquet": _parquet_rows,
    }  # fmt: skip
    reader = readers.get(table.suffix.lower())
    if reader is None:
        raise DataError(f"{table}: not a table that can be read; use {', '.join(sorted(TABLE_EXTENSIONS))}")
    try:
        for row in reader(table, required, wanted):
            if row.surplus and not keep_surplus:
                raise DataError(
                    f"{row.where}: more cells than columns; put cells that hold a comma in quotes"
                )
            yield row
    except FileNotFoundError:
        raise DataError(f"{table}: no such file") from None
    except (OSError, UnicodeError, csv.Error, RecursionError, MemoryError) as error:
        if isinstance(error, UnicodeError):
            raise not_text(table) from None
        raise DataError(f"{table}: cannot be read: {error}") from None


def read_manifest(manifest: str | os.PathLike[str]) -> list[Entry]:
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
    manifest = Path(one_path(manifest, "manifest"))
    if manifest.suffix.lower() not in MANIFEST_EXTENSIONS:
        raise DataError(f"{manifest}: not a manifest; use {', '.join(sorted(MANIFEST_EXTENSIONS))}")
    return [_entry(row, manifest.parent) for row in read_rows(manifest, ("path",), COLUMNS)]


def seconds_of(row: Row, column: str) -> float | None:
    """Return a row's cell as seconds, None where it is empty or not there.

    Raises:
        DataError: it is no number, or less than 0.
    """
    value = row.values.get(column)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        seconds = number_in(value)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{row.where}: {column} is {_short(value)}, expected seconds") from None
    if math.isnan(seconds):  # pandas writes an empty cell so
        return None
    if not 0 <= seconds <= _MAX_SECONDS:
        raise DataError(f"{row.where}: {column} is {seconds:g} s, expected 0 to {_MAX_SECONDS:g}")
    return seconds


def number_in(cell: Any) -> float:
    """Return the number in a table's cell, with a decimal point or comma.

    Raises:
        TypeError, ValueError, OverflowError: it is no number. 1_0, which Python reads as 10, is none, nor is a truth
            value.
    """
    if isinstance(cell, bool) or (isinstance(cell, str) and "_" in cell):
        raise ValueError(f"{cell!r} is no number")
    return float(cell.replace(",", ".") if isinstance(cell, str) and cell.count(",") == 1 else cell)


def _csv_rows(path: Path, required: Sequence[str], wanted: Sequence[str] | None) -> Iterator[Row]:
    columns: list[str] = []
    rows = csv_rows(path, [*required, *(wanted or ())], columns)
    first = next(rows, None)
    _check_columns(columns, required, path)
    for number, values in [] if first is None else chain([first], rows):
        surplus = any(cell.strip() for cell in values.pop(None, ()))
        yield Row(f"{path}, line {number}", values, surplus)


def _jsonl_rows(path: Path, required: Sequence[str], wanted: Sequence[str] | None) -> Iterator[Row]:
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE), ""), 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            if len(line) == _MAX_LINE:
                raise DataError(f"{where}: longer than {_MAX_LINE >> 20} MiB")
            try:
                values = json.loads(line)
            except ValueError as error:
                raise DataError(f"{where}: not JSON: {error}") from None
            yield _json_row(values, where, required)


def _json_rows(path: Path, required: Sequence[str], wanted: Sequence[str] | None) -> Iterator[Row]:
    if os.stat(path).st_size > _MAX_JSON_BYTES:
        raise DataError(f"{path}: larger than {_MAX_JSON_BYTES >> 20} MiB; use .jsonl or .parquet")
    try:
        table = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeError:
        raise
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    if isinstance(table, dict):  # {"data": [...]}
        table = next((value for value in table.values() if isinstance(value, list)), None)
    if not isinstance(table, list):
        raise DataError(f"{path}: expected a list of objects")
    for number, values in enumerate(table, 1):
        yield _json_row(values, f"{path}, row {number}", required)


def _json_row(values: Any, where: str, required: Sequence[str]) -> Row:
    if not isinstance(values, dict):
        raise DataError(f"{where}: expected an object, got {type(values).__name__}")
    _check_columns(list(values), required, where)
    return Row(where, values)


def _parquet_rows(path: Path, required: Sequence[str], wanted: Sequence[str] | None) -> Iterator[Row]:
    require("pyarrow", "parquet", "hear_audiomamba[parquet]")
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            columns = table.schema_arrow.names
            _check_columns(columns, required, path)
            chosen = None if wanted is None else [name for name in wanted if name in columns]
            number = 0
            for batch in table.iter_batches(columns=chosen):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(f"{path}, row {number}", values)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read: {one_line(error)}") from None


def _check_columns(columns: Iterable[str | None], required: Sequence[str], where: object) -> None:
    names = [str(name) for name in columns]
    for column in required:
        if column not in names:
            near = did_you_mean(column, names) if names else "it has none"
            raise DataError(f"{where}: no column {column!r}; {near}")


def _entry(row: Row, folder: Path) -> Entry:
    text = row.values["path"]
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise DataError(f"{row.where}: path is {_short(text)}, expected the name of a file")
    start = seconds_of(row, "start") or 0.0
    duration, end = seconds_of(row, "duration"), seconds_of(row, "end")
    if end is not None:
        if duration is not None:
            raise DataError(f"{row.where}: has both duration and end; give one of them")
        duration = end - start
    if duration is not None and not duration > 0:
        raise DataError(f"{row.where}: a stretch of {duration:g} s, expected more than 0")
    name = row.values.get("name")
    if not isinstance(name, str) or not name.strip():
        base, ending = os.path.splitext(os.path.basename(text) if os.path.isabs(text) else text)
        name = base + _stretch(start, duration) + ending
    return Entry(os.path.join(folder, path_of(text)), name, start, duration)


def _stretch(start: float, duration: float | None) -> str:
    if not start and duration is None:
        return ""
    return f"@{start:g}" + ("" if duration is None else f"+{duration:g}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
