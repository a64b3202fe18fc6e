"""The pre-norm Transformer block of ViT, with fused attention: the two SSASTs share it."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..errors import ConfigError
from .linear import Linear, Mlp

# On processors with AMX, PyTorch's fused attention in bfloat16 fails where this variable keeps it from AVX-512. Trying
# it once would not tell: whether it fails depends on the lengths and on the number of threads.
_KEPT_FROM_AVX512 = "ATEN_CPU_CAPABILITY" in os.environ and not (
    torch.backends.cpu.get_cpu_capability().startswith("AVX512")
)


class Attention(nn.Module):
    """Multi-head self-attention over the token axis.

    Args:
        d_model: width, a multiple of `num_heads`.
        num_heads: heads.
    """

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        if num_heads < 1 or d_model % num_heads:
            raise ConfigError(f"num_heads: {num_heads} does not divide the width {d_model}")
        self.num_heads = num_heads
        self.qkv = Linear(d_model, 3 * d_model)
        self.proj = Linear(d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Attend: `(batch, L, d_model)` to the same shape."""
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.num_heads, width // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = _attend(q, k, v)
        mixed: Tensor = self.proj(y.transpose(1, 2).reshape(batch, length, width))
        return mixed


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if _KEPT_FROM_AVX512 and q.dtype == torch.bfloat16 and q.device.type == "cpu":
        with sdpa_kernel(SDPBackend.MATH):
            return F.scaled_dot_product_attention(q, k, v)
    return F.scaled_dot_product_attention(q, k, v)


class TransformerBlock(nn.Module):
    """Attention and MLP, each normed before and added to a float32 residual stream.

    Args:
        d_model: width.
        num_heads: attention heads.
        mlp_ratio: inner width of the MLP over `d_model`.
        eps: of the norms.

    Source: Dosovitskiy et al., arXiv 2010.11929; `Block` of timm's vision_transformer, no LayerScale.
    """

    def __init__(self, d_model: int, num_heads: int, mlp_ratio: int = 4, eps: float = 1e-6) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(d_model, eps=eps)
        self.attn = Attention(d_model, num_heads)
        self.norm2 = nn.LayerNorm(d_model, eps=eps)
        self.mlp = Mlp(d_model, mlp_ratio * d_model)

    def forward(self, stream: Tensor) -> Tensor:
        """Update the stream `(batch, L, d_model)`; the sublayers compute in their weights' dtype."""
        dtype = self.attn.qkv.weight.dtype
        attended: Tensor = self.attn(self.norm1(stream).to(dtype))
        stream = stream + attended
        mapped: Tensor = self.mlp(self.norm2(stream).to(dtype))
        return stream + mapped
