"""FFmpeg's libraries, through PyAV, as a decoder of parts of files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import av
import numpy as np
from av.codec.context import Flags2
from av.sidedata.sidedata import Type as SideDataType

from ..errors import AudioReadError
from .containers.parts import Part, check_format
from .decoder import TooShort
from .ranges import ByteSource, DecoderFile

# The length that a container states may count what encoders put around the sound: two frames and a little.
_SLACK_FRAMES = 2304
_SLACK_SECONDS = 0.01
# Containers with a table of contents; of the others FFmpeg guesses the length from the bit rate. A CAF file's
# packets were counted before, and the chunks of a WAV file measured.
_STATING = frozenset(("mov", "mp4", "matroska", "webm", "wv", "tta", "ape", "tak", "mpc", "mpc8", "ogg"))


class AvDecoder:
    """FFmpeg's decoders on a part of a file; always from its beginning, since only that is exact.

    Args:
        source: the file.
        part: of it.
        is_cut: its end is missing, so that an error only means that the end is reached.

    Attributes:
        sample_rate: see `Decoder`.
    """

    def __init__(self, source: ByteSource, part: Part, is_cut: bool = False) -> None:
        self._source, self._part, self._is_cut = source, part, is_cut
        self._container, stream = self._opened()
        if stream.codec_context is None:
            raise AudioReadError("holds audio that the second decoder does not know either")
        self.sample_rate: int = stream.codec_context.sample_rate
        check_format(stream.codec_context.layout.nb_channels, self.sample_rate)
        self._stated = _stated_seconds(self._container, stream)

    @cached_property
    def n_frames(self) -> int:
        """By the container's table of contents, which may be a little off; counted where there is none."""
        if self._part.n_frames is not None:
            return self._part.n_frames
        if self._stated is not None:
            return round(self._stated * self.sample_rate)
        return sum(len(block) for block in self.blocks(0, 1 << 16))

    def blocks(self, first: int, size: int) -> Iterator[np.ndarray]:
        """Yield samples from one on; see `Decoder`."""
        self._container.close()
        self._container, stream = self._opened()
        at, first = 0, first + self._part.skip
        end = None if self._part.n_frames is None else self._part.skip + self._part.n_frames
        interleaved = _Interleaver(self.sample_rate)
        delay = 0  # samples of the encoder's delay that are still to come
        try:
            for frame in self._container.decode(stream):
                lead, tail = _opus_padding(frame, stream) if self._is_opus else (0, 0)
                delay += lead
                for samples in interleaved(frame):
                    held = len(samples)
                    if delay or tail:
                        samples = samples[delay : max(delay, held - tail)]
                        delay = max(0, delay - held)
                    until = len(samples) if end is None else min(len(samples), end - at)
                    for start in range(max(0, first - at), until, size):
                        yield samples[start : min(start + size, until)]
                    at += len(samples)
        except av.FFmpegError as error:
            reason = f"damaged at {at / self.sample_rate:.2f} s: {error.strerror}"
            raise (TooShort if self._is_cut else AudioReadError)(reason) from None
        if self._file.error is not None:
            raise self._file.error
        self._check_length(at)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _check_length(self, decoded: int) -> None:
        part = self._part
        if part.n_frames is not None:
            least = part.skip + part.n_frames
        elif self._stated is not None:
            least = round((self._stated - _SLACK_SECONDS) * self.sample_rate) - _SLACK_FRAMES
        else:
            return
        if decoded < least:
            raise TooShort(f"{decoded} of {least} samples could be decoded")

    def _opened(self) -> tuple[Any, Any]:
        self._file = DecoderFile(self._source, self._part.pieces)
        try:
            container = av.open(self._file, metadata_errors="ignore")
        except av.FFmpegError as error:
            raise AudioReadError(f"cannot be opened: {error.strerror}") from None
        stream = next((s for s in container.streams if s.type == "audio"), None)
        if stream is None:
            container.close()
            raise AudioReadError("holds no audio")
        if stream.codec_context is None:
            container.close()
            raise AudioReadError("its codec is not known")
        names = container.format.name.split(",")
        self._is_opus = stream.codec_context.name in ("opus", "libopus") and "matroska" in names
        if self._part.n_frames is not None or self._is_opus:  # which samples are sound is found here
            stream.codec_context.flags2 |= Flags2.skip_manual
        return container, stream


class _Interleaver:
    """Frames as samples `(n, channels)` float32.

    The samples of a frame's channels are put side by side before numpy sees them: PyAV reads beyond the end of a frame
    that keeps eight channels or more apart, which ends the process.

    Args:
        sample_rate: that all frames must have, Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._kind: tuple[str, str] | None = None

    def __call__(self, frame: Any) -> Iterator[np.ndarray]:
        if frame.sample_rate != self._sample_rate:
            raise AudioReadError(
                f"its sample rate changes from {self._sample_rate} to {frame.sample_rate} Hz; split the file there"
            )
        kind = frame.format.name, frame.layout.name
        if kind != self._kind:  # a broadcast may go from one channel to two
            self._kind = kind
            self._resampler = av.AudioResampler(format="flt", rate=self._sample_rate)
        for packed in self._resampler.resample(frame):
            yield packed.to_ndarray().reshape(-1, packed.layout.nb_channels)


def _opus_padding(frame: Any, stream: Any) -> tuple[int, int]:
    """Return how many samples at the beginning and at the end of a frame of Opus in Matroska are no sound.

    FFmpeg takes the encoder's delay from the container. Files that FFmpeg 5.1 wrote have it too short there, by
    the ratio of the rate before Opus to 48 kHz. The codec's own header is right (RFC 7845, section 5.1, "pre-skip").
    """
    held = frame.side_data.get(SideDataType.SKIP_SAMPLES)
    if held is None:
        return 0, 0
    lead, tail = struct.unpack_from("<II", bytes(held))
    header = bytes(stream.codec_context.extradata or b"")
    if lead and header.startswith(b"OpusHead") and len(header) >= 12:
        (lead,) = struct.unpack_from("<H", header, 10)
    return int(lead), int(tail)


def _stated_seconds(container: Any, stream: Any) -> float | None:
    """Return the length that a container states, None where FFmpeg would only guess it from the bit rate."""
    if not _STATING & set(container.format.name.split(",")):
        return None
    if stream.duration and stream.time_base is not None:  # 0 where it was written to a pipe
        return float(stream.duration * stream.time_base)
    if container.duration is None or len(container.streams) > 1:
        return None  # the picture may last longer than the sound
    # In Matroska the length is counted from 0, wherever the sound begins.
    late = stream.start_time * stream.time_base if stream.start_time and stream.time_base else 0
    return max(0.0, float(container.duration / av.time_base - late))
