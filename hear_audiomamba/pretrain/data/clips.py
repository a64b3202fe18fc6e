"""The list of a corpus's clips: from a folder, a manifest, or webdataset tars."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import AudioReadError, ConfigError, DataError, counted
from ...io.audio import duration_of, readable_extensions
from ...io.manifest import TABLE_EXTENSIONS, Row, read_rows, seconds_of
from ...io.tars import TarMember
from ..config import DataConfig
from .shards import expand_shards, index_shards


@dataclass
class Clips:
    """A list of clips, one entry each.

    Attributes:
        root: folder that `paths` are relative to.
        paths: files, or members of tars as `shard.tar/name.flac`.
        seconds: `(n,)` float64, NaN where not known.
        kinds: the manifest's `kind` of each clip, or None.
        labels: the label indices of each clip, or None.
        label_names: what the indices stand for.
        members: where in a tar each clip lies, or None for plain files.
        format: "audio" or "logmel".
        starts: `(n,)` seconds where each clip begins in its file, NaN seconds meaning the whole file; None
            where all clips are whole files.
    """

    root: Path
    paths: list[str]
    seconds: np.ndarray
    kinds: list[str] | None = None
    labels: list[tuple[int, ...]] | None = None
    label_names: tuple[str, ...] = ()
    members: list[TarMember] | None = None
    format: str = "audio"
    starts: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def known_seconds(self) -> np.ndarray:
        """Return all durations `(n,)`, reading the headers of files whose manifest does not tell."""
        for index in np.flatnonzero(np.isnan(self.seconds)):
            self.seconds[index] = self._measure(int(index))
        return self.seconds

    def _measure(self, index: int) -> float:
        if self.members is not None or self.format == "logmel":
            return 0.0  # their length is seen only when they are read; they count as one crop
        try:
            return duration_of(self.root / self.paths[index])
        except AudioReadError:
            return 0.0  # reported when it is drawn


def find_clips(data: DataConfig, split: str | None) -> Clips:
    """List the clips of a corpus.

    Args:
        data: where it is; see `DataConfig`.
        split: rows of the manifest, or a sub-folder; None takes everything.

    Returns:
        The clips, sorted by path.

    Raises:
        DataError: the path does not exist or holds no audio, the manifest lacks a column or a row's file
            has no name, or no row has this split.
    """
    if data.format == "webdataset" or _names_tars(data):
        return _from_tars(data, split)
    path = Path(data.path).expanduser()
    if not path.exists():
        raise DataError(f"data.path: {data.path} does not exist")
    if path.is_dir() and (path / "manifest.csv").is_file():
        path = path / "manifest.csv"
    if path.is_dir():
        clips = _from_folder(path, data, split)
    elif path.suffix in TABLE_EXTENSIONS:
        clips = _from_manifest(path, data, split)
    else:
        endings = ", ".join(sorted(TABLE_EXTENSIONS))
        raise DataError(f"data.path: {data.path} is neither a folder nor a manifest ({endings})")
    if not len(clips) and split != data.valid_split:
        what = "log-mel (.npy)" if data.format == "logmel" else "audio"
        raise DataError(
            f"data.path: {data.path} holds no {what} files{f' of split {split!r}' if split else ''}"
        )
    return clips


def label_vocabulary(data: DataConfig) -> tuple[str, ...] | None:
    """Return the label names of `data.labels`, one a line (or the last column of a CSV), or None.

    Raises:
        ConfigError: the file cannot be read.
    """
    if data.labels is None:
        return None
    try:
        text = Path(data.labels).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"data.labels: {error}") from None
    rows = [row for row in csv.reader(text.splitlines()) if row]
    if rows and len(rows[0]) > 1:
        rows = rows[1:]
        return tuple(row[0] if not row[0].isdigit() else row[-1] for row in rows)
    return tuple(row[0].strip() for row in rows)


def _names_tars(data: DataConfig) -> bool:
    if data.format != "auto":
        return False
    path = Path(data.path).expanduser()
    return data.path.endswith(".tar") or (path.is_dir() and any(path.glob("*.tar")))


def _from_folder(root: Path, data: DataConfig, split: str | None) -> Clips:
    if split is not None and (root / split).is_dir():
        below = root / split
    elif split is not None and split == data.valid_split:
        return Clips(root, [], np.empty(0))
    else:
        below = root
    logmel = data.format == "logmel"
    suffixes = (".npy",) if logmel else tuple(readable_extensions())
    found = []
    for folder, folders, files in os.walk(below):
        folders.sort()
        folder = os.path.relpath(folder, root)
        found += [os.path.normpath(os.path.join(folder, f)) for f in files if f.lower().endswith(suffixes)]
    found.sort()
    return Clips(root, found, np.full(len(found), np.nan), format="logmel" if logmel else "audio")


def _from_manifest(path: Path, data: DataConfig, split: str | None) -> Clips:
    rows = _read_rows(path)
    if not rows:
        raise DataError(f"{path}: the manifest has no rows")
    columns = set(rows[0].values)
    for row in rows:
        if not isinstance(row.values.get("path"), str) or not row.values["path"]:
            raise DataError(f"{row.where}: no column 'path'; columns are {', '.join(map(str, row.values))}")
    if split is not None and "split" in columns:
        known = sorted({str(row.values.get("split")) for row in rows})
        rows = [row for row in rows if row.values.get("split") == split]
        if not rows and split != data.valid_split:
            raise DataError(f"{path}: no row has the split {split!r}; there are {', '.join(known)}")
    elif split is not None and split == data.valid_split:
        rows = []
    rows = sorted(rows, key=lambda row: str(row.values["path"]))
    seconds = np.array([_seconds(row) for row in rows], dtype=np.float64)
    kinds = [str(row.values.get("kind", "")) for row in rows] if rows and "kind" in columns else None
    clips = Clips(path.parent, [row.values["path"] for row in rows], seconds, kinds)
    clips.format = "logmel" if data.format == "logmel" else "audio"
    column = next((name for name in ("labels", "label") if rows and name in columns), None)
    if column is not None:
        names = [_label_list(row.values.get(column)) for row in rows]
        _set_labels(clips, names, label_vocabulary(data), path)
    return clips


def _read_rows(path: Path) -> list[Row]:
    rows = list(read_rows(path))
    # AST's own lists call it "wav".
    return [
        row._replace(values={**row.values, "path": row.values["wav"]})
        if "path" not in row.values and "wav" in row.values
        else row
        for row in rows
    ]


def _seconds(row: Row) -> float:
    seconds = seconds_of(row, "seconds")
    return float("nan") if seconds is None else seconds


def _label_list(value: object) -> list[str]:
    if isinstance(value, list):
        return [str(item) for item in value]
    separator = ";" if ";" in str(value) else ","
    return [item.strip() for item in str(value or "").split(separator) if item.strip()]


def _set_labels(
    clips: Clips, names: Sequence[Sequence[str]], vocabulary: Iterable[str] | None, path: Path
) -> None:
    if vocabulary is None:
        vocabulary = sorted({name for row in names for name in row})
    clips.label_names = tuple(vocabulary)
    index = {name: i for i, name in enumerate(clips.label_names)}
    try:
        clips.labels = [tuple(sorted({index[name] for name in row})) for row in names]
    except KeyError as error:
        raise DataError(f"{path}: label {error} is not in data.labels") from None


def _from_tars(data: DataConfig, split: str | None) -> Clips:
    shards = expand_shards(data.path, data.cache)
    if split is not None and any(split in shard.name for shard in shards):
        shards = [shard for shard in shards if split in shard.name]
    elif split is not None and split == data.valid_split:
        shards = []
    suffixes = (".npy",) if data.format == "logmel" else tuple(readable_extensions())
    members, extras = index_shards(shards, suffixes)
    if not members and split != data.valid_split:
        raise DataError(f"data.path: {data.path} holds no audio, in {counted(len(shards), 'tar')}")
    root = shards[0].parent if shards else Path()
    paths = [f"{member.archive.name}/{member.name}" for member in members]
    said = [Row(path, extra) for path, extra in zip(paths, extras)]
    seconds = np.array([_seconds(row) for row in said], dtype=np.float64)
    clips = Clips(root, paths, seconds, members=members)
    if extras and any("kind" in extra for extra in extras):
        clips.kinds = [str(extra.get("kind", "")) for extra in extras]
    if extras and any("labels" in extra for extra in extras):
        names = [_label_list(extra.get("labels")) for extra in extras]
        _set_labels(clips, names, label_vocabulary(data), root)
    return clips
