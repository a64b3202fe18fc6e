"""Audio files to mono float32 samples at a model's rate, whole or block by block.

Light on purpose: decoding processes import this file and must not load torch.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import AudioReadError

# What a folder is searched for; a file named by the user is tried whatever its ending.
AUDIO_EXTENSIONS = frozenset(
    (".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd")
    + (".w64", ".wav", ".wave")
)
BLOCK_SECONDS = 30.0
MAX_CHANNELS = 1024
MAX_SAMPLE_RATE = 3_072_000
# The limit of `inputs.check_audio`, which needs torch.
PEAK_LIMIT = 8.0
# WAV writers that cannot seek back leave a length near the largest their field can hold.
_UNKNOWN_LENGTH = 0x7FFF_0000


def load_audio(
    file: str | os.PathLike | BinaryIO,
    sample_rate: int,
    *,
    start: float = 0.0,
    duration: float | None = None,
    name: str | None = None,
) -> np.ndarray:
    """Decode audio to mono at a given rate.

    Args:
        file: a path, or an open binary file.
        sample_rate: of the result, Hz.
        start: where to begin, seconds.
        duration: how much to read, seconds; None for all the rest.
        name: what to call the file in errors; its path by default.

    Returns:
        Samples `(S,)` float32, S ≥ 1: the mean of the channels, resampled with soxr's high quality.

    Raises:
        AudioReadError: the file cannot be decoded; says which file and why.
    """
    return np.concatenate(list(iter_audio(file, sample_rate, start=start, duration=duration, name=name)))


def iter_audio(
    file: str | os.PathLike | BinaryIO,
    sample_rate: int,
    *,
    start: float = 0.0,
    duration: float | None = None,
    block_seconds: float = BLOCK_SECONDS,
    name: str | None = None,
) -> Iterator[np.ndarray]:
    """Decode audio block by block; the blocks put together are what `load_audio` returns.

    Args:
        file: a path, or an open binary file.
        sample_rate: of the result, Hz.
        start: where to begin, seconds.
        duration: how much to read, seconds; None for all the rest.
        block_seconds: length of the pieces decoded at once; bounds memory.
        name: what to call the file in errors; its path by default.

    Yields:
        Samples `(n,)` float32, n ≥ 1.

    Raises:
        AudioReadError: the file cannot be decoded; may come after some blocks.
    """
    import soxr

    name = name or str(getattr(file, "name", file) if hasattr(file, "read") else file)
    with _typed_errors(name), _opened(file, name) as sound:
        rate, remaining = sound.samplerate, _seek(sound, start, duration, name)
        resampler = None
        if rate != sample_rate:
            resampler = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
        size = max(1, round(block_seconds * rate))
        n_out = 0
        while remaining > 0:
            block = sound.read(min(size, remaining), dtype="float32", always_2d=True)
            if not len(block):
                break
            remaining -= len(block)
            mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
            _check_samples(mono, name)
            mono = mono if resampler is None else resampler.resample_chunk(mono, last=False)
            if len(mono):
                n_out += len(mono)
                yield np.ascontiguousarray(mono, dtype=np.float32)
        _check_complete(sound, remaining, duration, name)
        if resampler is not None:
            tail = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
            if not n_out and not len(tail):  # a clip too short to give the new rate one sample
                tail = np.zeros(1, np.float32)
            if len(tail):
                n_out += len(tail)
                yield np.ascontiguousarray(tail, dtype=np.float32)
        if not n_out:
            raise AudioReadError(f"{name}: holds no samples")


@contextmanager
def _typed_errors(name: str) -> Iterator[None]:
    """Give whatever the libraries raise for bad data the one type that callers wait for."""
    try:
        yield
    except AudioReadError:
        raise
    except FileNotFoundError:
        raise AudioReadError(f"{name}: no such file") from None
    except PermissionError:
        raise AudioReadError(f"{name}: permission denied") from None
    except MemoryError:
        raise AudioReadError(f"{name}: its header asks for more memory than there is") from None
    # libsndfile's errors are RuntimeErrors; cffi and soxr add TypeError, ValueError and OverflowError.
    except (OSError, RuntimeError, TypeError, ValueError, OverflowError, struct.error) as error:
        reason = " ".join(str(getattr(error, "error_string", None) or error).split())
        raise AudioReadError(f"{name}: {reason}") from None


@contextmanager
def _opened(file: str | os.PathLike | BinaryIO, name: str) -> Iterator[Any]:
    import soundfile

    if hasattr(file, "read"):
        with soundfile.SoundFile(file) as sound:
            _check_header(sound, name)
            yield sound
        return
    status = os.stat(file)
    if stat.S_ISDIR(status.st_mode):
        raise AudioReadError(f"{name}: is a folder")
    if not stat.S_ISREG(status.st_mode):  # reading a pipe or device could wait for ever
        raise AudioReadError(f"{name}: is not a regular file")
    if status.st_size == 0:
        raise AudioReadError(f"{name}: the file is empty (0 bytes)")
    with open(file, "rb", buffering=0) as raw:
        shortfall = _wav_shortfall(raw, status.st_size)
        if shortfall:
            said, held = shortfall
            raise AudioReadError(
                f"{name}: truncated: the header says {said} bytes of audio, {held} are there"
            )
        raw.seek(0)
        # By descriptor, so that any bytes will do as a name, and at libsndfile's own speed.
        with soundfile.SoundFile(raw.fileno(), closefd=False) as sound:
            _check_header(sound, name)
            yield sound


def _check_header(sound: Any, name: str) -> None:
    if not 0 < sound.samplerate <= MAX_SAMPLE_RATE:
        raise AudioReadError(f"{name}: sample rate {sound.samplerate} Hz, expected 1 to {MAX_SAMPLE_RATE}")
    if not 0 < sound.channels <= MAX_CHANNELS:
        raise AudioReadError(f"{name}: {sound.channels} channels, expected 1 to {MAX_CHANNELS}")


def _seek(sound: Any, start: float, duration: float | None, name: str) -> int:
    """Go to `start` and return how many of the file's sample frames are to be read."""
    if not start >= 0 or not (duration is None or duration > 0):
        raise AudioReadError(f"{name}: start {start} s and duration {duration} s, expected ≥ 0 and > 0")
    first = round(start * sound.samplerate)
    length = sound.frames
    if first:
        if first >= length:
            raise AudioReadError(
                f"{name}: start {start:g} s lies beyond the end, {length / sound.samplerate:g} s"
            )
        sound.seek(first)
    rest = length - first
    return rest if duration is None else min(rest, max(1, round(duration * sound.samplerate)))


