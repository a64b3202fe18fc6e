"""Positional embeddings of patch grids."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def sincos_2d(embed_dim: int, grid: tuple[int, int], cls_token: bool = True, first_step: int = 0) -> Tensor:
    """Return the fixed sine-cosine table of a (time, frequency) grid of patches.

    The first half of the channels tells the frequency index and the second the time index; each half is
    sines, then cosines, of the index times 10000^(−2i/half).

    Args:
        embed_dim: D, a multiple of 4.
        grid: patches in time and in frequency.
        cls_token: put a row of zeros for the class token in front.
        first_step: time index of the grid's first patches.

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

    time = torch.arange(first_step, first_step + n_time).repeat_interleave(n_freq)
    freq = torch.arange(n_freq).repeat(n_time)
    table = torch.cat([encode(freq), encode(time)], dim=1)
    if cls_token:
        table = torch.cat([torch.zeros(1, embed_dim, dtype=torch.float64), table])
    return table.float()[None]


def fit_positions(
    table: Tensor, grid: tuple[int, int], new_grid: tuple[int, int], shrink: Literal["cut", "resize"] = "cut"
) -> Tensor:
    """Fit learned positions to another grid of patches.

    Args:
        table: `(1, time · frequency, D)`, tokens frequency-major (index f · time + t).
        grid: (time, frequency) patches of `table`.
        new_grid: (time, frequency) patches wanted.
        shrink: "cut" takes the middle of an axis that gets shorter and interpolates bilinearly one that
            gets longer; "resize" interpolates in both cases, with an anti-aliasing filter.

    Returns:
        `(1, new time · new frequency, D)`.

    Source: the constructors of ASTModel and AMBAModel ("cut"); FlexiPosEmbed of AuM ("resize").
    """
    if grid == new_grid:
        return table
    n_time, n_freq = new_grid
    image = table.reshape(1, grid[1], grid[0], -1).permute(0, 3, 1, 2).float()
    if shrink == "resize":
        image = F.interpolate(image, (n_freq, n_time), mode="bilinear", antialias=True)
    else:
        if n_time < grid[0]:
            start = grid[0] // 2 - n_time // 2
            image = image[..., start : start + n_time]
        if n_freq < grid[1]:
            start = grid[1] // 2 - n_freq // 2
            image = image[..., start : start + n_freq, :]
        if image.shape[2:] != (n_freq, n_time):
            image = F.interpolate(image, (n_freq, n_time), mode="bilinear")
    return image.flatten(2).transpose(1, 2)
