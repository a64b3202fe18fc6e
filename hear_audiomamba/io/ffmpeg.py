"""FFmpeg's libraries, through PyAV, as a decoder of parts of files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from ..errors import AudioReadError
from .containers.parts import Part, check_format
from .decoders import TooShort
from .ranges import ByteSource, DecoderFile

# Where a container says how long it is, it may be off by a packet or two.
_LENGTH_SLACK = 0.25


class AvDecoder:
    """FFmpeg's decoders on a part of a file; always from its beginning, since only that is exact.

    Args:
        source: the file.
        part: of it.

    Attributes:
        sample_rate: see `Decoder`.
        n_frames: by the container's table of contents; the audio itself may end a little before or after.
    """

    def __init__(self, source: ByteSource, part: Part) -> None:
        self._source, self._part = source, part
        self._container, stream = self._opened()
        self.sample_rate: int = stream.codec_context.sample_rate
        check_format(stream.codec_context.layout.nb_channels, self.sample_rate)
        seconds = _stated_seconds(self._container, stream)
        self._stated = seconds
        self.n_frames = round((seconds or 0.0) * self.sample_rate)

    def blocks(self, first: int, size: int) -> Iterator[np.ndarray]:
        """Yield samples from one on; see `Decoder`."""
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
        self._file = DecoderFile(self._source, self._part.pieces)
        try:
            container = av.open(self._file, metadata_errors="ignore")
        except av.FFmpegError as error:
            raise AudioReadError(f"cannot be opened: {error.strerror}") from None
        stream = next((s for s in container.streams if s.type == "audio"), None)
        if stream is None:
            container.close()
            raise AudioReadError("holds no audio")
        return container, stream


def _stated_seconds(container: Any, stream: Any) -> float | None:
    """Return the length that a container states, None where FFmpeg would only guess it from the bit rate."""
    if stream.duration is not None and stream.time_base is not None and container.format.name != "aac":
        return float(stream.duration * stream.time_base)
    if container.format.name in ("matroska,webm", "asf", "avi") and container.duration is not None:
        return float(container.duration / av.time_base)
    return None
