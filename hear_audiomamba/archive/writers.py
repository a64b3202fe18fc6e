"""Finished units to files: one npz a source, or npy arrays with an index; tables are in `tables.py`.

A writer writes below the unit's own folder only; the run moves its files to their names when they are
complete. The same embeddings give the same bytes, also of a writer that was stopped and continues.
"""

from __future__ import annotations

import json
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..embedding.embedder import AudioEmbedder
from ..errors import DataError
from ..io.files import sync
from .clips import Clip, timestamp_pieces
from .options import EmbedOptions
from .sources import Source

Array = NDArray[Any]
Mark = dict[str, Any]


@dataclass(frozen=True)
class Provenance:
    """Where embeddings come from: stands in every file.

    Attributes:
        model: name of the variant.
        weights_sha256: of the weights' values.
        settings: all of the model's and the run's settings, plain values.
    """

    model: str
    weights_sha256: str
    settings: dict[str, Any]

    def to_json(self) -> str:
        """Return everything as one JSON object."""
        return json.dumps(
            {"model": self.model, "weights_sha256": self.weights_sha256, **self.settings}, sort_keys=True
        )


class UnitWriter(ABC):
    """Writes the results of one unit.

    Args:
        folder: the unit's own, for the files until they are complete.
        unit: number of the unit.
        model: whose embeddings.
        options: of the run.
        provenance: to be stored with them.
    """

    def __init__(
        self, folder: Path, unit: int, model: AudioEmbedder, options: EmbedOptions, provenance: Provenance
    ) -> None:
        self.folder, self.unit, self.model = folder, unit, model
        self.options, self.provenance = options, provenance
        self.dtype: np.dtype[Any] = np.dtype(options.dtype)
        self.width = model.scene_embedding_size
        self.names: list[str] = []

    @abstractmethod
    def add(self, source: Source, clips: Sequence[Clip]) -> None:
        """Write the embeddings of a source."""

    def close(self) -> list[str]:
        """Complete the files; return the names of all of the unit's that were written since it was opened,
        relative to `folder` and to the output folder."""
        return self.names

    def finished(self) -> list[str]:
        """Return the names of files that are complete already and may be moved to their places."""
        return []

    def mark(self) -> Mark | None:
        """Return what `resume` needs to continue after the sources added so far; None if it cannot."""
        return None

    def flush(self) -> None:  # noqa: B027
        """Have everything up to the latest mark on disk; nothing to do where files are never half done."""

    def resume(self, mark: Mark) -> None:
        """Go on where a writer of the same folder was when it gave this mark; nothing was added yet."""
        raise NotImplementedError

    def _seconds(self, clip: Clip) -> float:
        return clip.n_samples / self.model.sample_rate

    def _new(self, name: str) -> Path:
        self.names.append(name)
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class NpzWriter(UnitWriter):
    """One `NAME.npz` for each source: scene, start and duration (s), embeddings with timestamps (ms), config (JSON).

    With segments `scene`, `start` and `duration` have one row for each.
    """

    def add(self, source: Source, clips: Sequence[Clip]) -> None:
        """Write the file of a source."""
        name = f"{source.name}.npz"
        path = self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(path, "w") as archive:
                self._store_all(archive, clips)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self.names.append(name)

    def finished(self) -> list[str]:
        """Return the names of all files written: each is complete."""
        return self.names

    def mark(self) -> Mark | None:
        """Return nothing to remember: the files are one a source."""
        return {}

    def resume(self, mark: Mark) -> None:
        """Go on with the next source's file."""

    def _store_all(self, archive: zipfile.ZipFile, clips: Sequence[Clip]) -> None:
        starts = np.array([clip.start for clip in clips], dtype=np.float64)
        durations = np.array([self._seconds(clip) for clip in clips], dtype=np.float64)
        if self.options.segment_seconds is not None:
            _store(archive, "scene", [clip.scene.astype(self.dtype) for clip in clips], stack=True)
        else:
            starts, durations = starts[0], durations[0]
            if self.options.scene:
                _store(archive, "scene", [clips[0].scene.astype(self.dtype)])
        _store(archive, "start", [np.asarray(starts)])
        _store(archive, "duration", [np.asarray(durations)])
        if self.options.timestamps:
            # Zip members are written one after the other; the times are small, the embeddings need not be.
            rows = clips[0].rows
            assert rows is not None, "options.timestamps keeps the rows"
            n_times = len(self.model.timestamp_grid(clips[0].n_samples, len(rows)).times)
            times: list[Array] = []
            shape = (n_times, self.width)
            _store(archive, "embeddings", self._rows(clips[0], times), shape=shape, dtype=self.dtype)
            _store(archive, "timestamps", [np.concatenate(times).astype(np.float32)])
        _store(archive, "config", [np.array(self.provenance.to_json())])

    def _rows(self, clip: Clip, times: list[Array]) -> Iterator[Array]:
        for rows, when in timestamp_pieces(self.model, clip):
            times.append(when)
            yield rows.astype(self.dtype)


