"""An open audio file as mono samples, whatever parts and decoders it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np

from ..config import plain_number
from ..errors import AudioReadError, TruncatedAudioError, loading, shown
from .containers import Contents
from .decoder import Decoder, TooShort
from .decoders import open_decoder
from .ranges import ByteSource

# Resampling and mixing overshoot 1 a little; 16-bit values taken for float exceed this at once.
PEAK_LIMIT = 8.0


def resampled(blocks: Iterator[np.ndarray], rate: float, wanted: float) -> Iterator[np.ndarray]:
    """Bring blocks of a signal to another rate, as if they were one.

    Args:
        blocks: samples `(n,)` float32.
        rate: theirs, Hz.
        wanted: of the result, Hz.

    Yields:
        Samples `(n,)` float32, n ≥ 1; at least one where there was any.
    """
    if rate == wanted:
        yield from blocks
        return
    with loading("soxr"):
        import soxr

    resampler = soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ")
    n_in = n_out = 0
    for block in blocks:
        n_in += len(block)
        changed = resampler.resample_chunk(block, last=False)
        if len(changed):
            n_out += len(changed)
            yield np.ascontiguousarray(changed, dtype=np.float32)
    tail = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
    if n_in and not n_out and not len(tail):  # a clip too short to give the new rate one sample
        tail = np.zeros(1, np.float32)
    if len(tail):
        yield np.ascontiguousarray(tail, dtype=np.float32)


class AudioReader:
    """An open audio file: any stretch of it as mono samples at its own rate.

    Args:
        source: the file.
        contents: what it holds.
        name: what to call it in errors.
        on_truncated: see `iter_audio`.

    Attributes:
        sample_rate: Hz; of the first of the joined files where there are several.
    """

    def __init__(
        self, source: ByteSource, contents: Contents, name: str, on_truncated: Callable[[str], None] | None
    ) -> None:
        self._source, self._contents, self._name = source, contents, name
        self._on_truncated = on_truncated
        self._decoder: Decoder | None = None
        self._index, self._told = -1, False
        if contents.missing:
            self._truncated(contents.missing)
        if not contents.parts:
            raise AudioReadError(f"{name}: holds no samples")
        self.sample_rate = self._open(0).sample_rate

    @cached_property
    def n_frames(self) -> int:
        """Samples of each channel: exact, but for files of the second decoder."""
        return sum(self._length(index) for index in range(len(self._contents.parts)))

    @property
    def _length_is_exact(self) -> bool:
        """Tell whether `n_frames` is more than what a container of the second decoder states."""
        last = self._contents.parts[-1]
        return last.decoder == "soundfile" or last.n_frames is not None

    def close(self) -> None:
        """Close the file."""
        if self._decoder is not None:
            self._decoder.close()
        self._decoder = None

    def stretch(self, start: float, duration: float | None) -> tuple[int, int | None]:
        """Return first sample and number of samples of a stretch given in seconds; None for all the rest.

        Raises:
            AudioReadError: it is no stretch of this file.
        """
        begin = plain_number(start)
        length = math.inf if duration is None else plain_number(duration)
        if begin is None or length is None or not begin >= 0 or not length > 0:
            given = f"start {shown(start)} s and duration {shown(duration)} s"
            raise AudioReadError(f"{self._name}: {given}, expected ≥ 0 and > 0")
        first = begin * self.sample_rate if math.isinf(begin) else round(begin * self.sample_rate)
        if first and first >= self.n_frames and self._length_is_exact:
            seconds = self.n_frames / self.sample_rate
            raise AudioReadError(f"{self._name}: start {begin:g} s lies beyond the end, {seconds:g} s")
        return int(first), None if math.isinf(length) else max(1, round(length * self.sample_rate))

    def read(self, first: int, count: int) -> np.ndarray:
        """Return samples `(≤ count,)` float32 from one on: fewer where the file ends, never none.

        Raises:
            AudioReadError: they cannot be decoded.
        """
        return np.concatenate(list(self.blocks(first, count, count)))

    def blocks(self, first: int, count: int | None, size: int) -> Iterator[np.ndarray]:
        """Yield mono samples in blocks.

        Args:
            first: of the samples.
            count: how many; None for all the rest.
            size: most samples in a block.

        Yields:
            Samples `(n,)` float32, 1 ≤ n ≤ size.

        Raises:
            AudioReadError: they cannot be decoded; may come after some blocks.
        """
        n_out, wanted = 0, first
        last = len(self._contents.parts) - 1
        for index in range(last + 1):
            if first and index < last and first >= (length := self._length(index)):
                first -= length
                continue
            for mono in self._part_blocks(index, first, size):
                if count is not None:
                    mono = mono[: count - n_out]
                n_out += len(mono)
                yield mono
                if n_out == count:
                    return
            first = 0
        if not n_out and wanted:
            raise AudioReadError(f"{self._name}: start {wanted / self.sample_rate:g} s lies beyond the end")
        if not n_out:
            raise AudioReadError(f"{self._name}: holds no samples")

    def _part_blocks(self, index: int, first: int, size: int) -> Iterator[np.ndarray]:
        decoder = self._open(index)
        try:
            if decoder.sample_rate == self.sample_rate:
                for block in decoder.blocks(first, size):
                    yield self._mono(block)
                return
            whole = resampled(map(self._mono, decoder.blocks(0, size)), decoder.sample_rate, self.sample_rate)
            for block in whole:
                for at in range(min(first, len(block)), len(block), size):
                    yield block[at : at + size]
                first = max(0, first - len(block))
        except TooShort as error:
            self._truncated(str(error))

    def _mono(self, block: np.ndarray) -> np.ndarray:
        # Of each channel: what is no audio may cancel out in the mean.
        peak = max(float(block.max()), -float(block.min()))
        if not np.isfinite(peak):
            raise AudioReadError(f"{self._name}: holds NaN or infinite samples")
        if peak > PEAK_LIMIT:
            raise AudioReadError(f"{self._name}: samples reach {peak:.4g}; float audio must lie in [-1, 1]")
        return np.ascontiguousarray(_mean_of_channels(block), dtype=np.float32)

    def _open(self, index: int) -> Decoder:
        if index != self._index or self._decoder is None:
            self.close()
            contents = self._contents
            self._decoder = open_decoder(self._source, contents.parts[index], contents)
            self._index = index
        return self._decoder

    def _length(self, index: int) -> int:
        part = self._contents.parts[index]
        if part.n_frames is not None and len(self._contents.parts) == 1:
            return part.n_frames
        decoder = self._open(index)
        if decoder.sample_rate == self.sample_rate:
            return decoder.n_frames
        return round(decoder.n_frames * self.sample_rate / decoder.sample_rate)

    def _truncated(self, missing: str) -> None:
        if self._on_truncated is None:
            raise TruncatedAudioError(f"{self._name}: truncated: {missing}")
        if not self._told:
            self._on_truncated(missing)
        self._told = True


def _mean_of_channels(block: np.ndarray) -> np.ndarray:
    """Return the mean over the second axis of `(n, channels)`: by columns, since numpy's mean is slow there."""
    if block.shape[1] == 1:
        return block[:, 0]
    total: np.ndarray = block[:, 0] + block[:, 1]
    for channel in range(2, block.shape[1]):
        total += block[:, channel]
    total /= block.shape[1]
    return total
