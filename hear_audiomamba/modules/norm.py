"""Norms over the last axis."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis with a learned scale, computed in float32."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return x / rms(x) · weight, in x's dtype and shape."""
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps).to(x.dtype)


def make_norm(kind: Literal["layer", "rms"], width: int, eps: float) -> nn.Module:
    """Return a LayerNorm or an RMSNorm over `width` channels."""
    return nn.LayerNorm(width, eps=eps) if kind == "layer" else RMSNorm(width, eps=eps)