def _check_samples(mono: np.ndarray, name: str) -> None:
    peak = max(float(mono.max()), -float(mono.min()))
    if not np.isfinite(peak):
        raise AudioReadError(f"{name}: holds NaN or infinite samples")
    if peak > PEAK_LIMIT:
        raise AudioReadError(f"{name}: samples reach {peak:.4g}; float audio must lie in [-1, 1]")


def _check_complete(sound: Any, missing: int, duration: float | None, name: str) -> None:
    # MP3 lengths are estimates where the file has no Xing header.
    if missing > 0 and duration is None and sound.format != "MP3":
        raise AudioReadError(
            f"{name}: truncated: {sound.frames - missing} of {sound.frames} sample frames could be decoded"
        )


def _wav_shortfall(raw: BinaryIO, size: int) -> tuple[int, int] | None:
    """Return the data bytes a RIFF header promises and those there, if fewer; libsndfile passes over it."""
    head = raw.read(12)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    at = 12
    while at + 8 <= size:
        raw.seek(at)
        kind, length = struct.unpack("<4sI", raw.read(8))
        if kind == b"data":
            held = size - at - 8
            return (length, held) if held < length < _UNKNOWN_LENGTH else None
        at += 8 + length + length % 2
    return None


def duration_of(path: str | Path) -> float:
    """Return a file's length in seconds as its header has it.

    Raises:
        AudioReadError: the header cannot be read.
    """
    with _typed_errors(str(path)), _opened(path, str(path)) as sound:
        return sound.frames / sound.samplerate
