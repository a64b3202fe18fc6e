"""Exact statistics of a corpus: how much audio, and mean and deviation of its features.

Every sample of every file counts, in float64 and block by block, so an hour-long file needs no more
memory than a short one and the result does not depend on how the corpus is cut.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ...errors import AudioReadError, DataError, counted
from ...frontends.base import Frontend
from ...frontends.stream import SpectrogramStream
from ...io.audio import iter_audio
from ...io.moments import Moments
from ..config import DataConfig
from .clips import Clips, find_clips

_BLOCK_SECONDS = 30.0


@dataclass
class FileStatistics:
    """What one file adds: seconds, peak, sum of squared samples, samples, and its features' moments."""

    seconds: float = 0.0
    peak: float = 0.0
    energy: float = 0.0
    samples: int = 0
    moments: Moments = field(default_factory=Moments)


@dataclass
class CorpusStatistics:
    """What a corpus is made of.

    Attributes:
        clips: files read.
        seconds: of audio, over all files.
        shortest, longest: of the files, seconds.
        peak: highest absolute sample.
        rms: root mean square of all samples.
        mean, std: of all feature values, not normalised.
        mean_per_bin, std_per_bin: of each mel bin.
        frames: rows of features.
        hours_by_kind: hours of each `kind` of the manifest.
        skipped: (path, reason) of the files that could not be read.
    """

    clips: int
    seconds: float
    shortest: float
    longest: float
    peak: float
    rms: float
    mean: float
    std: float
    mean_per_bin: list[float]
    std_per_bin: list[float]
    frames: int
    hours_by_kind: dict[str, float]
    skipped: list[tuple[str, str]]


def corpus_statistics(
    data: DataConfig,
    frontend: Frontend,
    split: str | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> CorpusStatistics:
    """Measure a corpus.

    Args:
        data: where it is.
        frontend: whose features are measured, before normalisation.
        split: only this one; None for everything.
        workers: files decoded at once.
        progress: called with files done and files in all.

    Returns:
        The statistics, over all files that can be read.

    Raises:
        DataError: nothing there, or no file can be read.
    """
    clips = find_clips(data, split)
    total, moments, lengths = FileStatistics(), Moments(), []
    skipped: list[tuple[str, str]] = []
    kinds: dict[str, float] = {}
    with ThreadPoolExecutor(max(1, workers)) as pool:
        results = pool.map(lambda i: _measured(clips, i, frontend), range(len(clips)))
        for index, found in enumerate(results):
            if progress is not None:
                progress(index + 1, len(clips))
            if isinstance(found, str):
                skipped.append((clips.paths[index], found))
                continue
            lengths.append(found.seconds)
            moments.merge(found.moments)
            total.peak = max(total.peak, found.peak)
            total.energy += found.energy
            total.samples += found.samples
            if clips.kinds is not None:
                kind = clips.kinds[index]
                kinds[kind] = kinds.get(kind, 0.0) + found.seconds / 3600
    if not lengths:
        raise DataError(
            f"data.path: of {counted(len(clips), 'file')} in {data.path} none can be read: {skipped[0][1]}"
        )
    mean, std = moments.overall()
    return CorpusStatistics(
        clips=len(lengths), seconds=float(np.sum(lengths)), shortest=min(lengths), longest=max(lengths),
        peak=total.peak, rms=float(np.sqrt(total.energy / total.samples)), mean=mean, std=std,
        mean_per_bin=moments.mean.tolist(), std_per_bin=moments.std.tolist(), frames=moments.count,
        hours_by_kind=dict(sorted(kinds.items())), skipped=skipped,
    )  # fmt: skip


def _measured(clips: Clips, index: int, frontend: Frontend) -> FileStatistics | str:
    """Return a file's statistics, or why it cannot be read."""
    found = FileStatistics()

    def blocks() -> Iterator[np.ndarray]:
        source: Path | io.BytesIO = clips.root / clips.paths[index]
        if clips.members is not None:
            source = io.BytesIO(clips.members[index].read())
        for block in iter_audio(
            source, frontend.sample_rate, block_seconds=_BLOCK_SECONDS, name=clips.paths[index]
        ):
            found.samples += len(block)
            found.peak = max(found.peak, float(np.abs(block).max()))
            found.energy += float(np.square(block, dtype=np.float64).sum())
            yield block

    try:
        with torch.inference_mode():
            stream = SpectrogramStream(frontend, raw=True)
            for block in blocks():
                found.moments.add(stream.push(torch.from_numpy(block)).numpy())
            found.moments.add(stream.finish().numpy())
    except (AudioReadError, OSError) as error:
        return str(error)
    found.seconds = found.samples / frontend.sample_rate
    return found
