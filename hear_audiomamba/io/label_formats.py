"""The ways labels are written down: folders, tables, Raven, Audacity, HEAR tasks; each read to plain rows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import DataError, one_line
from .audio import readable_extensions
from .files import read_json
from .manifest import number_in, read_rows
from .names import path_of
from .text_tables import read_text

TABLE_EXTENSIONS = frozenset({".csv", ".tsv", ".jsonl", ".parquet"})
RAVEN_BEGIN, RAVEN_END = "Begin Time (s)", "End Time (s)"
# What the columns are called in tables of BirdNET-Analyzer, OpenSoundscape, Raven, sed_eval and DCASE.
_OTHER_NAMES = {
    "path": ("file", "filename", "file_path", "filepath", "audio_file", "begin path"),
    "label": ("common name", "annotation", "event_label", "species", "class"),
    "start": ("start (s)", "start_time", "onset", "begin time (s)"),
    "end": ("end (s)", "end_time", "offset", "end time (s)"),
}
RAVEN_LABELS = ("Annotation", "Label", "Species", "Class", "Tag", "Tags", "Call Type", "Type", "Notes")


@dataclass(frozen=True)
class RawRow:
    """One line of a label file, its cells as they were written.

    Attributes:
        where: file and line, for messages.
        path: the audio file.
        label: one label, several separated by ";", or empty where nothing was filled in.
        start, end: seconds from the file's beginning; empty for the whole file.
        split, group: empty where not given.
        problem: what is wrong with the line itself, or empty.
    """

    where: str
    path: str
    label: str
    start: str = ""
    end: str = ""
    split: str = ""
    group: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Columns:
    """Which columns of a table to read.

    Attributes:
        path: names the audio file.
        label: names the label; None for "label", and in a Raven table the first of `RAVEN_LABELS` there is.
        split: names the split; may be missing.
        group: what is kept together in cross-validation: "folder", another column, or None.
    """

    path: str = "path"
    label: str | None = None
    split: str = "split"
    group: str | None = None


def read_raw_rows(labels: Path, columns: Columns, audio: Path | None) -> tuple[str, list[RawRow]]:
    """Tell how labels are written down, and read them.

    Args:
        labels: a folder a class, a table, a Raven or Audacity file, a folder of such files, or a HEAR task.
        columns: of a table.
        audio: folder that paths are relative to; by default the folder of the label file.

    Returns:
        The format ("folders", "table", "raven", "audacity", "hear") and the rows in order.

    Raises:
        DataError: there is no such file, or it is of none of these formats.
    """
    try:
        if labels.is_dir():
            return _folder(labels, columns, audio)
        if not labels.exists():
            raise DataError(f"{labels}: no such file or folder")
        if labels.suffix.lower() in TABLE_EXTENSIONS:
            return "table", list(_table(labels, columns, audio or labels.parent))
        return _text(labels, columns, audio or labels.parent)
    except (OSError, UnicodeError) as error:
        raise DataError(f"{labels}: cannot be read: {one_line(error)}") from None


def _folder(labels: Path, columns: Columns, audio: Path | None) -> tuple[str, list[RawRow]]:
    if (labels / "task_metadata.json").is_file():
        return "hear", list(_hear(labels, audio))
    # A folder beginning with a dot belongs to a program, not to the user.
    classes = sorted(p for p in labels.iterdir() if p.is_dir() and not p.name.startswith("."))
    rows = [row for folder in classes for row in _class_folder(folder, columns.group)]
    if rows:
        return "folders", rows
    found = [_text(file, columns, audio or labels) for file in sorted(labels.glob("*.txt"))]
    if not found:
        raise DataError(
            f"{labels}: holds no sub-folders with audio (a folder a class), no task_metadata.json (HEAR) and "
            "no .txt files (Raven, Audacity)"
        )
    kinds = sorted({kind for kind, _ in found})
    if len(kinds) > 1:
        raise DataError(f"{labels}: holds both Raven and Audacity files; give one kind at a time")
    return kinds[0], [row for _, rows in found for row in rows]


def _class_folder(folder: Path, group: str | None) -> Iterator[RawRow]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in readable_extensions() and not path.name.startswith(".") and path.is_file():
            below = path.parent.relative_to(folder).as_posix()
            # The class folder itself tells nothing about the recorder; folders below it may.
            yield RawRow(f"{path}", str(path), folder.name, group="" if below == "." or not group else below)


def _table(file: Path, columns: Columns, root: Path) -> Iterator[RawRow]:
    columns, start, end = _named(file, columns)
    label = columns.label or "label"
    group = columns.group if columns.group not in (None, "folder") else None
    needed = [columns.path, label, *([group] if group else [])]
    wanted = [*needed, start, end, columns.split]
    for where, row, surplus in read_rows(file, needed, wanted, keep_surplus=True):
        path = _cell(row, columns.path)
        full = _audio(root, path) if path else ""
        yield RawRow(
            where, full, _cell(row, label), _cell(row, start), _cell(row, end), _cell(row, columns.split),
            _cell(row, group) if group else (os.path.dirname(full) if columns.group else ""),
            "more cells than columns; put cells that hold a comma in quotes" if surplus else "",
        )  # fmt: skip


def _named(file: Path, columns: Columns) -> tuple[Columns, str, str]:
    """Return the columns of a table, and those of start and end, by the names that other programs give them."""
    first = next(read_rows(file, keep_surplus=True), None)
    names = {} if first is None else {str(name).strip().casefold(): str(name) for name in first.values}

    def name_of(column: str) -> str:
        known = (name for name in _OTHER_NAMES[column] if name in names)
        return column if column in names else next((names[name] for name in known), column)

    path = name_of("path") if columns.path == "path" else columns.path
    return (
        replace(columns, path=path, label=columns.label or name_of("label")),
        name_of("start"),
        name_of("end"),
    )


def _audio(root: Path, path: str) -> str:
    """Return where an audio file is; backslashes separate folders too, where no file has them in its name."""
    path = path_of(path)
    full = os.path.join(root, path)
    return full if "\\" not in path or os.path.exists(full) else os.path.join(root, path.replace("\\", "/"))


def _cell(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if isinstance(value, (list, tuple)):  # parquet can hold lists of labels
        return ";".join(map(str, value)) or ";"
    # pandas writes an empty number as NaN.
    return "" if value is None or value != value else str(value).strip()


def _text(file: Path, columns: Columns, root: Path) -> tuple[str, list[RawRow]]:
    lines = read_text(file).splitlines()
    group = columns.group == "folder"
    if lines and RAVEN_BEGIN in lines[0].split("\t"):
        return "raven", list(_raven(file, lines, columns, root, group))
    return "audacity", list(_audacity(file, lines, root, group))


def _raven(file: Path, lines: list[str], columns: Columns, root: Path, group: bool) -> Iterator[RawRow]:
    names = lines[0].split("\t")
    candidates = [columns.label] if columns.label else list(RAVEN_LABELS)
    label = next((name for name in candidates if name in names), None)
    if label is None:
        raise DataError(
            f"{file}: no column {candidates[0]!r} to take labels from; it has {', '.join(names)}; "
            "name one with --label-column"
        )
    seen: set[tuple[str, ...]] = set()
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        row = dict(zip(names, line.split("\t")))
        # The same selection may stand there once for each view and channel; tables put together number anew.
        names_of = ("Selection", "Begin Path", "Begin File", RAVEN_BEGIN, RAVEN_END)
        selection = tuple(row.get(name, "").strip() for name in names_of)
        if selection[0] and selection in seen:
            continue
        seen.add(selection)
        where = f"{file}, line {number}"
        path = _raven_audio(file, row, root)
        start, end = row.get(RAVEN_BEGIN, "").strip(), row.get(RAVEN_END, "").strip()
        offset = row.get("File Offset (s)", "").strip()
        if offset and offset != start:
            # In a sequence of files the times run on from the first file; the offset counts in its own.
            start, end = offset, _moved(start, end, offset)
        yield RawRow(where, path, row.get(label, "").strip(), start, end, group=_parent(path, group))
    if not seen:
        path = beside(file, root)
        yield RawRow(f"{file}, line 1", path, ";", group=_parent(path, group))


def _raven_audio(file: Path, row: Mapping[str, str], root: Path) -> str:
    whole = path_of(row.get("Begin Path", "").strip())
    if whole and os.path.isfile(whole):
        return whole
    name = row.get("Begin File", "").strip() or whole.replace("\\", "/").rsplit("/", 1)[-1]
    return _audio(root, name) if name else beside(file, root)


def _moved(start: str, end: str, offset: str) -> str:
    try:
        first, last, moved = (number_in(text) for text in (start, end, offset))
        return repr(round(moved + last - first, 9))
    except ValueError:
        return end


def _audacity(file: Path, lines: list[str], root: Path, group: bool) -> Iterator[RawRow]:
    path, found = beside(file, root), False
    for number, line in enumerate(lines, 1):
        # A line that begins with a backslash gives the frequencies of the label above it.
        if not line.strip() or line.startswith("\\"):
            continue
        start, _, rest = line.partition("\t")
        end, _, label = rest.partition("\t")
        if not rest or not (found or _is_number(start)):
            raise DataError(
                f"{file}, line {number}: neither a Raven selection table nor Audacity labels "
                "(start, end and label with tabs between); other tables need the ending .csv or .tsv"
            )
        found = True
        yield RawRow(
            f"{file}, line {number}",
            path,
            label.strip(),
            start.strip(),
            end.strip(),
            group=_parent(path, group),
        )
    if not found:
        yield RawRow(f"{file}, line 1", path, ";", group=_parent(path, group))


def _is_number(text: str) -> bool:
    try:
        number_in(text)
    except ValueError:
        return False
    return True


def beside(file: Path, root: Path) -> str:
    """Return the audio file that a label file of the same name belongs to.

    Args:
        file: for instance `night.Table.1.selections.txt` or `night.txt`.
        root: folder of the audio.

    Returns:
        The path; where there is none, the one with `.wav`, so that it is reported as missing.
    """
    endings = readable_extensions()
    stem = file.name
    while stem:
        for name in (stem, *(stem + ending for ending in sorted(endings))):
            if os.path.splitext(name)[1].lower() in endings and (root / name).is_file():
                return str(root / name)
        stem = stem.rpartition(".")[0]
    # NIGHT.WAV beside night.txt: recorders like capitals.
    listed = {path.name.casefold(): path for path in root.iterdir()} if root.is_dir() else {}
    stem = file.name.casefold()
    while stem:
        for ending in sorted(endings):
            if stem + ending in listed:
                return str(listed[stem + ending])
        stem = stem.rpartition(".")[0]
    return str(root / f"{file.name.split('.')[0]}.wav")


def _parent(path: str, group: bool) -> str:
    return os.path.dirname(path) if group else ""


def _hear(folder: Path, audio: Path | None) -> Iterator[RawRow]:
    metadata = read_json(folder / "task_metadata.json")
    splits = metadata.get("splits")
    if not isinstance(splits, list) or not splits:
        raise DataError(f"{folder / 'task_metadata.json'}: no list 'splits'")
    rates = sorted(
        (p for p in folder.iterdir() if p.is_dir() and p.name.isdecimal()), key=lambda p: int(p.name)
    )
    root = audio or (rates[-1] if rates else folder)
    for split in map(str, splits):
        file = folder / f"{split}.json"
        for name, labels in read_json(file).items():
            where, path = f"{file}, {name}", str(root / split / path_of(name))
            if metadata.get("embedding_type") != "event":
                yield RawRow(where, path, ";".join(map(str, labels)) or ";", split=split)
                continue
            if not labels:
                yield RawRow(where, path, ";", split=split)
            for number, event in enumerate(labels, 1):
                start, end = (repr(float(event[key]) / 1000) for key in ("start", "end"))
                yield RawRow(f"{where} event {number}", path, str(event["label"]), start, end, split)
