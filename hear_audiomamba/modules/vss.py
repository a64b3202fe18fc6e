"""VMamba's backbone: patch embeddings, VSS blocks and downsampling, all on channel-last maps.

Two generations are published. The first ("vanilla") has one patch convolution, gated SS2D blocks
without a feed-forward layer, and patch merging; the second has overlapping convolutions for patches
and downsampling, and ungated SS2D followed by an MLP. `VMambaStages` builds either from its options.
The stream between blocks and all norms are float32, whatever the matrix products are computed in.
"""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from .linear import Linear, Mlp
from .ss2d import SS2D, conv2d_last


class PatchEmbedV1(nn.Module):
    """Patches by one strided convolution and a norm; image sides must be multiples of the patch.

    Source: patchembed_version "v1" of MzeroMiko/VMamba.
    """

    def __init__(self, in_channels: int, dim: int, patch_size: int = 4) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, patch_size, patch_size)
        self.norm = nn.LayerNorm(dim)

    def forward(self, image: Tensor) -> Tensor:
        """Return the map `(B, H / patch, W / patch, dim)` of an image `(B, C, H, W)`."""
        return _normed(self.norm, self.proj(image.to(self.proj.weight.dtype)).permute(0, 2, 3, 1))


class PatchEmbedV2(nn.Module):
    """Overlapping patches by two 3 × 3 convolutions of stride 2, each followed by a norm.

    Source: patchembed_version "v2" of MzeroMiko/VMamba, patch size 4.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, dim // 2, 3, stride=2, padding=1)
        self.norm1 = nn.LayerNorm(dim // 2)
        self.conv2 = nn.Conv2d(dim // 2, dim, 3, stride=2, padding=1)
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, image: Tensor) -> Tensor:
        """Return the map `(B, ⌈H / 4⌉, ⌈W / 4⌉, dim)` of an image `(B, C, H, W)`."""
        x = self.conv1(image.to(self.conv1.weight.dtype)).permute(0, 2, 3, 1)
        x = F.gelu(_normed(self.norm1, x))
        return _normed(self.norm2, conv2d_last(self.conv2, x))


class PatchMerging(nn.Module):
    """Halve a map: each 2 × 2 square becomes one position of twice the width.

    Source: downsample_version "v1" of MzeroMiko/VMamba (PatchMerging2D): the four positions are
        concatenated column by column, and an odd side is padded with zeros at its end.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, ⌈H / 2⌉, ⌈W / 2⌉, 2 · dim)` of `(B, H, W, dim)`."""
        height, width = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (B, h, row, w, column, C)
        x = self.norm(x.permute(0, 1, 3, 4, 2, 5).flatten(3))
        merged: Tensor = self.reduction(x.to(self.reduction.weight.dtype))
        return merged.to(self.norm.weight.dtype)


class Downsample(nn.Module):
    """Halve a map by a strided convolution and a norm.

    `kernel` 3 overlaps (downsample_version "v3" of MzeroMiko/VMamba), `kernel` 2 does not ("v2").
    """

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, 2 * dim, kernel, stride=2, padding=kernel // 2 if kernel % 2 else 0)
        self.norm = nn.LayerNorm(2 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return `(B, ⌈H / 2⌉, ⌈W / 2⌉, 2 · dim)` of `(B, H, W, dim)` (⌊·⌋ with kernel 2)."""
        return _normed(self.norm, conv2d_last(self.conv, x))


class DropPath(nn.Module):
    """Stochastic depth: in training, drop a whole branch for random clips of the batch."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Return x, with dropped rows zero and the others scaled up to keep the mean."""
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty(x.shape[0], *[1] * (x.dim() - 1)).bernoulli_(keep)
        return x * mask / keep


class VSSBlock(nn.Module):
    """SS2D and, in the second generation, an MLP, each behind a norm and added to the stream.

    Args:
        dim: channels of the map.
        mlp_ratio: hidden width of the MLP in multiples of dim; 0 leaves the MLP out.
        drop_path: stochastic depth rate in training.
        ssm: options of `SS2D`.

    Source: VSSBlock of MzeroMiko/VMamba (pre-norm).
    """

    def __init__(self, dim: int, mlp_ratio: float = 0.0, drop_path: float = 0.0, **ssm: Any) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.op = SS2D(dim, **ssm)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim) if mlp_ratio else None
        self.mlp = Mlp(dim, int(mlp_ratio * dim)) if mlp_ratio else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the map `(B, H, W, dim)` after the block."""
        x = x + self.drop_path(self.op(self.norm(x)))
        if self.mlp is not None and self.norm2 is not None:
            x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x


class VMambaStages(nn.Module):
    """Patch embedding and four stages of VSS blocks with downsampling between them.

    Args:
        in_channels: channels of the image.
        dim: width d0 of the first stage; stage s has d0 · 2^s.
        depths: blocks in each stage.
        patch_embed: "v1" (no overlap) or "v2" (two overlapping convolutions).
        downsample: "v1" (patch merging), "v2" (2 × 2) or "v3" (3 × 3 convolution).
        mlp_ratio: see `VSSBlock`.
        drop_path: rate of the last block; rates grow linearly from 0.
        ssm: options of `SS2D`.

    Attributes:
        dims: width of each stage.

    Source: VSSM of MzeroMiko/VMamba.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        depths: tuple[int, ...],
        patch_embed: Literal["v1", "v2"] = "v2",
        downsample: Literal["v1", "v2", "v3"] = "v3",
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        **ssm: Any,
    ) -> None:
        super().__init__()
        self.dims = tuple(dim * 2**s for s in range(len(depths)))
        self.patch_embed = (PatchEmbedV1 if patch_embed == "v1" else PatchEmbedV2)(in_channels, dim)
        last = max(sum(depths) - 1, 1)
        rates = iter([drop_path * i / last for i in range(sum(depths))])
        self.stages = nn.ModuleList(
            nn.Sequential(*(VSSBlock(width, mlp_ratio, next(rates), **ssm) for _ in range(depth)))
            for width, depth in zip(self.dims, depths)
        )
        self.downsamples = nn.ModuleList(_downsample(downsample, width) for width in self.dims[:-1])
        self.apply(_init_linear)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return each stage's map, before it is halved.

        Args:
            image: `(B, C, H, W)`.

        Returns:
            Four maps `(B, H_s, W_s, d0 · 2^s)`, H_s ≈ H / 2^(s + 2).
        """
        x = self.patch_embed(image)
        maps = []
        for index, stage in enumerate(self.stages):
            x = stage(self.downsamples[index - 1](x) if index else x)
            maps.append(x)
        return maps

    def block_maps(self, image: Tensor) -> list[Tensor]:
        """Return the map after each block of all stages, `(B, H_s, W_s, d0 · 2^s)` each."""
        x = self.patch_embed(image)
        maps = []
        for index, stage in enumerate(self.stages):
            x = self.downsamples[index - 1](x) if index else x
            for block in stage.children():
                x = block(x)
                maps.append(x)
        return maps


def _normed(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    normed: Tensor = norm(x.to(norm.weight.dtype))
    return normed


def _downsample(version: str, dim: int) -> nn.Module:
    return PatchMerging(dim) if version == "v1" else Downsample(dim, 3 if version == "v3" else 2)


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
