"""One crop of one file: decoded from where it starts, not from the beginning."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from ...errors import AudioReadError
from ...io.audio import open_audio

_TRIES = 3
_SILENT = 1e-4  # -80 dB: below this a crop teaches nothing, and another place in the file is tried


def read_crop(
    source: Path | bytes,
    n_samples: int,
    sample_rate: int,
    rng: np.random.Generator | None = None,
    *,
    start_seconds: float | None = None,
    speed: float = 1.0,
    name: str = "",
) -> np.ndarray:
    """Read `n_samples` samples of a file, from a random place or a given one.

    Args:
        source: a file, or a whole file's bytes.
        n_samples: length of the crop at `sample_rate`. A shorter file gives fewer, never more.
        sample_rate: Hz wanted; other rates are resampled.
        rng: chooses the place and, among several channels, none: they are averaged.
        start_seconds: the place, instead of a random one.
        speed: take this many times as much audio and play it that much faster, pitch and tempo.
        name: for the error when `source` is bytes.

    Returns:
        `(≤ n_samples,)` float32.

    Raises:
        AudioReadError: the file cannot be decoded, is cut or empty, or holds NaN or infinity.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    with open_audio(file, name=name or str(source)) as reader:
        rate = reader.sample_rate * speed
        wanted = n_samples if rate == sample_rate else int(np.ceil(n_samples * rate / sample_rate)) + 1
        room = max(0, reader.n_frames - wanted)
        for _ in range(_TRIES):
            if start_seconds is not None:
                start = min(round(start_seconds * reader.sample_rate), max(0, reader.n_frames - 1))
            else:
                start = int(rng.integers(0, room + 1)) if rng is not None else 0
            mono = reader.read(start, wanted)
            if start_seconds is not None or room == 0 or np.abs(mono).max() > _SILENT:
                break
    if rate != sample_rate:
        import soxr

        mono = soxr.resample(mono, rate, sample_rate, quality="HQ")
    return np.ascontiguousarray(mono[:n_samples], dtype=np.float32)


def tile(rows: np.ndarray, n: int) -> np.ndarray:
    """Repeat a short clip `(S,)` or `(T, F)` until it is `n` long; a longer one is cut."""
    return np.resize(rows, (n, *rows.shape[1:])) if len(rows) < n else rows[:n]


def read_logmel(
    source: Path | bytes, n_frames: int, rng: np.random.Generator | None, name: str = ""
) -> np.ndarray:
    """Read at most `n_frames` frames of a stored log-mel, as they are.

    Args:
        source: a `.npy` file `(T, F)` of the logarithm of mel powers, not normalised, or its bytes.
        n_frames: length of the crop; a shorter clip gives fewer frames.
        rng: chooses the place; None takes the start.
        name: for the error when `source` is bytes.

    Returns:
        `(≤ n_frames, F)` float32.

    Raises:
        AudioReadError: not a readable two-dimensional array of finite numbers.
    """
    where = name or str(source)
    try:
        stored = np.load(io.BytesIO(source) if isinstance(source, bytes) else source, allow_pickle=False)
        log_mel = np.asarray(stored, dtype=np.float32)
    except (OSError, ValueError, TypeError) as error:
        raise AudioReadError(f"{where}: {error}") from None
    if log_mel.ndim != 2 or not log_mel.size:
        raise AudioReadError(f"{where}: shape {log_mel.shape}, expected (frames, mel bins)")
    start = int(rng.integers(0, max(0, len(log_mel) - n_frames) + 1)) if rng is not None else 0
    crop = np.ascontiguousarray(log_mel[start : start + n_frames])
    if not np.isfinite(crop).all():
        raise AudioReadError(f"{where}: holds NaN or infinite values")
    return crop
