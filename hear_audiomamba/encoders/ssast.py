"""SSAST as the SSAM paper trains it: SSAM's patches, positions and head around Transformer blocks.

Source: Yadav & Tan, arXiv 2406.02178; reference code SarthakYadav/audio-mamba-official. The published
SSAST of Gong et al., with other patches, is `encoders.ssast_deit`.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ..config import LogMelConfig, SSASTConfig
from ..errors import CheckpointError
from ..modules.transformer import TransformerBlock
from .logmel_patches import LogMelPatchEncoder, grid_from_state

# The published sizes all have heads of this width; a checkpoint does not store their number.
HEAD_WIDTH = 64

_PUBLISHED_NAMES = {
    ".attn.qkv_layer.": ".attn.qkv.",
    ".attn.proj_layer.": ".attn.proj.",
    ".mlp.layer1.": ".mlp.fc1.",
    ".mlp.layer2.": ".mlp.fc2.",
}


class SSAST(LogMelPatchEncoder):
    """The Transformer baseline of the SSAM paper.

    Args:
        config: sizes; see `SSASTConfig`.
        features: configuration of the spectrogram; its `n_mels` must be a multiple of the patch height.
    """

    config: SSASTConfig

    def make_blocks(self) -> nn.ModuleList:
        c = self.config
        blocks = nn.ModuleList(
            TransformerBlock(c.embed_dim, c.num_heads, c.mlp_ratio, c.norm_eps) for _ in range(c.depth)
        )
        for layer in blocks.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        return blocks

    def encode(self, tokens: Tensor) -> Tensor:
        stream = tokens.float()
        for block in self.blocks:
            stream = block(stream)
        normed: Tensor = self.encoder_norm(stream)
        return normed

    def hidden_states(self, features: Tensor) -> list[Tensor]:
        stream = self.embed(features).float()
        states = []
        for block in self.blocks:
            stream = block(stream)
            states.append(stream)
        return states


def looks_like(state: Mapping[str, Tensor]) -> bool:
    """Tell whether a state dict has the keys of the published SSAST baseline."""
    return {"mask_token", "pred.0.weight", "blocks.0.attn.qkv_layer.weight"} <= state.keys()


def config_from_state(state: Mapping[str, Tensor]) -> tuple[SSASTConfig, LogMelConfig]:
    """Read the sizes of a published SSAST baseline from its tensors.

    Raises:
        CheckpointError: the tensors do not describe a model this package can build.
    """
    features = LogMelConfig()
    try:
        dim = state["pos_embed"].shape[-1]
        depth = 1 + max(int(k.split(".")[1]) for k in state if k.startswith("blocks."))
        mlp_ratio = state["blocks.0.mlp.layer1.weight"].shape[0] // dim
        grid, patch = grid_from_state(state, features)
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"not a complete SSAST checkpoint: {error!r}") from None
    config = SSASTConfig(
        embed_dim=dim, depth=depth, num_heads=max(1, dim // HEAD_WIDTH), mlp_ratio=mlp_ratio,
        patch_size=patch, grid=grid, cls_token="cls_token" in state,
    )  # fmt: skip
    return config, features


def convert_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a published checkpoint under our names."""
    converted = {}
    for key, value in state.items():
        for published, ours in _PUBLISHED_NAMES.items():
            key = key.replace(published, ours)
        converted[key] = value
    return converted
