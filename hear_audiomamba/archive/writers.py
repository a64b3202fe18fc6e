"""Finished units to files: one npz a source, parquet shards, or npy arrays with an index.

A writer writes below a temporary folder only; the run moves its files to their names when the unit is
complete. The same embeddings give the same bytes.
"""

from __future__ import annotations

import json
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..embedding.embedder import AudioEmbedder
from ..errors import DataError
from .clips import Clip, timestamp_pieces
from .options import EmbedOptions
from .sources import Source


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
        folder: temporary folder of the unit, for the files until they are complete.
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
        self.dtype = np.dtype(options.dtype)
        self.width = model.scene_embedding_size
        self.names: list[str] = []

    @abstractmethod
    def add(self, source: Source, clips: Sequence[Clip]) -> None:
        """Write the embeddings of a source."""

    def close(self) -> list[str]:
        """Complete the files; return their names, relative to `folder` and to the output folder."""
        return self.names

    def _seconds(self, clip: Clip) -> float:
        return clip.n_samples / self.model.sample_rate

    def _new(self, name: str) -> Path:
        self.names.append(name)
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class NpzWriter(UnitWriter):
    """One `NAME.npz` for each source: scene, embeddings with timestamps (ms), config (JSON).

    With segments `scene` has one row for each, and `start` and `duration` (s) say which.
    """

    def add(self, source: Source, clips: Sequence[Clip]) -> None:
        with zipfile.ZipFile(self._new(f"{source.name}.npz"), "w") as archive:
            if self.options.segment_seconds is not None:
                _store(archive, "scene", [clip.scene.astype(self.dtype) for clip in clips], stack=True)
                _store(archive, "start", [np.array([clip.start for clip in clips])])
                _store(archive, "duration", [np.array([self._seconds(clip) for clip in clips])])
            elif self.options.scene:
                _store(archive, "scene", [clips[0].scene.astype(self.dtype)])
            if self.options.timestamps:
                # Zip members are written one after the other; the times are small, the embeddings need not be.
                n_times = len(self.model.timestamp_grid(clips[0].n_samples, len(clips[0].rows))[1])
                times: list[np.ndarray] = []
                shape = (n_times, self.width)
                _store(archive, "embeddings", self._rows(clips[0], times), shape=shape, dtype=self.dtype)
                _store(archive, "timestamps", [np.concatenate(times).astype(np.float32)])
            _store(archive, "config", [np.array(self.provenance.to_json())])

    def _rows(self, clip: Clip, times: list[np.ndarray]) -> Iterator[np.ndarray]:
        for rows, when in timestamp_pieces(self.model, clip):
            times.append(when)
            yield rows.astype(self.dtype)


class ParquetWriter(UnitWriter):
    """Shards `scene-00000.parquet` and `timestamps-00000.parquet` with fixed-size lists of floats."""

    ROWS_AT_ONCE = 1024

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._writers: dict[str, Any] = {}
        self._files: list[Any] = []
        self._scenes: list[tuple[str, float, float, np.ndarray]] = []

    def add(self, source: Source, clips: Sequence[Clip]) -> None:
        if self.options.scene:
            self._scenes += [(source.label, clip.start, self._seconds(clip), clip.scene) for clip in clips]
            if len(self._scenes) >= self.ROWS_AT_ONCE:
                self._write_scenes()
        if self.options.timestamps:
            for rows, when in timestamp_pieces(self.model, clips[0]):
                columns = {
                    "path": [source.label] * len(rows),
                    "start": [clips[0].start] * len(rows),
                    "time_ms": when,
                }
                self._write("timestamps", columns, rows)

    def close(self) -> list[str]:
        self._write_scenes()
        for writer in self._writers.values():
            writer.close()
        for file in self._files:
            file.close()
        return self.names

    def _write_scenes(self) -> None:
        if self._scenes:
            path, start, duration, scene = zip(*self._scenes)
            self._write("scene", {"path": path, "start": start, "duration": duration}, np.stack(scene))
            self._scenes = []

    def _write(self, kind: str, columns: dict[str, Iterable], rows: np.ndarray) -> None:
        arrow, parquet = import_pyarrow()
        flat = arrow.array(rows.astype(self.dtype).reshape(-1))
        constant = {"model": self.provenance.model, "weights_sha256": self.provenance.weights_sha256}
        table = arrow.table(
            {
                **{key: arrow.array(values) for key, values in columns.items()},
                **{key: arrow.array([text] * len(rows)) for key, text in constant.items()},
                "embedding": arrow.FixedSizeListArray.from_arrays(flat, self.width),
            }
        )
        if kind not in self._writers:
            schema = table.schema.with_metadata({"hear_audiomamba": self.provenance.to_json()})
            # Our own file object, so that a full disk is the OSError that Python knows.
            file = open(self._new(f"{kind}-{self.unit:05d}.parquet"), "wb")  # noqa: SIM115
            self._files.append(file)
            # Dictionaries serve texts that repeat; floats hardly compress.
            texts = [key for key in table.column_names if arrow.types.is_string(table.schema.field(key).type)]
            self._writers[kind] = parquet.ParquetWriter(
                file, schema, compression="zstd", use_dictionary=texts
            )
        self._writers[kind].write_table(table)


