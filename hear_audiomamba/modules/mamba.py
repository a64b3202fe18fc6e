"""The residual block of the Mamba mixer, and stacks of it: SSAM, SSAMBA and AuM share them."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..ops.mixer import Norm
from .mamba_mixer import Bidirectional, MambaMixer, MixerState, StepSize, hooked
from .norm import RMSNorm, make_norm

__all__ = [
    "Bidirectional", "MambaBlock", "MambaMixer", "MixerState", "RMSNorm", "StepSize", "check_trained_depth",
    "hooked", "make_norm", "mamba_blocks",
]  # fmt: skip


class MambaBlock(nn.Module):
    """A norm and a mixer, which read the residual stream, and add to it.

    The stream is kept in float32 whatever the mixer computes in (`residual_in_fp32` of the reference code).

    Args:
        d_model: width.
        norm: "layer" or "rms".
        eps: of the norm.
        mixer: arguments of `MambaMixer`.
    """

    def __init__(
        self, d_model: int, norm: Literal["layer", "rms"] = "layer", eps: float = 1e-6, **mixer: Any
    ) -> None:
        super().__init__()
        self.norm = make_norm(norm, d_model, eps)
        self.mixer = MambaMixer(d_model, **mixer)

    def forward(self, stream: Tensor, reverse: bool = False) -> Tensor:
        """Return the stream behind the block, `(batch, L, d_model)` float32.

        Args:
            stream: `(batch, L, d_model)` float32.
            reverse: see `MambaMixer.forward`.
        """
        norm = None if hooked(self.norm) or hooked(self.mixer) else _read_norm(self.norm)
        behind = None if norm is None else self.mixer.in_block(stream, norm, reverse)
        if behind is not None:
            return behind
        mixed: Tensor = self.mixer(self._normed(stream), reverse)
        return stream + mixed

    def step(self, stream: Tensor, state: MixerState | None) -> tuple[Tensor, MixerState]:
        """Like `forward`, for the next piece of a sequence (see `MambaMixer.step`)."""
        mixed, state = self.mixer.step(self._normed(stream), state)
        return stream + mixed, state

    def _normed(self, stream: Tensor) -> Tensor:
        normed: Tensor = self.norm(stream)
        return normed.to(self.mixer.in_proj.weight.dtype)


def mamba_blocks(
    depth: int, d_model: int, norm: Literal["layer", "rms"], eps: float, **mixer: Any
) -> nn.ModuleList:
    """Return `depth` blocks that add to one stream, arguments as those of `MambaBlock`.

    Their output projections start scaled by 1/√depth, as in GPT-2, so that the stream's variance stays put.
    """
    blocks = [MambaBlock(d_model, norm, eps, **mixer) for _ in range(depth)]
    with torch.no_grad():
        for block in blocks:
            block.mixer.out_proj.weight /= depth**0.5
    return nn.ModuleList(blocks)


def check_trained_depth(trained_depth: int | None, depth: int) -> int:
    """Return how many blocks are run: `trained_depth`, or all where it is None.

    A model may have more blocks than were trained. Their output projections are still zero, so they would
    add nothing to the stream.

    Raises:
        ConfigError: `trained_depth` is not from 1 to `depth`.
    """
    if trained_depth is not None and not 1 <= trained_depth <= depth:
        raise ConfigError(f"trained_depth: {trained_depth} is not from 1 to the {depth} blocks")
    return depth if trained_depth is None else trained_depth


def _read_norm(module: nn.Module) -> Norm | None:
    if isinstance(module, RMSNorm):
        return Norm("rms", module.weight, None, module.eps)
    if isinstance(module, nn.LayerNorm):
        return Norm("layer", module.weight, module.bias, module.eps)
    return None
