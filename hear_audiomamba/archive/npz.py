"""One `.npz` file for each source."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .clips import Clip, timestamp_pieces
from .sources import Source
from .writers import Array, Mark, UnitWriter, write_header


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
        """Continue with the next source's file."""

    def _store_all(self, archive: zipfile.ZipFile, clips: Sequence[Clip]) -> None:
        scenes = (clip.scene.astype(self.dtype) for clip in clips)
        starts = np.array([clip.start for clip in clips], dtype=np.float64)
        durations = np.array([self._seconds(clip) for clip in clips], dtype=np.float64)
        if self.options.segment_seconds is not None:
            _store_rows(archive, "scene", scenes, (len(clips), self.width), self.dtype)
        else:
            starts, durations = starts[0], durations[0]
            if self.options.scene:
                _store(archive, "scene", next(scenes))
        _store(archive, "start", np.asarray(starts))
        _store(archive, "duration", np.asarray(durations))
        if self.options.timestamps:
            # Zip members are written one after the other; the times are small, the embeddings need not be.
            rows = clips[0].rows
            assert rows is not None, "options.timestamps keeps the rows"
            n_times = len(self.model.timestamp_grid(clips[0].n_samples, len(rows)).times)
            times: list[Array] = []
            pieces = self._rows(clips[0], times)
            _store_rows(archive, "embeddings", pieces, (n_times, self.width), self.dtype)
            _store(archive, "timestamps", np.concatenate(times).astype(np.float32))
        _store(archive, "config", np.array(self.provenance.to_json()))

    def _rows(self, clip: Clip, times: list[Array]) -> Iterator[Array]:
        for rows, when in timestamp_pieces(self.model, clip):
            times.append(when)
            yield rows.astype(self.dtype)


def _store(archive: zipfile.ZipFile, name: str, array: Array) -> None:
    _store_rows(archive, name, [array], array.shape, array.dtype)


def _store_rows(
    archive: zipfile.ZipFile, name: str, pieces: Iterable[Array], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    """Write an array to a zip archive piece by piece, as `np.savez` would."""
    # A ZipInfo made from a name alone has a fixed date, so that the bytes do not depend on the clock.
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
        write_header(member, shape, dtype)
        for piece in pieces:
            member.write(piece.tobytes())
