"""A source to blocks of samples: what decoding processes run. Must not load torch."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from ..errors import AudioReadError
from ..io.audio import BLOCK_SECONDS, iter_audio
from .sources import Source


@dataclass(frozen=True)
class DecodeSettings:
    """What a decoder has to know.

    Attributes:
        sample_rate: of the blocks, Hz.
        segment_seconds: cut every source into clips of this length; None leaves it whole.
    """

    sample_rate: int
    segment_seconds: float | None = None


class Block(NamedTuple):
    """Consecutive samples of a clip.

    Attributes:
        samples: `(n,)` float32.
        start: the clip's first sample, counted from the source's.
        last: the clip ends here.
    """

    samples: np.ndarray
    start: int
    last: bool


def decode_source(source: Source, settings: DecodeSettings) -> Iterator[Block]:
    """Decode one source.

    Args:
        source: what to decode.
        settings: how.

    Yields:
        The blocks of its clips, in order.

    Raises:
        AudioReadError: the source cannot be decoded; may come after some blocks.
    """
    if settings.segment_seconds is not None:
        yield from _segments(
            _blocks(source, settings), round(settings.segment_seconds * settings.sample_rate)
        )
    else:
        yield from _marked(_blocks(source, settings))


def _blocks(source: Source, settings: DecodeSettings) -> Iterator[np.ndarray]:
    def decode(file: str | BinaryIO) -> Iterator[np.ndarray]:
        return iter_audio(
            file, settings.sample_rate, start=source.start, duration=source.duration,
            block_seconds=BLOCK_SECONDS, name=source.label,
        )  # fmt: skip

    if source.member is None:
        yield from decode(source.path)
        return
    try:
        with open(source.path, "rb") as archive:
            yield from decode(cast(BinaryIO, _Slice(archive, source.offset, source.size)))
    except OSError as error:
        raise AudioReadError(f"{source.label}: {error.strerror}") from None


def _marked(blocks: Iterator[np.ndarray]) -> Iterator[Block]:
    """Tell the last block from the others by holding each one back until the next is there."""
    held = None
    for samples in blocks:
        if held is not None:
            yield Block(held, 0, False)
        held = samples
    if held is not None:
        yield Block(held, 0, True)


def _segments(blocks: Iterator[np.ndarray], size: int) -> Iterator[Block]:
    kept: list[np.ndarray] = []
    n_kept = start = 0
    for samples in blocks:
        kept.append(samples)
        n_kept += len(samples)
        if n_kept < size:
            continue
        joined = np.concatenate(kept)
        n_whole = n_kept // size
        for index in range(n_whole):
            yield Block(joined[index * size : (index + 1) * size], start, True)
            start += size
        kept, n_kept = [joined[n_whole * size :]], n_kept - n_whole * size
    if n_kept:
        yield Block(np.concatenate(kept), start, True)


class _Slice(io.RawIOBase):
    """A stretch of an open file as a read-only file of its own."""

    def __init__(self, file: io.BufferedReader, offset: int, size: int) -> None:
        super().__init__()
        self._file, self._offset, self._size, self._at = file, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer) -> int:
        view = memoryview(buffer).cast("B")
        n = max(0, min(len(view), self._size - self._at))
        self._file.seek(self._offset + self._at)
        data = self._file.read(n)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
