"""One source on its way through the run: its clips, their windows, what came back of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np
import torch
from torch import Tensor

from ..embedding.embedder import AudioEmbedder
from ..embedding.windows import Window, WindowCutter
from ..frontends.stream import RunningStatistics, SpectrogramStream
from .decode import Block
from .encode import Encoded
from .options import WHOLE_SECONDS, EmbedOptions
from .windows import WindowBatcher

SPILL_BYTES = 64 << 20
TIMESTAMPS_AT_ONCE = 1024


class RowStore:
    """Rows in time order: in memory, and in a temporary file where they are many.

    Args:
        folder: where the temporary file may be.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pieces: list[np.ndarray] = []
        self._n_bytes = 0
        self._file: IO[bytes] | None = None
        self._n_rows, self._width = 0, 0

    def __len__(self) -> int:
        return self._n_rows

    def append(self, rows: np.ndarray) -> None:
        """Add rows `(n, K)` float32."""
        self._n_rows += len(rows)
        self._width = rows.shape[1]
        self._pieces.append(rows)
        self._n_bytes += rows.nbytes
        if self._n_bytes > SPILL_BYTES:
            self._spill()

    def read(self, first: int, last: int) -> np.ndarray:
        """Return rows `first` to `last`, the last one not included, `(last − first, K)`."""
        if self._file is None:
            if len(self._pieces) > 1:
                self._pieces = [np.concatenate(self._pieces)]
            return self._pieces[0][first:last]
        if self._pieces:
            self._spill()
        # Read, not mapped: the pages of a mapped file would count as this process's memory.
        self._file.seek(first * self._width * 4)
        data = self._file.read((last - first) * self._width * 4)
        return np.frombuffer(data, np.float32).reshape(-1, self._width)

    def _spill(self) -> None:
        if self._file is None:
            self._file = TemporaryFile(dir=self._folder)  # noqa: SIM115
        self._file.seek(0, os.SEEK_END)
        for piece in self._pieces:
            self._file.write(np.ascontiguousarray(piece).tobytes())
        self._pieces, self._n_bytes = [], 0


class Clip:
    """A stretch of audio with an embedding of its own.

    Attributes:
        start: seconds from the file's beginning.
        n_samples: its length; known when it has been read.
        rows: the encoder's rows, where timestamps are wanted.
    """

    def __init__(self, start: float, rows: RowStore | None) -> None:
        self.start, self.rows = start, rows
        self.n_samples = 0
        self.n_rows = 0
        self.windows_out = 0
        self._total: np.ndarray | None = None
        self._largest: np.ndarray | None = None
        self._scene: np.ndarray | None = None

    def receive(self, encoded: Encoded) -> None:
        """Take the clip's next window from the encoder."""
        self.windows_out -= 1
        total = encoded.total.double().numpy()
        self._total = total if self._total is None else self._total + total
        if encoded.largest is not None:
            largest = encoded.largest.numpy()
            self._largest = largest if self._largest is None else np.maximum(self._largest, largest)
        if self.rows is not None and encoded.rows is not None:
            self.rows.append(encoded.rows.numpy())

    @property
    def scene(self) -> np.ndarray:
        """All rows, pooled, `(K,)` float32."""
        if self._scene is not None:
            return self._scene
        assert self._total is not None, "a clip has at least one window"
        mean: np.ndarray = self._total / self.n_rows
        return (mean if self._largest is None else mean + self._largest).astype(np.float32)

    def fill(self, scene: Tensor, rows: Tensor | None) -> None:
        """Take embeddings computed elsewhere."""
        self._scene = scene.cpu().numpy()
        if self.rows is not None and rows is not None:
            self.rows.append(rows.cpu().numpy())


