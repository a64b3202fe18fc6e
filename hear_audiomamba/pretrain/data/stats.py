"""Exact statistics of a corpus: how much audio, and mean and deviation of its features.

Every sample of every file counts, in float64 and block by block, so an hour-long file needs no more
memory than a short one and the result does not depend on how the corpus is cut.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ...errors import AudioReadError, DataError
from ...frontends.base import Frontend
from ...io.audio import iter_audio
from ..config import DataConfig
from .clips import Clips, find_clips

_BLOCK_SECONDS = 30.0


@dataclass
class Moments:
    """Count, mean and sum of squared differences of vectors seen so far, `(F,)` each, float64.

    Source: Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample
        variances" (1979).
    """

    count: int = 0
    mean: np.ndarray = field(default_factory=lambda: np.zeros(0))
    squares: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def add(self, rows: np.ndarray) -> None:
        """Take rows `(n, F)` in."""
        if not len(rows):
            return
        rows = rows.astype(np.float64)
        mean = rows.mean(axis=0)
        self.merge(Moments(len(rows), mean, np.square(rows - mean).sum(axis=0)))

    def merge(self, other: Moments) -> None:
        """Take in what other moments have seen."""
        if not other.count:
            return
        if not self.count:
            self.count, self.mean, self.squares = other.count, other.mean.copy(), other.squares.copy()
            return
        total = self.count + other.count
        difference = other.mean - self.mean
        self.squares += other.squares + difference**2 * (self.count * other.count / total)
        self.mean += difference * (other.count / total)
        self.count = total

    def overall(self) -> tuple[float, float]:
        """Return mean and deviation over all values of all columns."""
        mean = float(self.mean.mean())
        between = self.count * np.square(self.mean - mean).sum()
        variance = (self.squares.sum() + between) / (self.count * len(self.mean))
        return mean, float(np.sqrt(variance))

    @property
    def std(self) -> np.ndarray:
        """Deviation of each column, `(F,)`, divided by the count (not one less)."""
        return np.sqrt(self.squares / max(self.count, 1))


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

    def to_dict(self) -> dict[str, Any]:
        """Return the statistics as plain values, fit for JSON."""
        return dict(vars(self))


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
            f"data.path: none of the {len(clips)} files of {data.path} can be read: {skipped[0][1]}"
        )
    mean, std = moments.overall()
    return CorpusStatistics(
        clips=len(lengths), seconds=float(np.sum(lengths)), shortest=min(lengths), longest=max(lengths),
        peak=total.peak, rms=float(np.sqrt(total.energy / total.samples)), mean=mean, std=std,
        mean_per_bin=moments.mean.tolist(), std_per_bin=moments.std.tolist(), frames=moments.count,
        hours_by_kind=dict(sorted(kinds.items())), skipped=skipped,
    )  # fmt: skip


def feature_blocks(blocks: Iterator[np.ndarray], frontend: Frontend) -> Iterator[np.ndarray]:
    """Yield the log-mel rows of a file from its blocks of samples: those of the whole file, in pieces.

    Each piece is computed with some frames of context on both sides, which are then cut off, so that no
    row sees an edge that is not the file's own.
    """
    hop = frontend.hop_length
    context = 4  # frames; more than half a window
    held = np.zeros(0, dtype=np.float32)
    first = done = 0  # first frame whose start `held` begins with, and first frame not yet given
    for block in blocks:
        held = np.concatenate([held, block])
        ready = first + len(held) // hop - context  # frames before this one have all their samples
        if ready - done < 64:
            continue
        rows = frontend.log_mel(torch.from_numpy(held)[None])[0].numpy()
        yield rows[done - first : ready - first]
        done = ready
        keep = done - context
        held, first = held[(keep - first) * hop :], keep
    rows = frontend.log_mel(torch.from_numpy(held)[None])[0].numpy()
    yield rows[done - first :]


def _measured(clips: Clips, index: int, frontend: Frontend) -> FileStatistics | str:
    """Return a file's statistics, or why it cannot be read."""
    found = FileStatistics()

    def blocks() -> Iterator[np.ndarray]:
        source = clips.root / clips.paths[index]
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
            for rows in feature_blocks(blocks(), frontend):
                found.moments.add(rows)
    except (AudioReadError, OSError) as error:
        return str(error)
    found.seconds = found.samples / frontend.sample_rate
    return found
