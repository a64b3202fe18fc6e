"""SSAM: causal Mamba blocks over the time-frequency patches of a log-mel spectrogram.

Source: Yadav & Tan, arXiv 2406.02178; reference code SarthakYadav/audio-mamba-official.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from ..config import LogMelConfig, SSAMConfig
from ..errors import CheckpointError
from ..modules.mamba import MambaBlock, MixerState, check_trained_depth, mamba_blocks
from .base import Streamable
from .logmel_patches import LogMelPatchEncoder, grid_from_state


class SSAM(LogMelPatchEncoder, Streamable):
    """The SSAM encoder with its pretraining head; a class token stands before the patches.

    Args:
        config: sizes; see `SSAMConfig`.
        features: configuration of the spectrogram; its `n_mels` must be a multiple of the patch height.
    """

    config: SSAMConfig

    def make_blocks(self) -> nn.ModuleList:
        c = self.config
        self.n_run = check_trained_depth(c.trained_depth, c.depth)
        return mamba_blocks(
            c.depth, c.embed_dim, c.norm, c.norm_eps, d_state=c.d_state, d_conv=c.d_conv, expand=c.expand
        )

    def encode(self, tokens: Tensor) -> Tensor:
        stream = tokens.float()
        for block in self.blocks[: self.n_run]:
            stream = block(stream)
        normed: Tensor = self.encoder_norm(stream)
        return normed

    def hidden_states(self, features: Tensor) -> list[Tensor]:
        stream = self.embed(features).float()
        states = []
        for index, block in enumerate(self.blocks):
            stream = block(stream) if index < self.n_run else stream
            states.append(stream)
        return states

    def embed_next(self, features: Tensor, first_step: int) -> Tensor:
        if first_step == 0:
            return self.embed(features)
        self._check(features)
        tokens: Tensor = self.patch_embed(features)
        return tokens + self.positions(first_step, features.shape[1] // self.step).to(tokens.dtype)

    def step_tokens(self, tokens: Tensor, states: list[MixerState] | None) -> tuple[Tensor, list[MixerState]]:
        stream = tokens.float()
        following = []
        for index, block in enumerate(self.blocks[: self.n_run]):
            assert isinstance(block, MambaBlock)
            stream, state = block.step(stream, states[index] if states else None)
            following.append(state)
        normed: Tensor = self.encoder_norm(stream)
        return normed, following


def looks_like(state: Mapping[str, Tensor]) -> bool:
    """Tell whether a state dict has the keys of the published SSAM code."""
    return {"mask_token", "pred.0.weight", "blocks.0.mixer.A_log"} <= state.keys()


def config_from_state(state: Mapping[str, Tensor]) -> tuple[SSAMConfig, LogMelConfig]:
    """Read the sizes of a published SSAM from its tensors.

    The grid is not stored; it follows from the 80 mel bins that all published models use.

    Raises:
        CheckpointError: the tensors do not describe a model this package can build.
    """
    features = LogMelConfig()
    try:
        dim = state["pos_embed"].shape[-1]
        inner, d_state = state["blocks.0.mixer.A_log"].shape
        d_conv = state["blocks.0.mixer.conv1d.weight"].shape[-1]
        depth = 1 + max(int(k.split(".")[1]) for k in state if k.startswith("blocks."))
        grid, patch = grid_from_state(state, features)
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"not a complete SSAM checkpoint: {error!r}") from None
    norm: Literal["layer", "rms"] = "layer" if "blocks.0.norm.bias" in state else "rms"
    config = SSAMConfig(
        embed_dim=dim, depth=depth, patch_size=patch, grid=grid, d_state=d_state,
        d_conv=d_conv, expand=inner // dim, norm=norm, cls_token="cls_token" in state,
    )  # fmt: skip
    return config, features


def convert_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under our names: for SSAM they are the published ones."""
    return dict(state)
