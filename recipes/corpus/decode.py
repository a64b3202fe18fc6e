"""Recordings of any format to 16-bit mono FLAC at the corpus's rate.

Packages also hold headerless G.722, which only the program ffmpeg knows by its name.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from hear_audiomamba.errors import AudioReadError
from hear_audiomamba.io.audio import duration_of, load_audio
from hear_audiomamba.io.files import replacing

SILENCE = 1e-4


def duration(path: Path) -> float:
    """Return a recording's length in seconds.

    Raises:
        AudioReadError: neither libsndfile nor ffprobe can read it.
    """
    try:
        return duration_of(path)
    except AudioReadError:
        shown = _tool(["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0"], path)
        try:
            return float(shown.decode().strip())
        except ValueError:
            raise AudioReadError(f"{path.name}: no length can be read") from None


def decode(path: Path, sample_rate: int, start: float = 0.0, seconds: float | None = None) -> np.ndarray:
    """Decode a stretch of a recording to mono float32 at a given rate.

    Args:
        path: any file libsndfile or ffmpeg reads.
        sample_rate: of the result, Hz.
        start: where the stretch starts, seconds.
        seconds: its length; None for all the rest.

    Returns:
        Samples, shape (n,).

    Raises:
        AudioReadError: the file cannot be decoded.
    """
    try:
        return load_audio(path, sample_rate, start=start, duration=seconds)
    except AudioReadError:
        cut = ["-ss", str(start)] + ([] if seconds is None else ["-t", str(seconds)])
        raw = _tool(
            ["ffmpeg", "-v", "error", "-nostdin", *cut, "-i"],
            path,
            ["-ac", "1", "-ar", str(sample_rate), "-f", "f32le", "-"],
        )
        if not raw:
            raise AudioReadError(f"{path.name}: ffmpeg decoded nothing") from None
        return np.frombuffer(raw, dtype=np.float32).copy()


def write_flac(path: Path, samples: np.ndarray, sample_rate: int) -> None:
    """Write mono samples as 16-bit FLAC, whole or not at all; peaks above full scale are scaled down.

    Raises:
        AudioReadError: the samples are not finite or all silent.
    """
    import soundfile

    peak = float(np.abs(samples).max(initial=0.0))
    if not np.isfinite(peak) or peak < SILENCE:
        raise AudioReadError(f"{path.name}: silent or not finite")
    with replacing(path) as partial:
        soundfile.write(str(partial), samples / max(1.0, peak), sample_rate, format="FLAC", subtype="PCM_16")


def _tool(command: list[str], path: Path, rest: list[str] | None = None) -> bytes:
    try:
        done = subprocess.run([*command, str(path), *(rest or [])], capture_output=True, check=False)
    except FileNotFoundError:
        raise AudioReadError(
            f"{path.name}: libsndfile cannot read it and {command[0]} is not installed"
        ) from None
    if done.returncode:
        raise AudioReadError(f"{path.name}: {command[0]} cannot read it")
    return done.stdout
