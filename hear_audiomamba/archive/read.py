"""Scene embeddings back from an output folder, whichever format they are in."""

from __future__ import annotations

import json
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import DataError, one_line, require
from ..io.names import one_path
from .journal import read_plan
from .tables import LAYOUTS, read_numbers

T = TypeVar("T")
# What numpy, zipfile, json and pyarrow raise for damaged files.
_DAMAGE = (
    OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, EOFError, SyntaxError, OverflowError,
    MemoryError, RecursionError, NotImplementedError, struct.error, tokenize.TokenError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class SceneTable:
    """Embeddings of clips, one a row.

    Attributes:
        paths: the audio file of each; for npz folders the result's name without `.npz`.
        start, duration: `(n,)` seconds; NaN where a file does not say.
        embeddings: `(n, K)` float32.
        provenance: model, weights_sha256 and all settings of the run.
    """

    paths: list[str]
    start: np.ndarray
    duration: np.ndarray
    embeddings: np.ndarray
    provenance: dict[str, Any]

    def __len__(self) -> int:
        return len(self.paths)


def read_scenes(folder: str | Path) -> Iterator[SceneTable]:
    """Read the scene embeddings of a folder that `embed` wrote, a shard at a time.

    Args:
        folder: an output folder, of any format.

    Yields:
        Tables, in the order of the shards or of the names.

    Raises:
        DataError: there are no scene embeddings, or a file is damaged.
    """
    tables = {pattern: partial(_table_of, reader) for pattern, reader in READERS.items()}
    return read_files(folder, tables, "scene embeddings", "embed …")


def read_files(
    folder: str | Path, readers: Mapping[str, Callable[[Path, Path], Iterator[T]]], what: str, verb: str
) -> Iterator[T]:
    """Yield what the first reader gives that finds any of its files in an output folder.

    Args:
        folder: an output folder.
        readers: by the pattern of their files; each takes a file and the folder.
        what: is looked for, in words.
        verb: of the command line that makes it.

    Raises:
        DataError: there is nothing of that kind, or a file is damaged.
    """
    folder = Path(one_path(folder, "folder"))
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    for pattern, reader in readers.items():
        found = False
        for file in sorted(folder.glob(pattern)):
            try:
                for piece in reader(file, folder):
                    found = True
                    yield piece
            except _DAMAGE as error:
                raise DataError(f"{file}: not a file of embeddings: {one_line(error)}") from None
        if found:
            return
    raise DataError(f"{folder}: holds no {what}; make some with `hear-audiomamba {verb} --out {folder}`")


def audio_paths(folder: Path) -> dict[str, str]:
    """Return the audio file of each result's name; npz files are called after it."""
    return {source.name: source.label for _, source in read_plan(folder)}


def read_archives(folders: Sequence[str | Path]) -> Iterator[SceneTable]:
    """Read the scene embeddings of several folders, with the audio files as paths.

    Args:
        folders: output folders of one model.

    Yields:
        Tables, folder by folder.

    Raises:
        DataError: see `read_scenes`; or the folders were made with different models.
    """
    first: dict[str, Any] | None = None
    for folder in map(Path, folders):
        names = audio_paths(folder)
        known = set(names.values())
        for table in read_scenes(folder):
            first = first or table.provenance
            for key in ("model", "weights_sha256", "window_frames"):
                own, theirs = first.get(key), table.provenance.get(key)
                if own != theirs:
                    told = f"{key} {str(theirs)[:24]}, {folders[0]} with {str(own)[:24]}"
                    raise DataError(f"{folder}: was made with {told}; their embeddings cannot be compared")
            paths = [path if path in known else names.get(path, path) for path in table.paths]
            yield replace(table, paths=paths)


def read_all_scenes(*folders: str | Path) -> SceneTable:
    """Read the scene embeddings of one or more folders into one table; see `read_archives`."""
    tables = list(read_archives(folders))
    return SceneTable(
        [path for table in tables for path in table.paths],
        np.concatenate([table.start for table in tables]),
        np.concatenate([table.duration for table in tables]),
        np.concatenate([table.embeddings for table in tables]),
        tables[0].provenance,
    )


def _table_of(reader: Callable[[Path, Path], SceneTable], file: Path, folder: Path) -> Iterator[SceneTable]:
    table = reader(file, folder)
    if len(table):
        yield table


def _parquet(file: Path, folder: Path) -> SceneTable:
    require("pyarrow", "parquet", "hear_audiomamba[parquet]")
    from pyarrow import parquet

    table = parquet.read_table(file)
    column = table.column("embedding").combine_chunks()
    matrix = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    provenance = json.loads(table.schema.metadata[b"hear_audiomamba"])
    layout = LAYOUTS[provenance["options"].get("columns", "default")]
    start = table.column(layout.start).to_numpy()
    known = "duration" in table.column_names  # to the last bit, where end − start is rounded
    duration = table.column("duration").to_numpy() if known else table.column(layout.end).to_numpy() - start
    return SceneTable(
        table.column(layout.path).to_pylist(), start, duration, matrix.reshape(len(table), -1), provenance
    )


def _npy(file: Path, folder: Path) -> SceneTable:
    return _indexed(np.load(file, mmap_mode="r", allow_pickle=False), *_index(file.with_suffix(".jsonl")))


def _text(file: Path, folder: Path) -> SceneTable:
    config, rows = _index(file.with_name(file.name.split(".")[0] + ".jsonl"))
    return _indexed(read_numbers(file, config["options"].get("columns", "default")), config, rows)


def _index(file: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the settings and the clips of a shard."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return json.loads(lines[0])["config"], [json.loads(line) for line in lines[1:]]


def _indexed(matrix: np.ndarray, config: dict[str, Any], rows: list[dict[str, Any]]) -> SceneTable:
    if len(matrix) != len(rows):
        raise ValueError(f"{len(matrix)} rows, {len(rows)} in its index")
    start, duration = (np.array([row[key] for row in rows]) for key in ("start", "duration"))
    return SceneTable([row["path"] for row in rows], start, duration, np.asarray(matrix, np.float32), config)


def _npz(file: Path, folder: Path) -> SceneTable:
    with np.load(file, allow_pickle=False) as held:
        provenance = json.loads(str(held["config"]))
        if "scene" not in held:
            return SceneTable([], np.zeros(0), np.zeros(0), np.zeros((0, 0)), provenance)
        scene = np.atleast_2d(held["scene"]).astype(np.float32)
        unknown = np.full(len(scene), np.nan)
        start, duration = (np.atleast_1d(held.get(key, unknown)) for key in ("start", "duration"))
    name = file.relative_to(folder).as_posix().removesuffix(".npz")
    return SceneTable([name] * len(scene), start, duration, scene, provenance)


READERS: dict[str, Callable[[Path, Path], SceneTable]] = {
    "scene-*.parquet": _parquet,
    "scene-*.npy": _npy,
    "scene-*.csv": _text,
    "scene-*.selections.txt": _text,
    "**/*.npz": _npz,
}
