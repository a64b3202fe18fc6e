"""SSAM: causal Mamba blocks over the time-frequency patches of a log-mel spectrogram.

Source: Yadav & Tan, arXiv 2406.02178; reference code SarthakYadav/audio-mamba-official.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..config import LogMelConfig, SSAMConfig
from ..errors import CheckpointError, ConfigError, InputError
from ..modules.mamba import MixerState, mamba_blocks
from ..modules.patch_embed import PatchEmbed
from ..modules.pos_embed import sincos_2d
from .base import Encoder


class SSAM(Encoder):
    """The SSAM encoder with its pretraining head.

    Tokens are time-major (the frequency patches of one time step side by side) behind a class token;
    positions are a fixed table, so any number of time steps can be encoded.

    Args:
        config: sizes; see `SSAMConfig`.
        features: configuration of the spectrogram; its `n_mels` must be a multiple of the patch height.
    """

    causal = True
    optional_keys = ("pred.", "mask_token")

    def __init__(self, config: SSAMConfig, features: LogMelConfig) -> None:
        super().__init__()
        patch_frames, patch_bins = config.patch_size
        if features.n_mels % patch_bins:
            raise ConfigError(f"patch_size: {patch_bins} mel bins do not divide the {features.n_mels} bins")
        n_freq = features.n_mels // patch_bins
        if config.grid[1] != n_freq:
            config = config.replace(grid=(config.grid[0], n_freq))
        dim = config.embed_dim
        self.config = config
        self.embed_dim, self.depth = dim, config.depth
        self.n_freq = n_freq
        self.step, self.first_center = patch_frames, (patch_frames - 1) / 2
        self.frame_embedding_size = n_freq * dim

        self.patch_embed = PatchEmbed(config.patch_size, dim)
        if config.cls_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.register_buffer("pos_embed", sincos_2d(dim, config.grid, config.cls_token))
        self.blocks = self._make_blocks()
        self.encoder_norm = nn.LayerNorm(dim, eps=config.norm_eps)
        patch_values = patch_frames * patch_bins
        self.pred = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, patch_values))
        self._init_weights()

    def _make_blocks(self) -> nn.ModuleList:
        c = self.config
        return mamba_blocks(
            c.depth, c.embed_dim, c.norm, c.norm_eps, d_state=c.d_state, d_conv=c.d_conv, expand=c.expand
        )

    def _init_weights(self) -> None:
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.view(self.embed_dim, -1))
        nn.init.zeros_(self.patch_embed.proj.bias)
        nn.init.normal_(self.mask_token, std=0.02)
        if self.config.cls_token:
            nn.init.normal_(self.cls_token, std=0.02)
        for layer in (self.pred[0], self.pred[2]):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def embed(self, features: Tensor, mask: Tensor | None = None, keep_positions: bool = False) -> Tensor:
        """Return the tokens that enter the first block.

        Args:
            features: `(N, T, F)`, T a multiple of the patch length.
            mask: `(N, t · f)`, true where a patch is hidden behind the mask token, or None.
            keep_positions: add positions to masked tokens too. The published code replaces tokens
                after the positions were added, so that a masked token does not know where it stands.

        Returns:
            `(N, P, D)`, class token first.
        """
        n_time, n_freq = self._grid(features)
        tokens = self.patch_embed(features)
        table = self._positions(n_time, n_freq, tokens.dtype)
        first = int(self.config.cls_token)
        if mask is not None:
            mask = mask.to(device=tokens.device, dtype=torch.bool)[..., None]
            hidden = self.mask_token.to(tokens.dtype)
            if keep_positions:
                tokens = torch.where(mask, hidden, tokens) + table[:, first:]
            else:
                tokens = torch.where(mask, hidden, tokens + table[:, first:])
        else:
            tokens = tokens + table[:, first:]
        if not first:
            return tokens
        cls = (self.cls_token.to(tokens.dtype) + table[:, :1]).expand(tokens.shape[0], -1, -1)
        return torch.cat([cls, tokens], dim=1)

    def embed_next(self, features: Tensor, first_step: int) -> Tensor:
        """Return the tokens of a later piece of a sequence, to go on with in `step_tokens`.

        Args:
            features: the piece `(N, T, F)`, T a multiple of the patch length.
            first_step: patches in time before it; at 0 the class token comes first.

        Returns:
            `(N, P, D)`: what `embed` on the whole sequence has in this place.
        """
        if first_step == 0:
            return self.embed(features)
        n_time, n_freq = self._grid(features)
        table = sincos_2d(self.embed_dim, (n_time, n_freq), cls_token=False, first_step=first_step)
        tokens = self.patch_embed(features)
        return tokens + table.to(device=tokens.device, dtype=tokens.dtype)

    def encode(self, tokens: Tensor) -> Tensor:
        """Return embedded tokens `(N, P, D)` after all blocks and the final norm, float32."""
        hidden, residual = tokens, None
        for block in self.blocks:
            hidden, residual = block(hidden, residual)
        return self.encoder_norm(residual + hidden)

    def forward(self, features: Tensor) -> Tensor:
        return self.encode(self.embed(features))

    def reconstruct(
        self, features: Tensor, mask: Tensor, keep_positions: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return predicted and true patches, both `(N, t · f, frames · bins)`, for masked modelling."""
        tokens = self.encode(self.embed(features, mask, keep_positions))
        return self.pred(tokens[:, int(self.config.cls_token) :]), self.patch_embed.patches(features)

    def hidden_states(self, features: Tensor) -> list[Tensor]:
        hidden, residual = self.embed(features), None
        states = []
        for block in self.blocks:
            hidden, residual = block(hidden, residual)
            states.append(residual + hidden)
        return states

    def step_tokens(self, tokens: Tensor, states: list[MixerState] | None) -> tuple[Tensor, list[MixerState]]:
        """Encode the next tokens of a sequence, going on from `states` (None at its start).

        Args:
            tokens: embedded tokens `(N, L, D)`, in order, L ≥ 1.
            states: one for each block, as the call before returned them.

        Returns:
            The normed tokens `(N, L, D)`, equal to the same rows of `encode` on the whole sequence, and
            the states to go on with.
        """
        hidden, residual = tokens, None
        following = []
        for index, block in enumerate(self.blocks):
            hidden, residual, state = block.step(hidden, residual, states[index] if states else None)
            following.append(state)
        return self.encoder_norm(residual + hidden), following

    def frames(self, tokens: Tensor) -> Tensor:
        tokens = tokens[:, int(self.config.cls_token) :]
        return tokens.reshape(tokens.shape[0], -1, self.frame_embedding_size)

    def frames_published(self, tokens: Tensor) -> Tensor:
        """Regroup tokens as the authors' runtime does, which takes time-major tokens for frequency-major.

        Row j holds time steps 10·g + j//5 of band j%5 side by side for g = 0…4 (with 50 × 5 patches).
        """
        tokens = tokens[:, int(self.config.cls_token) :]
        n, p, d = tokens.shape
        grouped = tokens.reshape(n, self.n_freq, p // self.n_freq, d)
        return grouped.transpose(1, 2).reshape(n, p // self.n_freq, self.n_freq * d)

    def fit_frames(self, n_frames: int) -> int:
        return max(1, -(-n_frames // self.step)) * self.step

    def _grid(self, features: Tensor) -> tuple[int, int]:
        n_mels = self.n_freq * self.config.patch_size[1]
        if features.dim() != 3 or features.shape[2] != n_mels:
            raise InputError(f"features: shape {tuple(features.shape)}, expected (windows, frames, {n_mels})")
        if features.shape[1] == 0 or features.shape[1] % self.step:
            raise InputError(f"features: {features.shape[1]} frames, expected a multiple of {self.step}")
        return features.shape[1] // self.step, self.n_freq

    def _positions(self, n_time: int, n_freq: int, dtype: torch.dtype) -> Tensor:
        if n_time <= self.config.grid[0]:  # tokens are time-major: a shorter window is a prefix
            return self.pos_embed[:, : int(self.config.cls_token) + n_time * n_freq].to(dtype)
        table = sincos_2d(self.embed_dim, (n_time, n_freq), self.config.cls_token)
        return table.to(device=self.pos_embed.device, dtype=dtype)


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
    norm = "layer" if "blocks.0.norm.bias" in state else "rms"
    config = SSAMConfig(
        embed_dim=dim, depth=depth, patch_size=patch, grid=grid, d_state=d_state,
        d_conv=d_conv, expand=inner // dim, norm=norm, cls_token="cls_token" in state,
    )  # fmt: skip
    return config, features


def grid_from_state(
    state: Mapping[str, Tensor], features: LogMelConfig
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the grid of patches and the patch size, both (time, frequency), from the tensors' shapes.

    Raises:
        KeyError: the patch or position tensors are missing.
        CheckpointError: the patches do not tile the mel bins.
    """
    patch_frames, patch_bins = state["patch_embed.proj.weight"].shape[2:]
    n_freq, rest = divmod(features.n_mels, patch_bins)
    n_patches = state["pos_embed"].shape[1] - int("cls_token" in state)
    if rest or not n_freq or n_patches % n_freq:
        raise CheckpointError(
            f"patches of {patch_frames} frames × {patch_bins} bins do not tile {features.n_mels} mel bins; "
            "models trained with frequency_first=True are not supported (broken in the reference code)"
        )
    return (n_patches // n_freq, n_freq), (patch_frames, patch_bins)


def convert_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under our names: for SSAM they are the published ones."""
    return dict(state)
