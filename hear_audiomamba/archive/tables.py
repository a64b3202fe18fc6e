"""Shards as tables for other programs: parquet, and text with commas or tabs.

`LAYOUTS` says what the columns are called. Rows are kept as arrays (`NpyWriter`) until a unit is complete,
because these files cannot be continued once they are closed.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from .journal import Unit
from .npy import NpyWriter
from .npz import NpzWriter
from .options import EmbedOptions
from .writers import Array, NewWriter

ROWS_AT_ONCE = 16_384


@dataclass(frozen=True)
class Layout:
    """How a table names where its clips are.

    Attributes:
        path, start, end: columns of the recording, and of the clip's first and last second in it.
        separator: between the cells of a text file. ending: of its name.
        wide: a text file has a column for each number of an embedding, and these begin with `prefix`; otherwise
            one cell holds them all, with commas between.
    """

    path: str
    start: str
    end: str
    separator: str = ","
    ending: str = ".csv"
    wide: bool = True
    prefix: str = ""


LAYOUTS = {
    "default": Layout("path", "start", "end", prefix="e"),
    "birdnet": Layout("file_path", "start", "end", wide=False),
    "opensoundscape": Layout("file", "start_time", "end_time"),
    "raven": Layout("Begin Path", "Begin Time (s)", "End Time (s)", "\t", ".selections.txt", wide=False),
}


class ParquetWriter(NpyWriter):
    """Shards `scene-00000.parquet` and `timestamps-00000.parquet` with fixed-size lists of floats."""

    def close(self) -> list[str]:
        """Write the tables as parquet files."""
        super().close()
        names = []
        for kind in self._tables:
            names.append(f"{kind}-{self.unit:05d}.parquet")
            self._convert(kind, self.folder / names[-1])
        return names

    def _convert(self, kind: str, path: Path) -> None:
        import pyarrow as arrow
        from pyarrow import parquet

        layout = LAYOUTS[self.options.columns]
        stem = path.with_suffix("")
        rows = np.load(stem.with_suffix(".npy"), mmap_mode="r")
        text, double = arrow.string(), arrow.float64()
        kinds = {layout.path: text, layout.start: double}
        kinds |= {"time_ms": double} if kind == "timestamps" else {layout.end: double}
        if self.options.columns == "default":
            kinds |= {} if kind == "timestamps" else {"duration": double}
            kinds |= {"model": text, "weights_sha256": text}
        number = arrow.from_numpy_dtype(self.dtype)
        schema = arrow.schema(
            [*kinds.items(), ("embedding", arrow.list_(number, self.width))],
            metadata={"hear_audiomamba": self.provenance.to_json()},
        )
        # Dictionaries serve texts that repeat; floats hardly compress.
        texts = [name for name, kind_ in kinds.items() if kind_ == text]
        # Our own file object, so that a full disk is the OSError that Python knows.
        with (
            open(path, "wb") as file,
            parquet.ParquetWriter(file, schema, compression="zstd", use_dictionary=texts) as writer,
        ):
            for first, paths, starts, durations, times in _pieces(stem.with_suffix(".jsonl")):
                n = len(paths)
                columns: dict[str, Any] = {
                    layout.path: paths, layout.start: starts, layout.end: starts + durations,
                    "duration": durations, "time_ms": times, "model": [self.provenance.model] * n,
                    "weights_sha256": [self.provenance.weights_sha256] * n,
                }  # fmt: skip
                flat = arrow.array(np.array(rows[first : first + n]).reshape(-1), type=number)
                arrays = [arrow.array(columns[name], type=kind_) for name, kind_ in kinds.items()]
                arrays.append(arrow.FixedSizeListArray.from_arrays(flat, self.width))
                writer.write_table(arrow.table(arrays, schema=schema))


class TextWriter(NpyWriter):
    """Shards `scene-00000.csv`, and for Raven `scene-00000.selections.txt`; an index, `.jsonl`, beside each."""

    def close(self) -> list[str]:
        """Write the tables as text."""
        super().close()
        names: list[str] = []
        for kind in self._tables:
            names += _text_files(kind, self.unit, self.options.columns)
            self._convert(self.folder / names[-2])
        return names

    def _convert(self, path: Path) -> None:
        layout, raven = LAYOUTS[self.options.columns], self.options.columns == "raven"
        stem = self.folder / path.name.removesuffix(layout.ending)
        rows = np.load(stem.with_suffix(".npy"), mmap_mode="r")
        high = self.model.sample_rate / 2
        behind = _InSequence()
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=layout.separator, lineterminator="\n")
            writer.writerow([*self._places(layout, raven), *self._names(layout, raven)])
            for first, paths, starts, durations, _ in _pieces(stem.with_suffix(".jsonl")):
                clips = zip(paths, starts.tolist(), durations.tolist(), strict=True)
                for row, (label, start, duration) in enumerate(clips, first):
                    numbers = [f"{value:.9g}" for value in rows[row].tolist()]  # exact in float32
                    if raven:
                        begin = behind.place(label, start, duration)
                        cells = [
                            row + 1, "Spectrogram 1", 1, f"{begin:.6f}", f"{begin + duration:.6f}", "0.0",
                            f"{high:.1f}", label, PurePath(label).name, f"{start:.6f}",
                        ]  # fmt: skip
                    else:
                        cells = [label, round(start, 6), round(start + duration, 6)]
                    writer.writerow([*cells, *(numbers if layout.wide else [",".join(numbers)])])

    def _places(self, layout: Layout, raven: bool) -> tuple[str, ...]:
        if not raven:
            return layout.path, layout.start, layout.end
        return (
            "Selection", "View", "Channel", layout.start, layout.end, "Low Freq (Hz)", "High Freq (Hz)",
            layout.path, "Begin File", "File Offset (s)",
        )  # fmt: skip

    def _names(self, layout: Layout, raven: bool) -> list[str]:
        if layout.wide:
            return [f"{layout.prefix}{index}" for index in range(self.width)]
        return ["Embedding" if raven else "embedding"]


class _InSequence:
    """Times of clips where Raven opens the recordings of a table as one sequence, one after the other."""

    def __init__(self) -> None:
        self._path, self._begin, self._end = "", 0.0, 0.0

    def place(self, path: str, start: float, duration: float) -> float:
        """Return where in the sequence a clip begins; clips come recording by recording."""
        if path != self._path:
            self._path, self._begin = path, self._end
        begin = self._begin + start
        self._end = max(self._end, begin + duration)
        return begin


WRITERS: dict[str, NewWriter] = {
    "npz": NpzWriter, "parquet": ParquetWriter, "npy": NpyWriter, "csv": TextWriter
}  # fmt: skip


def file_names(options: EmbedOptions, unit: Unit) -> list[str]:
    """Return the names of the files that a unit may have, in any of the formats."""
    if options.format == "npz":
        return [f"{source.name}.npz" for source in unit.sources]
    if options.format == "csv":
        return _text_files("scene", unit.number, options.columns)
    return [f"{kind}-{unit.number:05d}.{options.format}" for kind in ("scene", "timestamps")]


def _text_files(kind: str, unit: int, columns: str) -> list[str]:
    """Return the names of a shard written as text, and of its index."""
    return [f"{kind}-{unit:05d}{ending}" for ending in (LAYOUTS[columns].ending, ".jsonl")]


def read_numbers(file: Path, columns: str) -> Array:
    """Return the embeddings of a table written as text, `(n, K)` float32."""
    layout = LAYOUTS[columns]
    with open(file, encoding="utf-8", newline="") as text:
        reader = csv.reader(text, delimiter=layout.separator)
        names = next(reader)
        first = len(names) - 1 if not layout.wide else names.index(layout.end) + 1
        rows = [np.array(",".join(cells[first:]).split(","), np.float32) for cells in reader]
    return np.stack(rows)


def _pieces(index: Path) -> Iterator[tuple[int, list[str], Array, Array, Array]]:
    """Yield stretches of a table from its index: the first row, and of each row path, start, duration and time (ms)."""
    paths: list[str] = []
    numbers: list[tuple[float, float, float]] = []
    first = 0
    with open(index, encoding="utf-8") as file:
        next(file)  # the settings
        for line in file:
            clip = json.loads(line)
            for row in range(clip.get("rows", 1)):
                time = clip["first_ms"] + row * clip["step_ms"] if "rows" in clip else 0.0
                paths.append(clip["path"])
                numbers.append((clip["start"], clip["duration"], time))
                if len(paths) == ROWS_AT_ONCE:
                    starts, durations, times = np.array(numbers).T
                    yield first, paths, starts, durations, times
                    first, paths, numbers = first + ROWS_AT_ONCE, [], []
    if paths:
        starts, durations, times = np.array(numbers).T
        yield first, paths, starts, durations, times
