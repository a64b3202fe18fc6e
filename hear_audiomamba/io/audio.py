"""Audio files to mono float32 samples at a model's rate, whole or block by block.

One rule for every container and every way in: all the audio of a file is decoded, or there is an error
that says what is missing. `containers` follows a file's structure to its end, `decoders` read its parts.

Light on purpose: decoding processes import this file and must not load torch.
"""

from __future__ import annotations

import math
import os
import stat
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO, Protocol, cast, runtime_checkable

import numpy as np

from ..config import check_number, plain_number
from ..errors import AudioReadError, InputError, one_line, shown
from .containers import MEDIA_EXTENSIONS, Contents, examine
from .containers.parts import MAX_SAMPLE_RATE
from .decoders import can_decode_media
from .ranges import ByteSource
from .reader import PEAK_LIMIT, AudioReader, resampled

# What a folder is searched for; a file named by the user is tried whatever its ending.
AUDIO_EXTENSIONS = frozenset({
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp1", ".mp2", ".mp3", ".oga", ".ogg", ".opus", ".rf64",
    ".snd", ".w64", ".wav", ".wave",
})  # fmt: skip
BLOCK_SECONDS = 30.0

__all__ = [
    "AUDIO_EXTENSIONS", "BLOCK_SECONDS", "MAX_SAMPLE_RATE", "MEDIA_EXTENSIONS", "PEAK_LIMIT", "AudioFile",
    "AudioReader", "duration_of", "iter_audio", "load_audio", "open_audio", "readable_extensions", "resampled",
]  # fmt: skip

AudioFile = str | os.PathLike[str] | BinaryIO


@runtime_checkable
class _OpenFile(Protocol):
    """What is asked of an open binary file before anything is read."""

    def seekable(self) -> bool: ...

    def read(self, size: int = -1, /) -> bytes: ...


@cache
def readable_extensions() -> frozenset[str]:
    """Return the endings of files that can be read here: more of them with the extra `decode`."""
    return AUDIO_EXTENSIONS | MEDIA_EXTENSIONS if can_decode_media() else AUDIO_EXTENSIONS


def load_audio(
    file: AudioFile,
    sample_rate: int,
    *,
    start: float = 0.0,
    duration: float | None = None,
    name: str | None = None,
) -> np.ndarray:
    """Decode audio to mono at a given rate.

    Args:
        file: a path, or an open binary file; one that cannot seek is copied to a temporary file first.
        sample_rate: of the result, Hz.
        start: where to begin, seconds.
        duration: how much to read, seconds; None for all the rest.
        name: what to call the file in errors; its path by default.

    Returns:
        Samples `(S,)` float32, S ≥ 1: the mean of the channels, resampled with soxr's high quality.

    Raises:
        TruncatedAudioError: the file does not hold all the audio that it should; says what is missing.
        AudioReadError: the file cannot be decoded; says which file and why.
    """
    return np.concatenate(list(iter_audio(file, sample_rate, start=start, duration=duration, name=name)))


def iter_audio(
    file: AudioFile,
    sample_rate: int,
    *,
    start: float = 0.0,
    duration: float | None = None,
    block_seconds: float = BLOCK_SECONDS,
    name: str | None = None,
    on_truncated: Callable[[str], None] | None = None,
) -> Iterator[np.ndarray]:
    """Decode audio block by block; the blocks put together are what `load_audio` returns.

    Args:
        file: a path, or an open binary file; one that cannot seek is copied to a temporary file first.
        sample_rate: of the result, Hz.
        start: where to begin, seconds.
        duration: how much to read, seconds; None for all the rest.
        block_seconds: length of the pieces decoded at once; bounds memory.
        name: what to call the file in errors; its path by default.
        on_truncated: called with what is missing where audio is missing; what is there is then given. By
            default that is an error.

    Yields:
        Samples `(n,)` float32, n ≥ 1.

    Raises:
        TruncatedAudioError: the file does not hold all the audio that it should; may come after some blocks.
        AudioReadError: the file cannot be decoded; may come after some blocks.
        InputError: the rate or the length of blocks is no positive number.
    """
    wanted = plain_number(sample_rate)
    if wanted is None or not 0 < wanted <= MAX_SAMPLE_RATE:
        raise InputError(f"sample_rate: {shown(sample_rate)} is not a number of samples a second")
    pieces = check_number(block_seconds, "block_seconds", "a positive number of seconds", InputError)
    if not 0 < pieces < math.inf:
        raise InputError(f"block_seconds: {shown(block_seconds)} is not a positive number of seconds")
    with open_audio(file, name=name, on_truncated=on_truncated) as reader:
        first, count = reader.stretch(start, duration)
        yield from resampled(
            reader.blocks(first, count, max(1, round(pieces * reader.sample_rate))),
            reader.sample_rate,
            wanted,
        )


