"""From the rows of a clip to its scene embedding and its timestamp embeddings."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_OWN_SHARE = 0.25
_BLOCK = 64


def pool_rows(rows: Tensor, pooling: str = "mean", n_rows: Tensor | None = None) -> Tensor:
    """Return the scene embedding of each clip.

    Args:
        rows: `(B, t, K)`.
        pooling: "mean" over a clip's rows, as the papers of the encoders have it, or "mean_plus_max", to
            which each dimension's largest value is added, so that a short event in a long clip counts.
        n_rows: `(B,)`, how many rows are the clip's own; the others are padding. None where all are.

    Returns:
        `(B, K)`.

    Source: mean and maximum added, Kong et al., PANNs, arXiv 1912.10211, section II-D.
    """
    if n_rows is None:
        mean = rows.mean(dim=1)
        return mean if pooling == "mean" else mean + rows.amax(dim=1)
    total, largest = pool_parts(rows, n_rows, pooling)
    mean = total / n_rows[:, None]
    return mean if largest is None else mean + largest


def pool_parts(rows: Tensor, n_rows: Tensor, pooling: str) -> tuple[Tensor, Tensor | None]:
    """Return what the scene embedding of a clip that comes in pieces is made of.

    Args:
        rows: `(B, t, K)`.
        n_rows: `(B,)`, at least 1: how many rows of each are not padding.
        pooling: as in `pool_rows`.

    Returns:
        Sum of the rows `(B, K)`, and their maximum `(B, K)` where the pooling needs it.
    """
    own = torch.arange(rows.shape[1], device=rows.device) < n_rows[:, None]
    total = torch.einsum("btk,bt->bk", rows, own.to(rows.dtype))
    if pooling == "mean":
        return total, None
    return total, rows.masked_fill(~own[..., None], -torch.inf).amax(dim=1)


def smoothing_reach(time_constant: float) -> int:
    """Return how many rows on either side of one `smooth_rows` looks at: five time constants."""
    return math.ceil(5 * time_constant)


def smooth_rows(rows: Tensor, time_constant: float) -> Tensor:
    """Give each row its surroundings: a quarter stays itself, three quarters are a mean over its neighbours.

    What surrounds a moment says what it is part of, and the row itself when it was. The weights of the
    mean decay exponentially on both sides; at the ends of a clip those of the rows that are there make up
    the whole.

    Args:
        rows: `(B, t, K)`.
        time_constant: distance in rows at which a weight is 1/e of the middle one; 0 returns the rows as
            they are.

    Returns:
        `(B, t, K)`.
    """
    if not time_constant:
        return rows
    n_sounds, n_rows, width = rows.shape
    reach = min(smoothing_reach(time_constant), n_rows - 1)
    distance = torch.arange(-reach, reach + 1, device=rows.device).abs().to(rows.dtype)
    weights = torch.exp(-distance / time_constant)
    # One product with a banded matrix for each block of rows: convolutions of one channel are slow on CPUs.
    block = max(_BLOCK, reach)
    band = torch.stack([F.pad(weights, (at, block - 1 - at)) for at in range(block)])
    padded = F.pad(rows, (0, 0, reach, reach + -n_rows % block))
    stretches = padded.unfold(1, block + 2 * reach, block).transpose(2, 3)
    with torch.autocast(rows.device.type, enabled=False):  # a caller's mixed precision is for the encoder
        sums = (band @ stretches).reshape(n_sounds, -1, width)[:, :n_rows]
        present = F.conv1d(rows.new_ones(1, 1, n_rows), weights[None, None], padding=reach)
    return torch.lerp(sums / present.transpose(1, 2), rows, _OWN_SHARE)
