"""Arrays of many sources with an index, `.npy` and `.jsonl`; other tables are made of them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import DataError
from ..io.files import sync
from .clips import Clip, timestamp_pieces
from .sources import Source
from .writers import Array, Mark, UnitWriter, write_header


class NpyWriter(UnitWriter):
    """Arrays `scene-00000.npy` and `timestamps-00000.npy` for `np.load(..., mmap_mode="r")`.

    Beside each lies an index, `.jsonl`: the rows of each clip, in order, and where they are in time.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._tables: dict[str, _Table] = {}

    def add(self, source: Source, clips: Sequence[Clip]) -> None:
        """Add the rows of a source to the tables."""
        for clip in clips:
            facts = {"path": source.label, "start": clip.start, "duration": self._seconds(clip)}
            if self.options.scene:
                table = self._table("scene")
                table.note({**facts, "row": table.n_rows})
                table.append(clip.scene[None])
            if self.options.timestamps:
                table = self._table("timestamps")
                first_row, pieces = table.n_rows, []
                for rows, when in timestamp_pieces(self.model, clip):
                    table.append(rows)
                    pieces.append(when)
                times = np.concatenate(pieces)
                step = float(times[1] - times[0]) if len(times) > 1 else 0.0
                grid = {"row": first_row, "rows": len(times), "first_ms": float(times[0]), "step_ms": step}
                table.note({**facts, **grid})

    def close(self) -> list[str]:
        """Complete the tables."""
        for table in self._tables.values():
            table.close()
        return [f"{kind}-{self.unit:05d}{ending}" for kind in self._tables for ending in (".npy", ".jsonl")]

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
            self._table(kind, resumed=True).cut(lengths)

    def _table(self, kind: str, resumed: bool = False) -> _Table:
        if kind not in self._tables:
            stem = self.folder / f"{kind}-{self.unit:05d}"
            self._tables[kind] = _Table(stem, self.dtype, self.width, resumed)
            if not resumed:
                self._tables[kind].note({"config": json.loads(self.provenance.to_json())})
        return self._tables[kind]


class _Table:
    """Rows in a `.npy` file, whose number is written at the end, and an index that says whose they are."""

    def __init__(self, stem: Path, dtype: np.dtype[Any], width: int, resumed: bool) -> None:
        mode = "r+b" if resumed else "w+b"
        self._rows = open(stem.with_suffix(".npy"), mode)  # noqa: SIM115 (closed in close)
        self._index = open(stem.with_suffix(".jsonl"), mode)  # noqa: SIM115
        self._dtype, self._width, self.n_rows = dtype, width, 0
        self._write_header()
        self._begin = self._rows.tell()

    def append(self, rows: Array) -> None:
        self._rows.write(np.ascontiguousarray(rows.astype(self._dtype)).tobytes())
        self.n_rows += len(rows)

    def note(self, facts: dict[str, Any]) -> None:
        self._index.write((json.dumps(facts, sort_keys=True) + "\n").encode())

    def mark(self) -> Mark:
        return {"rows": self.n_rows, "index": self._index.tell()}

    def cut(self, lengths: Mark) -> None:
        self.n_rows = lengths["rows"]
        _cut(self._rows, self._begin + self.n_rows * self._width * self._dtype.itemsize)
        _cut(self._index, lengths["index"])

    def flush(self) -> None:
        for file in (self._rows, self._index):
            file.flush()
            sync(file.name)

    def close(self) -> None:
        self._write_header()
        for file in (self._rows, self._index):
            file.close()

    def _write_header(self) -> None:
        # numpy leaves room in the header for the first axis to grow.
        self._rows.seek(0)
        write_header(self._rows, (self.n_rows, self._width), self._dtype)


def _cut(file: IO[bytes], length: int) -> None:
    if file.seek(0, os.SEEK_END) < length:
        raise DataError(f"{file.name}: shorter than its record says; use --overwrite to start again")
    file.seek(length)
    file.truncate()
