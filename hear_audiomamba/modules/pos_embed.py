"""Positional embeddings of patch grids."""

from __future__ import annotations

import torch
from torch import Tensor


def sincos_2d(embed_dim: int, grid: tuple[int, int], cls_token: bool = True) -> Tensor:
    """Return the fixed sine-cosine table of a (time, frequency) grid of patches.

    The first half of the channels tells the frequency index and the second the time index; each half is
    sines, then cosines, of the index times 10000^(−2i/half).

    Args:
        embed_dim: D, a multiple of 4.
        grid: patches in time and in frequency.
        cls_token: put a row of zeros for the class token in front.

    Returns:
        `(1, P, embed_dim)` float32, tokens time-major, P = time · frequency (+ 1).

    Source: He et al., arXiv 2111.06377 (MAE), whose "w goes first" SSAM keeps with w = frequency.
    """
    n_time, n_freq = grid
    quarter = embed_dim // 4
    omega = 10000.0 ** -(torch.arange(quarter, dtype=torch.float64) / quarter)

    def encode(index: Tensor) -> Tensor:
        angle = index.double()[:, None] * omega
        return torch.cat([angle.sin(), angle.cos()], dim=1)

    time = torch.arange(n_time).repeat_interleave(n_freq)
    freq = torch.arange(n_freq).repeat(n_time)
    table = torch.cat([encode(freq), encode(time)], dim=1)
    if cls_token:
        table = torch.cat([torch.zeros(1, embed_dim, dtype=torch.float64), table])
    return table.float()[None]
