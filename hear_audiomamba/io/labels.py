"""Labels of audio: read from any of their formats, and checked before any work is done on them."""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import ConfigError, DataError, LabelError, counted, did_you_mean
from .label_checks import (
    KINDS,
    SPLITS,
    Kind,
    LabelRow,
    check_files,
    check_overlaps,
    check_rare,
    check_splits,
    check_twice,
    clamped,
)
from .label_formats import Columns, RawRow, read_raw_rows
from .manifest import number_in
from .names import several_paths, valid_text

__all__ = ["SPLITS", "Columns", "Kind", "LabelError", "LabelRow", "LabelTable", "read_labels"]

_OTHER_NAMES = {"validation": "valid", "val": "valid", "dev": "valid", "training": "train", "testing": "test"}
_FOLD = re.compile(r"(fold[ _-]?)?\d+")


@dataclass(frozen=True)
class LabelTable:
    """Checked labels.

    Attributes:
        rows: in the order of the label file. In an event table a row without times says that its file was
            listened to and holds no event.
        classes: all labels, sorted.
        kind: "single" label a clip, "multi"ple labels a clip, or "events" in time.
        format: of the label file: "folders", "table", "raven", "audacity" or "hear".
        durations: seconds, of each file whose rows have times.
        unlabelled: rows left out because their label was empty.
        dropped: classes left out because they had too few rows.
    """

    rows: tuple[LabelRow, ...]
    classes: tuple[str, ...]
    kind: Kind
    format: str
    durations: dict[str, float]
    unlabelled: int = 0
    dropped: tuple[str, ...] = ()

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, sorted; empty where the labels name none."""
        return tuple(sorted({row.split for row in self.rows if row.split is not None}))

    @property
    def paths(self) -> tuple[str, ...]:
        """The audio files, each once, in order."""
        return tuple(dict.fromkeys(row.path for row in self.rows))


def read_labels(
    labels: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    kind: Kind | None = None,
    columns: Columns | None = None,
    audio: str | os.PathLike[str] | None = None,
    rare: Literal["refuse", "drop", "keep"] = "refuse",
    overlaps: Literal["refuse", "merge", "keep"] | None = None,
) -> LabelTable:
    """Read labels and check everything that can be checked without decoding audio.

    Args:
        labels: one of these, or several that are read as one:

            - a folder with a sub-folder for each class;
            - a table, .csv, .tsv or .parquet: `path,label[,start,end][,split]`, seconds, several labels of a
              clip separated by ";". An empty label means not labelled yet, a lone ";" means no label;
            - a Raven selection table, or a file of Audacity labels, or a folder of either;
            - a folder with a HEAR task.
        kind: what the labels are; by default "events" where they have start and end, "multi" where a ";"
            occurs, else "single". With "single" or "multi" each stretch with start and end is a clip.
        columns: names of a table's columns.
        audio: folder that audio paths are relative to; by default the label file's.
        rare: what to do with classes of one row: "refuse" them as a problem, "drop" or "keep" them.
        overlaps: what to do with events of one class that overlap: "refuse" them as a problem, "merge" them
            into one, or "keep" them. By default those of HEAR tasks are kept and others refused.

    Returns:
        The labels.

    Raises:
        LabelError: all problems at once: missing files, times beyond the file or not increasing, overlaps,
            classes of one row, unknown splits, files in two splits, two labels for a single-label task.
        DataError: the label file cannot be read at all.
        ConfigError: `kind` is not known.
        InputError: `labels` are no paths.
    """
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"kind: {kind!r} is not one of {', '.join(map(repr, KINDS))}")
    columns = columns or Columns()
    given = several_paths(labels, "labels")
    read = [read_raw_rows(Path(one), columns, None if audio is None else Path(audio)) for one in given]
    format, raw = read[0][0], [row for _, rows in read for row in rows]
    name = ", ".join(map(str, given))
    problems: list[str] = []
    parsed = [_parse(row, columns, format, problems) for row in raw]
    rows = [row for row in parsed if row is not None]
    if not rows and not problems:
        raise DataError(f"{name}: holds no labels")
    kind = kind or _guess_kind(rows)
    durations = check_files(rows, problems)
    rows = [clamped(row, durations, problems) for row in rows]
    check_twice(rows, kind, problems)
    if kind == "events":
        rows = check_overlaps(rows, overlaps or ("keep" if format == "hear" else "refuse"), problems)
    check_splits(rows, problems)
    rows, dropped = check_rare(rows, rare, problems)
    classes = tuple(sorted({label for row in rows for label in row.labels}))
    if not problems and (len(classes) < 2 if kind == "single" and rare != "keep" else not classes):
        wanted = "a single-label task needs two or more" if kind == "single" else "expected at least one"
        problems.append(f"{counted(len(classes), 'class', 'classes')} with labels; {wanted}")
    if problems:
        raise LabelError(name, problems)
    return LabelTable(tuple(rows), classes, kind, format, durations, parsed.count(None), dropped)


def _guess_kind(rows: Sequence[LabelRow]) -> Kind:
    if any(row.start is not None for row in rows):
        return "events"
    return "multi" if any(len(row.labels) != 1 for row in rows) else "single"


def _parse(row: RawRow, columns: Columns, format: str, problems: list[str]) -> LabelRow | None:
    """Make sense of one line; None where it is not labelled, or does not make sense."""
    before = len(problems)
    if row.problem:
        problems.append(f"{row.where}: {row.problem}")
        return None
    if not row.path:
        problems.append(f"{row.where}: no path")
    if not row.label:
        return None
    # macOS writes é in the names of folders as two characters, keyboards write it as one.
    composed = unicodedata.normalize("NFC", valid_text(row.label))
    labels = tuple(dict.fromkeys(text.strip() for text in composed.split(";") if text.strip()))
    start, end = (
        _seconds(row, text, name, problems) for text, name in ((row.start, "start"), (row.end, "end"))
    )
    if len(problems) == before and (start is None) != (end is None):
        problems.append(
            f"{row.where}: start and end belong together; {'start' if start is None else 'end'} is empty"
        )
    if start is not None and end is not None and not end > start:
        hint = "; a point has no length, give it one" if end == start else ""
        problems.append(f"{row.where}: end {end:g} s is not after start {start:g} s{hint}")
    split = _OTHER_NAMES.get(row.split.lower(), row.split.lower()) or None
    if split is not None and format == "table" and split not in SPLITS and not _FOLD.fullmatch(split):
        known = did_you_mean(split, SPLITS)
        problems.append(f"{row.where}: unknown split {row.split!r}; {known}, or a fold such as fold0 or 3")
    if columns.group and not row.group:
        told = "no folder below its class folder" if format == "folders" else f"{columns.group} is empty"
        problems.append(f"{row.where}: cannot be grouped by {columns.group}: {told}")
    if len(problems) > before:
        return None
    return LabelRow(row.path, labels, start, end, split, row.group or None, row.where)


def _seconds(row: RawRow, text: str, name: str, problems: list[str]) -> float | None:
    if not text:
        return None
    try:
        value = number_in(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        problems.append(f"{row.where}: {name} is {text!r}, expected seconds from 0")
        return None
    return value
