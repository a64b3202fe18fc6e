"""SSAST as Gong et al. released it: a DeiT with two special tokens over filterbank patches.

Source: Gong et al., "SSAST: Self-Supervised Audio Spectrogram Transformer", AAAI 2022; reference code
YuanGongND/ssast on timm 0.4.5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ..config import KaldiFbankConfig, SSASTDeiTConfig
from ..errors import CheckpointError
from ..modules.transformer import TransformerBlock
from .fbank_patches import (
    MaskedPatchEncoder,
    convert_wrapped,
    count_blocks,
    filterbank_of,
    patch_layout,
    strip_wrapper,
)
from .ssast import HEAD_WIDTH


class SSASTDeiT(MaskedPatchEncoder):
    """Gong's SSAST encoder with its two pretraining heads.

    The class token and the distillation token, in this order, stand before the patches. A patch model
    has patches of 16 frames × 16 bins, a frame model patches of 2 frames × all 128 bins.

    Args:
        config: sizes; see `SSASTDeiTConfig`.
        features: configuration of the filterbank.

    Deviates:
        Positions for fewer mel bins than pretrained on are cut from the middle, where the reference
        code mixes up its axes.
    """

    n_special = 2

    def __init__(self, config: SSASTDeiTConfig, features: KaldiFbankConfig) -> None:
        super().__init__(config, features)
        self.depth = config.depth
        self.blocks = nn.ModuleList(
            TransformerBlock(config.embed_dim, config.num_heads, config.mlp_ratio, config.norm_eps)
            for _ in range(config.depth)
        )
        for layer in self.blocks.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.norm = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)

    def encode(self, tokens: Tensor) -> Tensor:
        stream = tokens.float()
        for block in self.blocks:
            stream = block(stream)
        normed: Tensor = self.norm(stream)
        return normed

    def streams(self, tokens: Tensor) -> Iterator[Tensor]:
        stream = tokens.float()
        for block in self.blocks:
            stream = block(stream)
            yield stream


def looks_like(state: Mapping[str, Tensor]) -> bool:
    """Tell whether a state dict has the keys of Gong's SSAST code, pretrained or fine-tuned."""
    return {"v.dist_token", "v.blocks.0.attn.qkv.weight"} <= strip_wrapper(state).keys()


def config_from_state(state: Mapping[str, Tensor]) -> tuple[SSASTDeiTConfig, KaldiFbankConfig]:
    """Read the sizes of a released SSAST from its tensors; heads are taken to be 64 channels wide.

    Raises:
        CheckpointError: the tensors do not describe a model this package can build.
    """
    state = strip_wrapper(state)
    features = filterbank_of(state)
    try:
        dim = state["v.cls_token"].shape[-1]
        config = SSASTDeiTConfig(
            embed_dim=dim, depth=count_blocks(state, "v.blocks."), num_heads=max(1, dim // HEAD_WIDTH),
            mlp_ratio=state["v.blocks.0.mlp.fc1.weight"].shape[0] // dim,
            num_classes=len(state["mlp_head.1.weight"]) if "mlp_head.1.weight" in state else 0,
            **patch_layout(state, SSASTDeiT.n_special, features.n_mels),
        )  # fmt: skip
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"not a complete SSAST checkpoint: {error!r}") from None
    return config, features


def convert_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a released checkpoint under our names, without those no forward pass uses."""
    converted = convert_wrapped(state, {})
    special = [converted.pop(key) for key in ("cls_token", "dist_token") if key in converted]
    if special:
        converted["cls_token"] = torch.cat(special, dim=1)
    return converted
