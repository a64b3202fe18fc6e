"""Timestamp embeddings back from an output folder, whichever format they are in, some rows at a time."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import require
from .read import read_files

ROWS_AT_ONCE = 4096


class FramePiece(NamedTuple):
    """Consecutive timestamp embeddings of one clip.

    Attributes:
        path: the audio file; for npz folders the result's name without `.npz`.
        start: where the clip begins in its file, seconds; NaN where a file does not say.
        times: `(n,)` seconds from the clip's beginning.
        embeddings: `(n, K)`.
        last: the clip ends here.
    """

    path: str
    start: float
    times: np.ndarray
    embeddings: np.ndarray
    last: bool


def read_frames(folder: str | Path) -> Iterator[FramePiece]:
    """Read the timestamp embeddings of a folder that `embed` wrote, in bounded memory.

    Args:
        folder: an output folder, of any format.

    Yields:
        Pieces of at most 4,096 rows; those of a clip follow one another.

    Raises:
        DataError: there are no timestamp embeddings, or a file is damaged.
    """
    readers = {"timestamps-*.parquet": _parquet, "timestamps-*.npy": _npy, "**/*.npz": _npz}
    return read_files(folder, readers, "timestamp embeddings", "embed … --timestamps")


def _npy(file: Path, folder: Path) -> Iterator[FramePiece]:
    lines = file.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
    matrix = np.load(file, mmap_mode="r", allow_pickle=False)
    for line in lines[1:]:
        row = json.loads(line)
        for at in range(0, row["rows"], ROWS_AT_ONCE):
            end = min(at + ROWS_AT_ONCE, row["rows"])
            times = (row["first_ms"] + np.arange(at, end) * row["step_ms"]) / 1000
            held = np.array(matrix[row["row"] + at : row["row"] + end])
            yield FramePiece(row["path"], row["start"], times, held, end == row["rows"])


def _npz(file: Path, folder: Path) -> Iterator[FramePiece]:
    name = file.relative_to(folder).as_posix().removesuffix(".npz")
    with zipfile.ZipFile(file) as held:
        if "embeddings.npy" not in held.namelist():
            return
        with held.open("timestamps.npy") as member:
            times = np.lib.format.read_array(member, allow_pickle=False) / 1000
        # Read by pieces: `np.load` would hold all of an hours-long file at once.
        with held.open("embeddings.npy") as member:
            shape, dtype = _header(member)
            for at in range(0, shape[0], ROWS_AT_ONCE):
                end = min(at + ROWS_AT_ONCE, shape[0])
                data = member.read((end - at) * shape[1] * dtype.itemsize)
                rows = np.frombuffer(data, dtype).reshape(end - at, shape[1])
                yield FramePiece(name, float("nan"), times[at:end], rows, end == shape[0])


def _header(member: Any) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(member)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, in_columns, dtype = reader(member)
    if in_columns or len(shape) != 2 or dtype.hasobject:
        raise ValueError(f"embeddings of shape {shape} and type {dtype}")
    return shape, dtype


def _parquet(file: Path, folder: Path) -> Iterator[FramePiece]:
    require("pyarrow", "parquet", "hear_audiomamba[parquet]")
    from pyarrow import parquet

    held: FramePiece | None = None
    with parquet.ParquetFile(file) as table:
        for batch in table.iter_batches(ROWS_AT_ONCE, columns=["path", "start", "time_ms", "embedding"]):
            paths = np.array(batch.column("path").to_pylist(), object)
            start, times = batch.column("start").to_numpy(), batch.column("time_ms").to_numpy() / 1000
            rows = batch.column("embedding").flatten().to_numpy().reshape(len(batch), -1)
            # A clip begins where the path changes, or its start, or where time goes back.
            new = (paths[1:] != paths[:-1]) | (start[1:] != start[:-1]) | (times[1:] <= times[:-1])
            edges = [0, *(np.flatnonzero(new) + 1).tolist(), len(paths)]
            for first, end in pairwise(edges):
                piece = FramePiece(
                    paths[first], float(start[first]), times[first:end], rows[first:end], False
                )
                if held is not None:
                    same = (held.path, held.start) == (piece.path, piece.start)
                    yield held._replace(last=not (same and piece.times[0] > held.times[-1]))
                held = piece
    if held is not None:
        yield held._replace(last=True)