@contextmanager
def open_audio(
    file: AudioFile,
    *,
    name: str | None = None,
    on_truncated: Callable[[str], None] | None = None,
) -> Iterator[AudioReader]:
    """Open an audio file.

    Args:
        file: a path, or an open binary file; one that cannot seek is copied to a temporary file first.
        name: what to call the file in errors; its path by default.
        on_truncated: see `iter_audio`.

    Yields:
        The reader, closed at the end.

    Raises:
        TruncatedAudioError: the file does not hold all the audio that it should; says what is missing.
        AudioReadError: the file cannot be decoded; also for whatever goes wrong while it is open.
        InputError: neither a path nor an open file.
    """
    is_path = isinstance(file, (str, os.PathLike))
    if not is_path and not isinstance(file, _OpenFile):
        raise InputError(f"audio: {shown(file)} is neither a path nor an open binary file")
    name = name or str(file if is_path else getattr(file, "name", file))
    with _typed_errors(name), _opened(file, name) as (raw, key):
        source = ByteSource(raw)
        if source.size == 0:
            raise AudioReadError(f"{name}: the file is empty (0 bytes)")
        reader = AudioReader(source, _examined(source, name, key), name, on_truncated)
        try:
            yield reader
        finally:
            reader.close()


def duration_of(file: AudioFile) -> float:
    """Return how long a file is, seconds, by its structure and not only by its header.

    Raises:
        AudioReadError: the file cannot be read.
    """
    with open_audio(file) as reader:
        return reader.n_frames / reader.sample_rate


@contextmanager
def _typed_errors(name: str) -> Iterator[None]:
    """Give whatever the libraries raise for bad data the one type that callers wait for, and the file's name."""
    try:
        yield
    except AudioReadError as error:
        if str(error).startswith(f"{name}: "):
            raise
        raise type(error)(f"{name}: {error}") from None
    except FileNotFoundError:
        raise AudioReadError(f"{name}: no such file") from None
    except PermissionError:
        raise AudioReadError(f"{name}: permission denied") from None
    except MemoryError:
        raise AudioReadError(f"{name}: its header asks for more memory than there is") from None
    # What soxr, cffi and PyAV raise for data that they cannot use.
    except (OSError, RuntimeError, TypeError, ValueError, OverflowError, struct.error) as error:
        raise AudioReadError(f"{name}: {one_line(error)}") from None


@contextmanager
def _opened(file: AudioFile, name: str) -> Iterator[tuple[BinaryIO, tuple[int, ...] | None]]:
    """Yield the open file, and what tells it from others where it is one on disk."""
    if not isinstance(file, (str, os.PathLike)):
        if file.seekable():
            yield file, None
            return
        with tempfile.TemporaryFile() as copy:
            while block := file.read(1 << 20):
                copy.write(block)
            yield cast(BinaryIO, copy), None
        return
    status = os.stat(file)
    if stat.S_ISDIR(status.st_mode):
        raise AudioReadError(f"{name}: is a folder")
    if not stat.S_ISREG(status.st_mode):  # reading a pipe or device could wait for ever
        raise AudioReadError(f"{name}: is not a regular file")
    with open(file, "rb", buffering=0) as raw:
        yield cast(BinaryIO, raw), (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _examined(source: ByteSource, name: str, key: tuple[int, ...] | None) -> Contents:
    """Return what a file holds; files on disk are followed to their end once, however often they are opened."""
    ending = Path(name).suffix.lower()
    if key is None:
        return examine(source, ending)
    found = _EXAMINED.pop(key, None) or examine(source, ending)
    _EXAMINED[key] = found
    while len(_EXAMINED) > _MOST_REMEMBERED:
        with suppress(KeyError, StopIteration):  # another thread may have been quicker
            del _EXAMINED[next(iter(_EXAMINED))]
    return found


_EXAMINED: dict[tuple[int, ...], Contents] = {}
_MOST_REMEMBERED = 2048
