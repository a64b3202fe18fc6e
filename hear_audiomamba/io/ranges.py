"""Bytes of a file at any place, and stretches of them joined into a file of their own."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, BinaryIO, NamedTuple

_WINDOW = 1 << 16
_FIRST_SEARCH, _SEARCH = 1 << 10, 1 << 20


class Span(NamedTuple):
    """Bytes `start` to `end` of a file, the last one not included."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """How many bytes."""
        return self.end - self.start


class Zeros(NamedTuple):
    """That many zero bytes."""

    size: int


Piece = bytes | Span | Zeros


class ByteSource:
    """Random access to the bytes of an open file, quick for small steps forward.

    Args:
        file: open for reading, seekable; read from its first byte, whatever its position.

    Attributes:
        size: of the file, bytes, when it was opened.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, io.SEEK_END)
        self._window = b""
        self._window_at = 0

    def at(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset`, fewer where the file ends before."""
        if count <= 0 or not 0 <= offset < self.size:
            return b""
        first = offset - self._window_at
        if first < 0 or first + count > len(self._window):
            if count > _WINDOW // 2:
                return self._read(offset, count)
            self._window, self._window_at, first = self._read(offset, _WINDOW), offset, 0
        return self._window[first : first + count]

    def find(self, pattern: bytes, start: int, end: int | None = None) -> int:
        """Return where `pattern` next begins at or behind `start`, -1 for nowhere before `end`."""
        end = self.size if end is None else min(end, self.size)
        at, step = start, _FIRST_SEARCH
        while at + len(pattern) <= end:
            block = self.at(at, min(step, end - at))
            found = block.find(pattern)
            if found >= 0:
                return at + found
            if len(block) < len(pattern):
                return -1
            at += len(block) - len(pattern) + 1
            step = min(4 * step, _SEARCH)  # what is looked for is often near, and else far
        return -1

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from `start` to `end`, some at a time."""
        while start < end:
            block = self._read(start, min(_SEARCH, end - start))
            if not block:
                return
            yield block
            start += len(block)

    def _read(self, offset: int, count: int) -> bytes:
        self._file.seek(offset)
        parts = []
        while count > 0:  # an unbuffered file may give less than asked for
            part = self._file.read(count)
            if not part:
                break
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


class JoinedPieces(io.RawIOBase):
    """A read-only file made of pieces: given bytes, stretches of a source, zeros.

    Args:
        source: that the spans are of.
        pieces: what the file holds, one behind the other.

    Attributes:
        size: how many bytes it holds.
    """

    def __init__(self, source: ByteSource, pieces: Sequence[Piece]) -> None:
        super().__init__()
        self._source, self._pieces = source, pieces
        sizes = [len(piece) if isinstance(piece, bytes) else piece.size for piece in pieces]
        self._starts = [0, *accumulate(sizes)]
        self.size = self._starts[-1]
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position, which is returned."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the position on; return how many bytes there were."""
        view = memoryview(buffer).cast("B")
        wanted, filled = len(view), 0
        while filled < wanted and self._at < self.size:
            part = self._part(wanted - filled)
            if not part:
                break
            view[filled : filled + len(part)] = part
            filled += len(part)
            self._at += len(part)
        return filled

    def _part(self, count: int) -> bytes:
        """Return up to `count` bytes from the position on, all of one piece."""
        index = bisect_right(self._starts, self._at) - 1
        inside = self._at - self._starts[index]
        count = min(count, self._starts[index + 1] - self._at)
        piece = self._pieces[index]
        if isinstance(piece, Span):
            return self._source.at(piece.start + inside, count)
        if isinstance(piece, Zeros):
            return bytes(count)
        return piece[inside : inside + count]


class DecoderFile(JoinedPieces):
    """Pieces for a decoder written in C, which no exception may pass through.

    Attributes:
        error: what went wrong while the source was read; the decoder only sees the file end there.
    """

    error: OSError | None = None

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the position on; return how many bytes there were."""
        try:
            return super().readinto(buffer)
        except OSError as error:
            self.error = error
            return 0