class SourceJob:
    """A source whose blocks are fed in and whose clips are waited for.

    Args:
        model: for features and the cutting of windows.
        options: of the run.
        batcher: takes the windows.
        folder: for temporary files.
        start: seconds from the file's beginning to the source's.
    """

    def __init__(
        self, model: AudioEmbedder, options: EmbedOptions, batcher: WindowBatcher, folder: Path, start: float
    ) -> None:
        self._model, self._options, self._batcher, self._folder = model, options, batcher, folder
        self._start = start
        self._by_clip = options.normalize == "clip" and model.features.clip_normalized
        self.clips: list[Clip] = []
        self.missing = ""
        self._kept: list[Tensor] = []
        self._long: _LongClip | None = None

    @property
    def done(self) -> bool:
        """All windows are back from the encoder."""
        return all(clip.windows_out == 0 for clip in self.clips)

    @property
    def seconds(self) -> float:
        """Length of the audio read, seconds."""
        return sum(clip.n_samples for clip in self.clips) / self._model.sample_rate

    @torch.inference_mode()
    def feed(self, block: Block) -> None:
        """Take the next block."""
        model = self._model
        if not self._kept and self._long is None:
            rows = RowStore(self._folder) if self._options.timestamps else None
            self.clips.append(Clip(self._start + block.start / model.sample_rate, rows))
        self.missing = self.missing or block.missing
        clip = self.clips[-1]
        samples = torch.from_numpy(block.samples).to(model.device)
        clip.n_samples += len(samples)
        self._kept.append(samples)
        if self._long is None and model.compat is None and clip.n_samples > WHOLE_SECONDS * model.sample_rate:
            self._long = _LongClip(model, self._by_clip, self._folder)
        if self._long is not None:
            for kept in self._kept:
                self._add(clip, self._long.feed(kept))
            self._kept = []
            if block.last:
                self._add(clip, self._long.end())
                self._long = None
        elif block.last:
            self._whole(clip, torch.cat(self._kept))
            self._kept = []

    def _whole(self, clip: Clip, samples: Tensor) -> None:
        model = self._model
        if model.compat is not None:
            rows = model.timestamps(samples[None])[0][0] if clip.rows is not None else None
            clip.fill(model.scene(samples[None])[0], rows)
            return
        cutter = WindowCutter(model.plan)
        if self._options.normalize == "clip" or not model.features.clip_normalized:
            frames = model.features(samples[None])[0]
        else:
            cutter = WindowCutter(model.plan, _by_itself)
            frames = model.features.log_mel(samples[None])[0]
        self._add(clip, [*cutter.push(frames, 0), *cutter.finish(len(samples))])

    def _add(self, clip: Clip, windows: Iterable[Window]) -> None:
        for window in windows:
            clip.windows_out += 1
            clip.n_rows += window.n_rows
            self._batcher.add(window, clip)


class _LongClip:
    """A clip too long to be kept: its blocks become frames, and these windows as soon as they may.

    Where the statistics of the whole clip count, the frames wait in a `RowStore` until it ends.
    """

    PIECE = 4096

    def __init__(self, model: AudioEmbedder, by_clip: bool, folder: Path) -> None:
        self._model, self._by_clip = model, by_clip
        self._statistics, self._waiting = RunningStatistics(), RowStore(folder)
        self._stream = SpectrogramStream(model.features)
        by_window = not by_clip and model.features.clip_normalized
        self._cutter = WindowCutter(model.plan, _by_itself if by_window else None)

    def feed(self, samples: Tensor) -> list[Window]:
        return self._take(self._stream.push(samples))

    def end(self) -> Iterator[Window]:
        yield from self._take(self._stream.finish())
        n_samples = self._stream.n_samples
        for first in range(0, len(self._waiting), self.PIECE):
            rows = self._waiting.read(first, min(first + self.PIECE, len(self._waiting)))
            frames = torch.tensor(rows, device=self._model.device)
            yield from self._cutter.push(self._statistics.normalize(frames), n_samples)
        yield from self._cutter.finish(n_samples)

    def _take(self, frames: Tensor) -> list[Window]:
        if not self._by_clip:
            return self._cutter.push(frames, self._stream.n_samples)
        if len(frames):
            self._statistics.update(frames)
            self._waiting.append(frames.cpu().numpy())
        return []


def _by_itself(frames: Tensor) -> Tensor:
    statistics = RunningStatistics()
    statistics.update(frames)
    return statistics.normalize(frames)


def timestamp_pieces(model: AudioEmbedder, clip: Clip) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield a clip's timestamp embeddings `(n, K)` float32 and their times `(n,)` in ms, some at a time."""
    rows = clip.rows
    assert rows is not None  # kept where timestamps are wanted
    pieces = model.timestamp_pieces(
        lambda first, last: torch.tensor(rows.read(first, last)),
        len(rows),
        clip.n_samples,
        TIMESTAMPS_AT_ONCE,
    )
    for embeddings, times in pieces:
        yield embeddings.numpy(), times
