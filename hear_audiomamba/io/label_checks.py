"""What can be wrong with labels, found before any work is done on them."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from ..errors import AudioReadError, counted
from .audio import duration_of

Kind = Literal["single", "multi", "events"]
KINDS = ("single", "multi", "events")
SPLITS = ("train", "valid", "test")
# Headers and label programs round times; a label may end this much behind the file, and is cut there.
TIME_SLACK = 0.05


@dataclass(frozen=True)
class LabelRow:
    """The labels of a file or of a stretch of it.

    Attributes:
        path: the audio file.
        labels: one for a single-label task; any number, none included, otherwise.
        start, end: seconds; None for the whole file.
        split: "train", "valid", "test" or a fold; None where the labels name none.
        group: what it is kept together with in cross-validation.
        where: file and line it came from.
    """

    path: str
    labels: tuple[str, ...]
    start: float | None
    end: float | None
    split: str | None
    group: str | None
    where: str


def check_files(rows: Sequence[LabelRow], problems: list[str]) -> dict[str, float]:
    """Look for every file once; read the length of those that have labels with times."""
    first: dict[str, LabelRow] = {}
    timed = {row.path for row in rows if row.end is not None}
    for row in rows:
        first.setdefault(row.path, row)
    durations = {}
    for path, row in first.items():
        if not os.path.isfile(path):
            problems.append(f"{row.where}: no such file: {path}")
        elif path in timed:
            try:
                durations[path] = duration_of(path)
            except AudioReadError as error:
                problems.append(f"{row.where}: {error}")
    return durations


def clamped(row: LabelRow, durations: dict[str, float], problems: list[str]) -> LabelRow:
    """Return a row that ends with its file where it ends a little later; one that ends much later is a problem."""
    seconds = durations.get(row.path)
    if seconds is None or row.start is None or row.end is None or row.end <= seconds:
        return row
    if row.end > seconds + TIME_SLACK or row.start >= seconds:
        problems.append(
            f"{row.where}: {row.start:g} to {row.end:g} s lies beyond the file's end, {seconds:g} s"
        )
        return row
    return replace(row, end=seconds)


def check_twice(rows: Sequence[LabelRow], kind: Kind, problems: list[str]) -> None:
    """Look for a clip in two rows, and for clips of a single-label task without their one label."""
    seen: dict[tuple[str, float | None, float | None], LabelRow] = {}
    for row in rows:
        if kind == "single" and len(row.labels) != 1:
            told = ", ".join(row.labels) or "no label"
            problems.append(f"{row.where}: {told}: a single-label task has one label a clip")
        if kind == "events":
            continue
        other = seen.setdefault((row.path, row.start, row.end), row)
        if other is not row and other.labels == row.labels:
            problems.append(f"{row.where}: the same clip and label as {_place(other, row)}")
        elif other is not row:
            fix = "join them with ';' in one row" if kind == "multi" else "a single-label task has one"
            given = f"{', '.join(other.labels)} in {_place(other, row)} and {', '.join(row.labels)} here"
            problems.append(f"{row.where}: two labels for one clip, {given}; {fix}")
    if kind == "single":
        _check_crossing(rows, problems)


def _check_crossing(rows: Sequence[LabelRow], problems: list[str]) -> None:
    """Look for stretches of one file that overlap and have different labels."""
    for stretches in _by_path(rows).values():
        for before, row in pairwise(stretches):
            if _overlap(before, row) and (before.start, before.end) != (row.start, row.end):
                problems.append(
                    f"{row.where}: overlaps {_place(before, row)}; a single-label task has one label"
                )


def check_overlaps(rows: Sequence[LabelRow], overlaps: str, problems: list[str]) -> list[LabelRow]:
    """Look for events of one class that overlap; merge them if asked."""
    split = [replace(row, labels=(label,)) for row in rows for label in row.labels]
    silent = [row for row in rows if not row.labels or row.start is None]
    for row in silent:
        if row.labels:
            problems.append(f"{row.where}: no start and end; a file with no event has ';' as its label")
    by_class: dict[tuple[str, str], list[LabelRow]] = defaultdict(list)
    for row in split:
        if row.start is not None:
            by_class[row.path, row.labels[0]].append(row)
    kept = [row for row in silent if not row.labels]
    for events in by_class.values():
        events.sort(key=lambda row: (row.start, row.end))
        merged = events[:1]
        for row in events[1:]:
            if overlaps == "keep" or not _overlap(merged[-1], row):
                merged.append(row)
                continue
            if overlaps == "refuse":
                problems.append(
                    f"{row.where}: overlaps {_place(merged[-1], row)}, both {row.labels[0]}; "
                    "correct one, or join them with --merge-overlaps"
                )
            last = merged[-1]
            merged[-1] = replace(last, end=max(last.end or 0.0, row.end or 0.0))
        kept += merged
    order = {path: index for index, path in enumerate(dict.fromkeys(row.path for row in rows))}
    return sorted(kept, key=lambda row: (order[row.path], row.start or 0.0, row.labels))


def _by_path(rows: Sequence[LabelRow]) -> dict[str, list[LabelRow]]:
    found: dict[str, list[LabelRow]] = defaultdict(list)
    for row in rows:
        if row.start is not None:
            found[row.path].append(row)
    return {path: sorted(own, key=lambda row: row.start or 0.0) for path, own in found.items()}


def _overlap(before: LabelRow, after: LabelRow) -> bool:
    return after.start is not None and before.end is not None and after.start < before.end - 1e-6


def _place(other: LabelRow, row: LabelRow) -> str:
    """Name another row's place, in short where it is in the same file."""
    file, comma, line = other.where.rpartition(", ")
    return line if comma and row.where.startswith(f"{file}, ") else other.where


