"""The two decoders behind one interface: libsndfile, and FFmpeg's libraries through PyAV, which is an extra.

Each is imported only where a file needs it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from ..errors import AudioReadError
from .containers.parts import Contents, Part
from .ranges import ByteSource

INSTALL = 'pip install "hear_audiomamba[decode]"'


class Decoder(Protocol):
    """Reads one part of a file.

    Attributes:
        sample_rate: Hz.
        n_frames: samples of each channel, as far as is known before all are read.
    """

    sample_rate: int

    @property
    def n_frames(self) -> int: ...

    def blocks(self, first: int, size: int) -> Iterator[np.ndarray]:
        """Yield samples `(n, channels)` float32, 1 ≤ n ≤ size, from sample `first` to the end.

        Raises:
            AudioReadError: the audio is damaged, or ends before `n_frames`.
        """
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class TooShort(AudioReadError):
    """A decoder gave less than a part should hold."""


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
    if part.decoder == "soundfile":
        from .libsndfile import LibsndfileError, SoundfileDecoder

        try:
            return SoundfileDecoder(source, part, is_cut=bool(contents.missing))
        except LibsndfileError as error:
            # It knows the container but not each codec in it.
            if part.linear is not None or part.mpeg is not None:
                raise
            if not can_decode_media():
                raise AudioReadError(
                    f"{error.error_string} (libsndfile); the second decoder may read it: {INSTALL}"
                ) from None
    elif not can_decode_media():
        raise AudioReadError(f"{contents.kind} needs the second decoder: {INSTALL}")
    from .ffmpeg import AvDecoder

    return AvDecoder(source, part, is_cut=bool(contents.missing))
