"""libsndfile as a decoder of parts of files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import soundfile
from soundfile import LibsndfileError

from .containers.mpeg import frames_from
from .containers.parts import Part, check_format
from .decoder import TooShort, Undecodable
from .ranges import ByteSource, DecoderFile, Piece

_SKIP_BLOCK = 1 << 16
_CAREFUL_BLOCK = 1 << 9


class _Sound(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A SoundFile that stays where a read has left it.

    The base class seeks to that place behind every read, and seeking is inexact in MP3 and Vorbis, so that
    blocks put together would not be the whole.
    """

    def seekable(self) -> bool:
        return False

    def can_seek(self) -> bool:
        return bool(super().seekable())


class SoundfileDecoder:
    """libsndfile on a part of a file.

    Args:
        source: the file.
        part: of it.
        is_cut: its end is missing, so that an error only means that the end is reached.

    Attributes:
        sample_rate, n_frames: see `Decoder`.
    """

    def __init__(self, source: ByteSource, part: Part, is_cut: bool = False) -> None:
        self._source, self._part, self._is_cut = source, part, is_cut
        self._file, self._sound = self._opened(part.pieces)
        self.sample_rate: int = self._sound.samplerate
        check_format(self._sound.channels, self.sample_rate)
        self.n_frames = self._sound.frames if part.n_frames is None else part.n_frames

    def blocks(self, first: int, size: int) -> Iterator[np.ndarray]:
        """Yield samples from one on; see `Decoder`."""
        surplus = self._go_to(first)
        while surplus:
            block = self._read(min(surplus, _SKIP_BLOCK), first)
            surplus -= len(block)
        at = first
        if self._is_cut:  # an error takes all that was read with it, so little is read at once
            size = min(size, _CAREFUL_BLOCK)
        while at < self.n_frames:
            block = self._read(min(size, self.n_frames - at), at)
            at += len(block)
            yield block

    def close(self) -> None:
        """Close the file."""
        self._sound.close()

    def _opened(self, pieces: tuple[Piece, ...]) -> tuple[DecoderFile, _Sound]:
        file = DecoderFile(self._source, pieces)
        linear = self._part.linear
        with _typed_errors():
            if linear is None:
                return file, _Sound(file)
            return file, _Sound(
                file, format="RAW", subtype=linear.subtype, endian="BIG" if linear.big_endian else "LITTLE",
                channels=linear.channels, samplerate=linear.sample_rate,
            )  # fmt: skip

    def _go_to(self, first: int) -> int:
        """Go to a sample or some way ahead of it; return how many samples ahead."""
        part = self._part
        if part.mpeg is not None:
            pieces, surplus = frames_from(self._source, part, first)
            if pieces is not part.pieces or self._sound.tell():
                self._sound.close()
                self._file, self._sound = self._opened(pieces)
            return surplus
        if part.exact_seek and self._sound.can_seek():
            if self._sound.tell() != first:
                with _typed_errors():
                    self._sound.seek(first)
            return 0
        self._sound.close()
        self._file, self._sound = self._opened(part.pieces)
        return first

    def _read(self, count: int, at: int) -> np.ndarray:
        block: np.ndarray
        try:
            with _typed_errors():
                block = self._sound.read(count, dtype="float32", always_2d=True)
        except Undecodable:
            if not self._is_cut:
                raise
            block = np.zeros((0, 1), np.float32)
        if self._file.error is not None:
            raise self._file.error
        if not len(block):
            raise TooShort(f"{at} of {self.n_frames} samples could be decoded")
        return block


@contextmanager
def _typed_errors() -> Iterator[None]:
    try:
        yield
    except LibsndfileError as error:
        raise Undecodable(" ".join(error.error_string.split())) from None