class NpyWriter(UnitWriter):
    """Arrays `scene-00000.npy` and `timestamps-00000.npy` for `np.load(..., mmap_mode="r")`.

    Beside each lies an index, `.jsonl`: the rows of each clip, in order.
    """

    keeps_times = False  # the index says where the rows of a clip lie in time

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._tables: dict[str, _Table] = {}

    def add(self, source: Source, clips: Sequence[Clip]) -> None:
        """Add the rows of a source to the tables."""
        for clip in clips:
            facts = {"path": source.label, "start": clip.start, "duration": self._seconds(clip)}
            if self.options.scene:
                table = self._table("scene")
                table.index.write(_line({**facts, "row": table.rows.n_rows}))
                table.rows.append(clip.scene[None])
            if self.options.timestamps:
                table = self._table("timestamps")
                first_row = table.rows.n_rows
                pieces = []
                for rows, when in timestamp_pieces(self.model, clip):
                    table.rows.append(rows)
                    pieces.append(when)
                    if table.times is not None:
                        table.times.append(when)
                times = np.concatenate(pieces)
                step = float(times[1] - times[0]) if len(times) > 1 else 0.0
                grid = {"row": first_row, "rows": len(times), "first_ms": float(times[0]), "step_ms": step}
                table.index.write(_line({**facts, **grid}))

    def close(self) -> list[str]:
        """Complete the tables."""
        names = []
        for kind, table in self._tables.items():
            table.close()
            names += [f"{kind}-{self.unit:05d}{ending}" for ending in (".npy", ".jsonl")]
        return names

    def mark(self) -> Mark | None:
        """Return how long the tables are."""
        return {kind: table.mark() for kind, table in self._tables.items()}

    def flush(self) -> None:
        """Have the tables on disk."""
        for table in self._tables.values():
            table.flush()

    def resume(self, mark: Mark) -> None:
        """Cut off what was added behind the mark."""
        for kind, lengths in mark.items():
            self._table(kind, keep=True).cut(lengths)

    def _table(self, kind: str, keep: bool = False) -> _Table:
        if kind not in self._tables:
            stem = self.folder / f"{kind}-{self.unit:05d}"
            facts = {"config": json.loads(self.provenance.to_json())}
            times = self.keeps_times and kind == "timestamps"
            self._tables[kind] = _Table(stem, self.dtype, self.width, facts, times, keep)
        return self._tables[kind]


class _Table:
    """Rows on disk, and an index that says whose they are."""

    def __init__(
        self, stem: Path, dtype: np.dtype[Any], width: int, facts: Mark, times: bool, keep: bool
    ) -> None:
        self.rows = _GrowingArray(stem.with_suffix(".npy"), dtype, (width,), keep)
        self.times: _GrowingArray | None = None
        if times:
            double = np.dtype(np.float64)
            self.times = _GrowingArray(stem.with_suffix(".times.npy"), double, (), keep)
        self.index = _open(stem.with_suffix(".jsonl"), keep)
        if not keep:
            self.index.write(_line(facts))

    def mark(self) -> Mark:
        return {"rows": self.rows.n_rows, "index": self.index.tell()}

    def cut(self, lengths: Mark) -> None:
        self.rows.cut(lengths["rows"])
        if self.times is not None:
            self.times.cut(lengths["rows"])
        _cut(self.index, lengths["index"])

    def flush(self) -> None:
        for file in self._files():
            file.flush()
            sync(file.name)

    def close(self) -> None:
        for array in filter(None, (self.rows, self.times)):
            array.finish()
        for file in self._files():
            file.close()

    def _files(self) -> list[IO[bytes]]:
        times = [] if self.times is None else [self.times.file]
        return [self.rows.file, *times, self.index]


class _GrowingArray:
    """A .npy file whose number of rows is written when it is known."""

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], keep: bool) -> None:
        self.file = _open(path, keep)
        self._dtype, self._shape = dtype, shape
        self._header(0)
        self._begin = self.file.tell()
        self.n_rows = 0

    def append(self, rows: Array) -> None:
        self.file.write(np.ascontiguousarray(rows.astype(self._dtype)).tobytes())
        self.n_rows += len(rows)

    def cut(self, n_rows: int) -> None:
        self.n_rows = n_rows
        _cut(self.file, self._begin + n_rows * int(np.prod(self._shape, dtype=int)) * self._dtype.itemsize)

    def finish(self) -> None:
        self._header(self.n_rows)

    def _header(self, n_rows: int) -> None:
        # numpy leaves room in the header for the first axis to grow.
        self.file.seek(0)
        _write_header(self.file, (n_rows, *self._shape), self._dtype)


NewWriter = Callable[[Path, int, AudioEmbedder, EmbedOptions, Provenance], UnitWriter]


@dataclass(frozen=True)
class Product:
    """What a run makes of clips, where it is not their embeddings; can be pickled.

    Attributes:
        settings: what the results depend on besides model and options, plain values; kept on record.
        writer: begins the files of a unit.
        names: the files that a unit, by its number, may have.
    """

    settings: dict[str, Any]
    writer: NewWriter
    names: Callable[[int], Sequence[str]]


def _store(
    archive: zipfile.ZipFile,
    name: str,
    pieces: Iterable[Array],
    *,
    stack: bool = False,
    shape: tuple[int, ...] | None = None,
    dtype: np.dtype[Any] | None = None,
) -> None:
    """Write an array to a zip archive piece by piece, as `np.savez` would."""
    if shape is None:
        pieces = list(pieces)
        shape = (len(pieces), *pieces[0].shape) if stack else pieces[0].shape
    pieces = iter(pieces)
    # A ZipInfo made from a name alone has a fixed date, so that the bytes do not depend on the clock.
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
        first = next(pieces)
        _write_header(member, shape, dtype or first.dtype)
        member.write(first.tobytes())
        for piece in pieces:
            member.write(piece.tobytes())


def _write_header(file: Any, shape: tuple[int, ...], dtype: np.dtype) -> None:
    facts = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, facts)


def _line(facts: dict[str, Any]) -> bytes:
    return (json.dumps(facts, sort_keys=True) + "\n").encode()


def _open(path: Path, keep: bool) -> IO[bytes]:
    return open(path, "r+b" if keep else "w+b")


def _cut(file: IO[bytes], length: int) -> None:
    if file.seek(0, os.SEEK_END) < length:
        raise DataError(f"{file.name}: shorter than its record says; use --overwrite to start again")
    file.seek(length)
    file.truncate()
