"""Resampling the clips of a task, with the resampler and the quality that made HEAR's own files."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from ...errors import DataError, OutputError
from ...io.audio import open_audio
from .catalogue import RATE_PUBLISHED, RATES

QUALITY = "HQ"
"""Of soxr: 20 bits, the precision that ffmpeg's soxr has by default and that hear-preprocess therefore used."""


def resample_clip(source: Path, target: Path, sample_rate: int) -> None:
    """Resample one clip to a 16-bit WAV file, unless that is there.

    Args:
        source: any audio file; channels are averaged.
        target: appears when it is complete.
        sample_rate: Hz, of the result.

    Raises:
        AudioReadError: the clip cannot be decoded.
        OutputError: the file cannot be written.
    """
    import soundfile
    import soxr

    if target.exists():
        return
    with open_audio(source) as clip:
        samples = soxr.resample(clip.read(0, clip.n_frames), clip.sample_rate, sample_rate, quality=QUALITY)
    coarse = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    partial = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(partial, coarse, sample_rate, format="WAV", subtype="PCM_16")
        os.replace(partial, target)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        raise OutputError.of(target, error) from None


def resample_task(
    task: Path,
    sample_rate: int,
    *,
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> bool:
    """Give a task its clips at another sample rate; the folder of that rate appears when it is complete.

    Args:
        task: folder of the task, with its clips at 48,000 Hz, or else at the highest rate there is.
        sample_rate: Hz; one of `RATES`.
        jobs: processes at a time.
        progress: called with (clips done, clips in all).

    Returns:
        Whether there was anything to do.

    Raises:
        DataError: the rate is not one of HEAR's, or the task has no clips at a higher rate.
    """
    if sample_rate not in RATES:
        raise DataError(f"{sample_rate} Hz: HEAR's rates are {', '.join(map(str, RATES))}")
    final = task / str(sample_rate)
    if final.is_dir():
        return False
    source = _source(task, sample_rate)
    partial = task / f".{sample_rate}.part"
    clips = sorted(
        p.relative_to(source) for p in source.rglob("*") if p.is_file() and not p.name.startswith(".")
    )
    work = [(source / clip, partial / clip, sample_rate) for clip in clips]
    if jobs == 1:
        for done, one in enumerate(work, 1):
            resample_clip(*one)
            progress(done, len(work))
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=jobs, mp_context=context) as pool:
            for done, _ in enumerate(pool.map(_resample_one, work, chunksize=16), 1):
                progress(done, len(work))
    partial.mkdir(exist_ok=True)
    os.replace(partial, final)
    return True


def drop_rates(task: Path, kept: Sequence[int]) -> None:
    """Remove the clips of a task at all sample rates but those kept."""
    for folder in task.iterdir():
        if folder.is_dir() and folder.name.isdigit() and int(folder.name) not in kept:
            shutil.rmtree(folder)


def _resample_one(work: tuple[Path, Path, int]) -> None:
    resample_clip(*work)


def _source(task: Path, sample_rate: int) -> Path:
    rates = sorted(int(p.name) for p in task.iterdir() if p.is_dir() and p.name.isdigit())
    if RATE_PUBLISHED in rates:
        return task / str(RATE_PUBLISHED)
    if not rates or rates[-1] < sample_rate:
        found = f"only {', '.join(map(str, rates))}" if rates else "none"
        raise DataError(f"{task.name}: no clips at a higher rate than {sample_rate} Hz to resample, {found}")
    return task / str(rates[-1])
