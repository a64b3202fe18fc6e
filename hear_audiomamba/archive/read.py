"""Scene embeddings back from an output folder, whichever format they are in."""

from __future__ import annotations

import json
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, one_line, require
from .tables import LAYOUTS, read_numbers

# What numpy, zipfile, json and pyarrow raise for damaged files.
DAMAGE = (
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
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    for pattern, reader in READERS.items():
        files = sorted(folder.glob(pattern))
        if not files:
            continue
        found = False
        for file in files:
            try:
                table = reader(file, folder)
            except DAMAGE as error:
                raise DataError(f"{file}: not a file of embeddings: {one_line(error)}") from None
            if len(table):
                found = True
                yield table
        if found:
            return
    raise DataError(
        f"{folder}: holds no scene embeddings; make some with `hear-audiomamba embed … --out {folder}`"
    )


def read_all_scenes(folder: str | Path) -> SceneTable:
    """Read the scene embeddings of a folder into one table; see `read_scenes`."""
    tables = list(read_scenes(folder))
    return SceneTable(
        [path for table in tables for path in table.paths],
        np.concatenate([table.start for table in tables]),
        np.concatenate([table.duration for table in tables]),
        np.concatenate([table.embeddings for table in tables]),
        tables[0].provenance,
    )


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
