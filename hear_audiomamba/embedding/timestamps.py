"""Where rows and timestamp embeddings lie in time."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..encoders.base import Encoder
from ..frontends.base import Frontend

MAX_TIMESTAMP_STEP_MS = 50.0  # HEAR's advice for event tasks; its validator warns above


class RowGrid(NamedTuple):
    """Where an encoder's rows lie in a clip, in samples: centre of the first row, distance of two."""

    first: float
    step: float

    def count(self, n_samples: int) -> int:
        """Return how many rows are centred within a clip of `n_samples`; at least one."""
        return max(1, math.floor((n_samples - self.first) / self.step) + 1)


def row_grid(features: Frontend, encoder: Encoder) -> RowGrid:
    """Return where the rows of an encoder behind a front end lie."""
    hop = features.hop_length
    return RowGrid(features.frame_center + encoder.first_center * hop, encoder.step * hop)


class TimestampGrid(NamedTuple):
    """Where a clip's timestamp embeddings lie.

    Attributes:
        positions: `(n,)` among the clip's rows, 1.5 being halfway between rows 1 and 2; None where
            timestamps are the rows.
        times: `(n,)` in ms.
    """

    positions: NDArray[np.float64] | None
    times: NDArray[np.float64]


def timestamp_grid(
    grid: RowGrid, n_samples: int, n_rows: int, sample_rate: int, kind: Literal["center", "start"]
) -> TimestampGrid:
    """Return where timestamp embeddings lie; rows more than 50 ms apart are interpolated.

    Args:
        grid: where the rows lie.
        n_samples: length of the clip in samples.
        n_rows: rows the clip has.
        sample_rate: Hz.
        kind: times are the "center" or the "start" of each row's stretch of audio.
    """
    first, step = grid
    factor = math.ceil(1000.0 * step / sample_rate / MAX_TIMESTAMP_STEP_MS - 1e-9)
    positions, n_times = None, n_rows
    if factor > 1:
        offset = (factor - 1) / 2
        step = step / factor
        first = first - offset * step
        n_times = RowGrid(first, step).count(n_samples)
        positions = np.clip((np.arange(n_times, dtype=np.float64) - offset) / factor, 0, n_rows - 1)
    times = np.arange(n_times, dtype=np.float64) * step
    if kind == "center":
        # A clip that ends before the centre of its only row gets its own middle.
        times = times + (first if first <= n_samples else n_samples / 2)
    return TimestampGrid(positions, times * (1000.0 / sample_rate))


def published_grid(n_samples: int, n_rows: int, sample_rate: int) -> TimestampGrid:
    """Return the start times of the authors' runtime, which shares a clip out evenly among its rows."""
    step = 1000.0 * (n_samples / sample_rate) / n_rows
    return TimestampGrid(None, np.arange(n_rows, dtype=np.float64) * step)


def rows_at(rows: Tensor, positions: NDArray[np.float64] | None, first: int = 0) -> Tensor:
    """Return rows at positions between them, by linear interpolation.

    Args:
        rows: `(B, t, K)`.
        positions: `(n,)`; None returns the rows.
        first: position of the first of the rows.

    Returns:
        `(B, n, K)`.
    """
    if positions is None:
        return rows
    low = np.floor(positions).astype(np.int64)
    share = torch.as_tensor((positions - low).astype(np.float32), device=rows.device)
    at = torch.as_tensor(low - first, device=rows.device)
    return torch.lerp(
        rows[:, at], rows[:, (at + 1).clamp_max(rows.shape[1] - 1)], share[:, None].to(rows.dtype)
    )
