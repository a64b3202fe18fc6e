"""Tables as people save them: commas, semicolons or tabs, with or without a byte order mark, from Excel."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError

_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_SEPARATORS = ",;\t"


def encoding_of(path: Path) -> str:
    """Return how a text file is encoded, by its byte order mark; UTF-8 where there is none."""
    with open(path, "rb") as file:
        start = file.read(4)
    return next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8")


def read_text(path: Path) -> str:
    """Return a text file's content.

    Raises:
        DataError: it is not UTF-8, nor UTF-16 with a byte order mark.
    """
    try:
        return path.read_text(encoding=encoding_of(path))
    except UnicodeError:
        raise not_text(path) from None


def not_text(path: Path) -> DataError:
    """Return the error of a file that is encoded in some other way, which would have to be guessed."""
    return DataError(f"{path}: is not UTF-8 text; save it as UTF-8 (in Excel: 'CSV UTF-8')")


def csv_rows(path: Path, required: Sequence[str], columns: list[str]) -> Iterator[tuple[int, dict[Any, Any]]]:
    """Read a table with a header line, separated by commas, semicolons or tabs.

    Args:
        path: of the table. A first line such as `sep=;`, which Excel understands, is left out.
        required: columns that the caller needs. The separator is the one that gives the most of them.
        columns: receives the names of the columns before the first row. One that differs from a required one in
            capitals only gets the required name.

    Yields:
        The number of the line, and the cells by column; cells beyond the header's are a list under None.

    Raises:
        DataError: it is not UTF-8, nor UTF-16 with a byte order mark; a required column is there more than once;
            a quotation mark is not closed.
    """
    try:
        with open(path, encoding=encoding_of(path), newline="") as file:
            head, skipped = file.readline(csv.field_size_limit()), 0
            if head[:4].lower() == "sep=" and head[4:5] in tuple(_SEPARATORS):
                separator, skipped = head[4], 1
            else:
                file.seek(0)
                separator = _separator(head, required)
            held: list[str] = []  # the lines of one row
            reader = csv.DictReader(_remembered(file, held), delimiter=separator)
            reader.fieldnames = _names(list(reader.fieldnames or ()), required)
            columns += reader.fieldnames
            for name in required:
                if columns.count(name) > 1:
                    raise DataError(
                        f"{path}: column {name!r} is there {columns.count(name)} times; keep one of them"
                    )
            held.clear()
            for values in reader:
                if len(held) > 1:
                    _check_quotes(
                        held, separator, f"{path}, line {reader.line_num + skipped - len(held) + 1}"
                    )
                held.clear()
                yield reader.line_num + skipped, values
    except UnicodeError:
        raise not_text(path) from None


def _remembered(lines: Iterable[str], held: list[str]) -> Iterator[str]:
    for line in lines:
        held.append(line)
        yield line


def _check_quotes(lines: list[str], separator: str, where: str) -> None:
    """Refuse a row over several lines that a stray quotation mark has put together: rows would be lost in a cell."""
    try:
        list(csv.reader(lines, delimiter=separator, strict=True))
    except csv.Error:
        raise DataError(f"{where}: a quotation mark is not closed; rows after it would be lost") from None


def _separator(head: str, required: Sequence[str]) -> str:
    wanted = {name.casefold() for name in required}

    def gain(separator: str) -> tuple[int, int]:
        names = next(csv.reader([head], delimiter=separator), [])
        return len(wanted & {name.strip().casefold() for name in names}), len(names)

    return max(_SEPARATORS, key=gain)


def _names(names: Sequence[str], required: Sequence[str]) -> list[str]:
    stripped = [name.strip() for name in names]
    meant = {name.casefold(): name for name in required if name not in stripped}
    return [meant.pop(name.casefold(), name) for name in stripped]