def check_splits(rows: Sequence[LabelRow], problems: list[str]) -> None:
    """Look for rows without a split, files in two of them, and splits that cannot be trained and tested on."""
    named = [row for row in rows if row.split is not None]
    if not named:
        return
    if len(named) < len(rows):
        missing = next(row for row in rows if row.split is None)
        problems.append(
            f"{missing.where}: no split, while other rows have one ({counted(len(rows) - len(named), 'row')})"
        )
    of_path: dict[str, LabelRow] = {}
    told: set[str] = set()
    for row in named:
        other = of_path.setdefault(row.path, row)
        if other.split != row.split and row.path not in told:
            told.add(row.path)
            place = f"{_place(other, row)} has the file in {other.split}"
            problems.append(f"{row.where}: in split {row.split}, but {place}")
    names = {row.split for row in named}
    folds = {name for name in names if name not in SPLITS}
    if folds and folds != names:
        problems.append(f"splits mix folds and others: {', '.join(sorted(map(str, names)))}")
    elif not folds and "train" not in names:
        problems.append(f"no row has split train; there are {', '.join(sorted(map(str, names)))}")
    elif not folds:
        learnt = {label for row in named if row.split == "train" for label in row.labels}
        for label in sorted({label for row in named for label in row.labels} - learnt):
            row = next(row for row in named if label in row.labels)
            problems.append(f"{row.where}: class {label!r} does not occur in split train")


def check_rare(
    rows: Sequence[LabelRow], rare: str, problems: list[str]
) -> tuple[list[LabelRow], tuple[str, ...]]:
    """Look for classes of one row; return the rows without them, if they are to be dropped, and their names."""
    counts = Counter(label for row in rows for label in row.labels)
    few = sorted(label for label, count in counts.items() if count == 1 and rare != "keep")
    if rare == "refuse":
        for label in few:
            row = next(row for row in rows if label in row.labels)
            problems.append(
                f"{row.where}: class {label!r} occurs once; two or more are needed (--drop-rare leaves it out)"
            )
        return list(rows), ()
    dropped = set(few)
    kept = [replace(row, labels=tuple(x for x in row.labels if x not in dropped)) for row in rows]
    # A clip that had only dropped labels says nothing about the others in a single-label task.
    return [new for new, old in zip(kept, rows) if new.labels or not old.labels], tuple(few)
