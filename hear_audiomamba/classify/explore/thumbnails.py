"""Small pictures of spectrograms, tens of thousands of them in a few megabytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ...config import LogMelConfig
from ...errors import AudioReadError
from ...frontends.logmel import LogMel
from ...io.audio import iter_audio
from ...io.names import path_of

RATE, BANDS, COLUMNS = 16000, 32, 40
PIXELS = BANDS * COLUMNS
# Of a longer file that is one sound, only so much is drawn.
MOST_SECONDS = 30.0
# Quieter parts than this below the loudest are black, so that silence does not look like noise.
RANGE_DB = 60.0
MOST_COMPONENTS, MOST_BYTES = 128, 3_000_000
_AT_ONCE = 4096

Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Packed:
    """Pictures as sums of a few patterns: `mean + weights @ patterns`, 0 to 255.

    Attributes:
        mean: `(PIXELS,)` uint8.
        patterns: `(K, PIXELS)` int8.
        scales: `(K,)` float32 that the patterns are multiplied by.
        weights: `(n, K)` int8; all zero, which is the mean, for a sound without picture.
        known: `(n,)` whether a sound has a picture.
    """

    mean: Pictures
    patterns: NDArray[np.int8]
    scales: NDArray[np.float32]
    weights: NDArray[np.int8]
    known: NDArray[np.bool_]


def draw_all(
    paths: Sequence[str],
    starts: Sequence[float],
    ends: Sequence[float],
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Pictures, NDArray[np.bool_]]:
    """Draw spectrograms of sounds; each file is decoded once.

    Args:
        paths: the audio file of each.
        starts, ends: seconds in it; NaN for a sound that is its whole file.
        on_progress: called with the sounds done and their number after every file.

    Returns:
        `(n, PIXELS)`, the lowest band first, and `(n,)` which could be drawn; files that cannot be read could not.
    """
    drawn, known = np.zeros((len(paths), PIXELS), np.uint8), np.zeros(len(paths), bool)
    spectrogram = LogMel(LogMelConfig(n_mels=BANDS, log="db", normalize="none"))
    of_file: dict[str, list[int]] = defaultdict(list)
    for index, path in enumerate(paths):
        of_file[path].append(index)
    done = 0
    for path, own in of_file.items():
        begins = np.nan_to_num(np.array([starts[index] for index in own]))
        stops = np.array([ends[index] for index in own])
        stops = np.where(np.isnan(stops), begins + MOST_SECONDS, np.minimum(stops, begins + MOST_SECONDS))
        order = np.argsort(begins, kind="stable")
        try:
            for place, samples in zip(order, _pieces(path, begins[order], stops[order])):
                drawn[own[place]], known[own[place]] = _picture(samples, spectrogram), True
        except AudioReadError:  # the page says that the sound has no picture
            pass
        done += len(own)
        if on_progress is not None:
            on_progress(done, len(paths))
    return drawn, known


def _pieces(
    path: str, starts: NDArray[np.float64], ends: NDArray[np.float64]
) -> Iterator[NDArray[np.float32]]:
    """Yield stretches of a file, in the order of their starts, without going back in it."""
    first = float(starts[0])
    blocks = iter_audio(path_of(path), RATE, start=first, duration=float(ends.max()) - first)
    held, at, over = np.zeros(0, np.float32), 0, False
    for start, end in zip(starts - first, ends - first):
        begin, stop = round(start * RATE), round(end * RATE)
        held, at = held[max(0, begin - at) :], max(at, begin) if begin - at <= len(held) else at + len(held)
        while not over and at + len(held) < stop:
            block = next(blocks, None)
            over = block is None
            if block is not None:
                held = np.concatenate([held, block])
                held, at = held[max(0, begin - at) :], at + min(len(held), max(0, begin - at))
        if at > begin or not len(held):
            return  # the file is shorter than the archive says
        yield held[: stop - begin]


def _picture(samples: NDArray[np.float32], spectrogram: LogMel) -> Pictures:
    with torch.inference_mode():
        decibels = spectrogram.log_mel(torch.from_numpy(np.ascontiguousarray(samples))[None])[0].numpy().T
    edges = np.linspace(0, decibels.shape[1], COLUMNS + 1)
    left = np.minimum(edges[:-1].astype(int), decibels.shape[1] - 1)
    right = np.maximum(np.ceil(edges[1:]).astype(int), left + 1)
    summed = np.concatenate([np.zeros((BANDS, 1)), decibels.cumsum(axis=1, dtype=np.float64)], axis=1)
    columns = (summed[:, right] - summed[:, left]) / (right - left)
    high = float(columns.max())
    low = max(high - RANGE_DB, float(np.percentile(columns, 5)))
    return np.asarray(
        (255 * np.clip((columns - low) / max(high - low, 20.0), 0, 1)).round(), np.uint8
    ).ravel()


def pack(pictures: Pictures, known: NDArray[np.bool_]) -> Packed:
    """Describe pictures by their principal components, as many as fit into `MOST_BYTES`."""
    own = pictures[known]
    count = int(min(max(len(own), 1), MOST_COMPONENTS, MOST_BYTES // (len(pictures) + PIXELS)))
    mean = own.mean(axis=0).round().astype(np.uint8) if len(own) else np.zeros(PIXELS, np.uint8)
    gram = np.zeros((PIXELS, PIXELS), np.float64)
    for at in range(0, len(own), _AT_ONCE):
        rows = own[at : at + _AT_ONCE].astype(np.float32) - mean
        gram += rows.T @ rows
    _, axes = np.linalg.eigh(gram)
    axes = axes[:, ::-1][:, :count].astype(np.float32)
    coordinates = np.zeros((len(pictures), count), np.float32)
    for at in range(0, len(pictures), _AT_ONCE):
        part = slice(at, at + _AT_ONCE)
        coordinates[part] = (pictures[part].astype(np.float32) - mean) @ axes
    coordinates[~known] = 0
    most = np.maximum(np.abs(coordinates).max(axis=0, initial=0), 1e-6) / 127
    largest = np.maximum(np.abs(axes).max(axis=0), 1e-6) / 127
    return Packed(
        mean,
        np.asarray((axes / largest).T.round(), np.int8),
        np.asarray(most * largest, np.float32),
        np.asarray((coordinates / most).round(), np.int8),
        known,
    )


def unpack(packed: Packed, number: int) -> Pictures:
    """Return a picture `(PIXELS,)` as the page shows it."""
    sums = packed.mean + (packed.weights[number] * packed.scales) @ packed.patterns.astype(np.float32)
    return np.asarray(np.clip(sums, 0, 255).round(), np.uint8)
