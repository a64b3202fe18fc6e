"""The two decoders behind one interface: libsndfile, and FFmpeg's libraries through PyAV, which is an extra.

PyAV is imported only where a file needs it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from ..errors import AudioReadError
from .containers.mpeg import frames_from
from .containers.parts import Contents, Part, check_format
from .ranges import ByteSource, JoinedPieces, Piece

INSTALL = 'pip install "hear_audiomamba[decode]"'
# Where a decoder of the second kind says how long a file is, it may be off by a packet or two.
_LENGTH_SLACK = 0.25
_SKIP_BLOCK = 1 << 16
_CAREFUL_BLOCK = 1 << 9


class Decoder(Protocol):
    """Reads one part of a file.

    Attributes:
        sample_rate: Hz.
        n_frames: samples of each channel, as far as is known before all are read.
    """

    sample_rate: int
    n_frames: int

    def blocks(self, first: int, size: int) -> Iterator[np.ndarray]:
        """Yield samples `(n, channels)` float32, 1 ≤ n ≤ size, from sample `first` to the end.

        Raises:
            AudioReadError: the audio is damaged, or ends before `n_frames`.
        """
        ...

    def close(self) -> None:
        """Let the file go."""
        ...


def can_decode_media() -> bool:
    """Tell whether the second decoder is installed."""
    return importlib.util.find_spec("av") is not None


def open_decoder(source: ByteSource, part: Part, contents: Contents) -> Decoder:
    """Return the decoder of a part.

    Args:
        source: the file.
        part: of it.
        contents: that it belongs to.

    Raises:
        AudioReadError: it cannot be read, or needs the second decoder, which is not installed.
    """
    is_cut = bool(contents.missing)
    if part.decoder == "av":
        return AvDecoder(source, part, contents.kind)
    if part.linear is not None or part.mpeg is not None:
        return SoundfileDecoder(source, part, is_cut)
    import soundfile

    try:
        return SoundfileDecoder(source, part, is_cut)
    except soundfile.LibsndfileError:
        # It knows the container but not each codec in it.
        if contents.kind and can_decode_media():
            return AvDecoder(source, part, contents.kind)
        raise


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
        """Let the file go."""
        self._sound.close()

    def _opened(self, pieces: tuple[Piece, ...]) -> tuple[JoinedPieces, Any]:
        import soundfile

        file = JoinedPieces(self._source, pieces)
        linear = self._part.linear
        if linear is None:
            return file, soundfile.SoundFile(file)
        return file, soundfile.SoundFile(
            file, format="RAW", subtype=linear.subtype, endian="BIG" if linear.big_endian else "LITTLE",
            channels=linear.channels, samplerate=linear.sample_rate,
        )  # fmt: skip

    def _go_to(self, first: int) -> int:
        """Go to a sample or some way ahead of it; return how many samples ahead."""
        part = self._part
        if part.mpeg is not None:
            pieces, surplus = frames_from(part, first)
            self._sound.close()
            self._file, self._sound = self._opened(pieces)
            return surplus
        if part.exact_seek and self._sound.seekable():
            if self._sound.tell() != first:
                self._sound.seek(first)
            return 0
        self._sound.close()
        self._file, self._sound = self._opened(part.pieces)
        return first

    def _read(self, count: int, at: int) -> np.ndarray:
        import soundfile

        try:
            block: np.ndarray = self._sound.read(count, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            if not self._is_cut:
                raise
            block = np.zeros((0, 1), np.float32)
        if self._file.error is not None:
            raise self._file.error
        if not len(block):
            raise TooShort(f"{at} of {self.n_frames} samples could be decoded")
        return block


class AvDecoder:
    """FFmpeg's decoders on a part of a file; always from its beginning, since only that is exact.

    Args:
        source: the file.
        part: of it.
        kind: its container, for errors.

    Attributes:
        sample_rate: see `Decoder`.
        n_frames: by the container's table of contents; the audio itself may end a little before or after.
    """

    def __init__(self, source: ByteSource, part: Part, kind: str) -> None:
        if not can_decode_media():
            raise AudioReadError(f"{kind} needs the second decoder: {INSTALL}")
        self._source, self._part = source, part
        self._container, stream = self._opened()
        self.sample_rate: int = stream.codec_context.sample_rate
        check_format(stream.codec_context.layout.nb_channels, self.sample_rate)
        seconds = _stated_seconds(self._container, stream)
        self._stated = seconds
        self.n_frames = round((seconds or 0.0) * self.sample_rate)

    def blocks(self, first: int, size: int) -> Iterator[np.ndarray]:
        """Yield samples from one on; see `Decoder`."""
        import av

        self._container.close()
        self._container, stream = self._opened()
        at = 0
        resampler = av.AudioResampler(format="fltp", rate=self.sample_rate)
        try:
            for frame in self._container.decode(stream):
                for plain in resampler.resample(frame):
                    samples = np.ascontiguousarray(plain.to_ndarray().T, dtype=np.float32)
                    for start in range(max(0, first - at), len(samples), size):
                        yield samples[start : start + size]
                    at += len(samples)
        except av.FFmpegError as error:
            raise AudioReadError(f"damaged at {at / self.sample_rate:.2f} s: {error.strerror}") from None
        if self._file.error is not None:
            raise self._file.error
        if self._stated is not None and at < (self._stated - _LENGTH_SLACK) * self.sample_rate:
            raise TooShort(f"{at / self.sample_rate:.2f} of {self._stated:.2f} s could be decoded")

    def close(self) -> None:
        """Let the file go."""
        self._container.close()

    def _opened(self) -> tuple[Any, Any]:
        import av

        self._file = JoinedPieces(self._source, self._part.pieces)
        try:
            container = av.open(self._file, metadata_errors="ignore")
        except av.FFmpegError as error:
            raise AudioReadError(f"cannot be opened: {error.strerror}") from None
        stream = next((s for s in container.streams if s.type == "audio"), None)
        if stream is None:
            container.close()
            raise AudioReadError("holds no audio")
        return container, stream


class TooShort(AudioReadError):
    """A decoder gave less than a part should hold."""


def _stated_seconds(container: Any, stream: Any) -> float | None:
    """Return the length that a container states, None where FFmpeg would only guess it from the bit rate."""
    import av

    if stream.duration is not None and stream.time_base is not None and container.format.name != "aac":
        return float(stream.duration * stream.time_base)
    if container.format.name in ("matroska,webm", "asf", "avi") and container.duration is not None:
        return float(container.duration / av.time_base)
    return None