class NpyWriter(UnitWriter):
    """Arrays `scene-00000.npy` and `timestamps-00000.npy` for `np.load(..., mmap_mode="r")`.

    Beside each lies an index, `.jsonl`: the rows of each clip, in order.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._open: dict[str, tuple[_GrowingArray, Any]] = {}

    def add(self, source: Source, clips: Sequence[Clip]) -> None:
        for clip in clips:
            facts = {"path": source.label, "start": clip.start, "duration": self._seconds(clip)}
            if self.options.scene:
                array, index = self._files("scene")
                _line(index, {**facts, "row": array.n_rows})
                array.append(clip.scene[None])
            if self.options.timestamps:
                array, index = self._files("timestamps")
                first_row = array.n_rows
                times = []
                for rows, when in timestamp_pieces(self.model, clip):
                    array.append(rows)
                    times.append(when)
                times = np.concatenate(times)
                step = float(times[1] - times[0]) if len(times) > 1 else 0.0
                grid = {"row": first_row, "rows": len(times), "first_ms": float(times[0]), "step_ms": step}
                _line(index, {**facts, **grid})

    def close(self) -> list[str]:
        for array, index in self._open.values():
            array.close()
            index.close()
        return self.names

    def _files(self, kind: str) -> tuple[_GrowingArray, Any]:
        if kind not in self._open:
            stem = f"{kind}-{self.unit:05d}"
            array = _GrowingArray(self._new(f"{stem}.npy"), self.dtype, self.width)
            index = open(self._new(f"{stem}.jsonl"), "w", encoding="utf-8")  # noqa: SIM115
            _line(index, {"config": json.loads(self.provenance.to_json())})
            self._open[kind] = array, index
        return self._open[kind]


class _GrowingArray:
    """A .npy file whose number of rows is written when it is known."""

    def __init__(self, path: Path, dtype: np.dtype, width: int) -> None:
        self._file = open(path, "wb")  # noqa: SIM115
        self._dtype, self._width = dtype, width
        self.n_rows = 0
        self._header()

    def append(self, rows: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(rows.astype(self._dtype)).tobytes())
        self.n_rows += len(rows)

    def close(self) -> None:
        self._file.seek(0)
        self._header()
        self._file.close()

    def _header(self) -> None:
        # numpy leaves room in the header for the first axis to grow.
        _write_header(self._file, (self.n_rows, self._width), self._dtype)


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


WRITERS: dict[str, NewWriter] = {"npz": NpzWriter, "parquet": ParquetWriter, "npy": NpyWriter}


def import_pyarrow() -> tuple[Any, Any]:
    """Return the modules `pyarrow` and `pyarrow.parquet`.

    Raises:
        DataError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError("parquet needs pyarrow: pip install 'hear-audiomamba[scale]'") from None
    return pyarrow, pyarrow.parquet


def _store(
    archive: zipfile.ZipFile,
    name: str,
    pieces: Iterable[np.ndarray],
    *,
    stack: bool = False,
    shape: tuple[int, ...] | None = None,
    dtype: np.dtype | None = None,
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


def _line(file: Any, facts: dict[str, Any]) -> None:
    file.write(json.dumps(facts, sort_keys=True) + "\n")
