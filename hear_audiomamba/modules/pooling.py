"""From the rows of a clip to its scene embedding."""

from __future__ import annotations

import torch
from torch import Tensor


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
