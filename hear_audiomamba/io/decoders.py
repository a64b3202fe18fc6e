"""Which decoder reads a part: libsndfile, or FFmpeg's libraries through PyAV, which is an extra.

Each is imported only where a file needs it.
"""

from __future__ import annotations

import importlib.util

from ..errors import AudioReadError, loading
from .containers.parts import Contents, Part
from .decoder import Decoder, Undecodable
from .ranges import ByteSource

INSTALL = 'pip install "hear_audiomamba[decode]"'


def can_decode_media() -> bool:
    """Tell whether the second decoder is installed."""
    return importlib.util.find_spec("av") is not None


def load_libraries() -> None:
    """Import what decoding needs, so that no file is blamed for what the installation lacks.

    Raises:
        ImportError: a library is missing, or cannot be loaded here.
    """
    with loading("soundfile"):
        import soundfile  # noqa: F401
    with loading("soxr"):
        import soxr  # noqa: F401


def open_decoder(source: ByteSource, part: Part, contents: Contents) -> Decoder:
    """Return the decoder of a part.

    Args:
        source: the file.
        part: of it.
        contents: that it belongs to.

    Raises:
        AudioReadError: it cannot be read, or needs the second decoder, which is not installed.
        MissingPackageError: the decoder cannot be loaded here.
    """
    if part.decoder == "soundfile":
        with loading("soundfile"):
            from .libsndfile import SoundfileDecoder

        try:
            return SoundfileDecoder(source, part, is_cut=bool(contents.missing))
        except Undecodable as error:
            # It knows the container but not each codec in it.
            if part.linear is not None or part.mpeg is not None:
                raise
            if not can_decode_media():
                raise AudioReadError(
                    f"{error} (libsndfile); the second decoder may read it: {INSTALL}"
                ) from None
    elif not can_decode_media():
        raise AudioReadError(f"{contents.kind} needs the second decoder: {INSTALL}")
    with loading("av"):
        from .ffmpeg import AvDecoder

    return AvDecoder(source, part, is_cut=bool(contents.missing))
