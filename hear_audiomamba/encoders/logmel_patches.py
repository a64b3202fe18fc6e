"""What SSAM and the Transformer it is compared with share: log-mel patches, fixed positions, rows and a head.

Tokens are time-major: the frequency patches of one time step lie side by side. Source: Yadav & Tan,
arXiv 2406.02178; reference code SarthakYadav/audio-mamba-official.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..config import LogMelConfig, LogMelPatchConfig
from ..errors import CheckpointError, ConfigError, InputError
from ..modules.patch_embed import PatchEmbed
from ..modules.pos_embed import sincos_2d
from .base import PatchPredictor, PublishedRuntime


class LogMelPatchEncoder(PatchPredictor, PublishedRuntime):
    """Base of the encoders over patches of a log-mel spectrogram; subclasses give the blocks.

    Positions are a fixed table that travels with the weights, so any number of time steps can be encoded.

    Args:
        config: sizes; see `LogMelPatchConfig`.
        features: configuration of the spectrogram; its `n_mels` must be a multiple of the patch height.
    """

    optional_keys = ("pred.", "mask_token")
    pos_embed: Tensor

    def __init__(self, config: LogMelPatchConfig, features: LogMelConfig) -> None:
        super().__init__()
        patch_frames, patch_bins = config.patch_size
        if features.n_mels % patch_bins:
            raise ConfigError(f"patch_size: {patch_bins} mel bins do not divide the {features.n_mels} bins")
        n_freq = features.n_mels // patch_bins
        if config.grid[1] != n_freq:
            config = config.replace(grid=(config.grid[0], n_freq))
        dim = config.embed_dim
        if dim % 4:
            raise ConfigError(f"embed_dim: {dim} is not a multiple of 4, as the table of positions needs it")
        self.config = config
        self.embed_dim, self.depth = dim, config.depth
        self.n_freq, self.n_special = n_freq, int(config.cls_token)
        self.step, self.first_center = patch_frames, (patch_frames - 1) / 2
        self.frame_embedding_size = n_freq * dim

        self.patch_embed = PatchEmbed(config.patch_size, dim)
        if config.cls_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.register_buffer("pos_embed", sincos_2d(dim, config.grid, config.cls_token))
        self.blocks = self.make_blocks()
        self.encoder_norm = nn.LayerNorm(dim, eps=config.norm_eps)
        patch_values = patch_frames * patch_bins
        self.pred = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, patch_values))
        self._init_weights()

    def make_blocks(self) -> nn.ModuleList:
        """Return the blocks, from `self.config`."""
        raise NotImplementedError

    def _init_weights(self) -> None:
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.view(self.embed_dim, -1))
        nn.init.constant_(self.patch_embed.proj.get_parameter("bias"), 0.0)
        nn.init.normal_(self.mask_token, std=0.02)
        if self.config.cls_token:
            nn.init.normal_(self.cls_token, std=0.02)
        for layer in self.pred:
            if isinstance(layer, nn.Linear):
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
        self._check(features)
        tokens: Tensor = self.patch_embed(features)
        table = self.positions(0, features.shape[1] // self.step).to(tokens.dtype)
        if mask is not None:
            mask = mask.to(device=tokens.device, dtype=torch.bool)[..., None]
            hidden = self.mask_token.to(tokens.dtype)
            if keep_positions:
                tokens = torch.where(mask, hidden, tokens) + table
            else:
                tokens = torch.where(mask, hidden, tokens + table)
        else:
            tokens = tokens + table
        if not self.n_special:
            return tokens
        cls = (self.cls_token + self.pos_embed[:, :1]).to(tokens.dtype)
        return torch.cat([cls.expand(tokens.shape[0], -1, -1), tokens], dim=1)

    def positions(self, first_step: int, n_steps: int) -> Tensor:
        """Return the positions `(1, n_steps · f, D)` of the patches of some time steps.

        The stored table has those of the training window; what lies behind it follows the formula.
        """
        in_table = min(max(self.config.grid[0] - first_step, 0), n_steps)
        start = self.n_special + first_step * self.n_freq
        stored = self.pos_embed[:, start : start + in_table * self.n_freq]
        if in_table == n_steps:
            return stored
        beyond = sincos_2d(
            self.embed_dim,
            (n_steps - in_table, self.n_freq),
            cls_token=False,
            first_step=first_step + in_table,
        )
        return torch.cat([stored, beyond.to(stored)], dim=1)

    def forward(self, features: Tensor) -> Tensor:
        return self.encode(self.embed(features))

    def predict_patches(self, tokens: Tensor) -> Tensor:
        patches: Tensor = self.pred(tokens[:, self.n_special :])
        return patches

    def frames(self, tokens: Tensor) -> Tensor:
        tokens = tokens[:, self.n_special :]
        return tokens.reshape(tokens.shape[0], -1, self.frame_embedding_size)

    def frames_published(self, tokens: Tensor) -> Tensor:
        """Regroup tokens as the authors' runtime does, which takes time-major tokens for frequency-major.

        Row j holds time steps 10·g + j//5 of band j%5 side by side for g = 0…4 (with 50 × 5 patches).
        """
        tokens = tokens[:, self.n_special :]
        n, p, d = tokens.shape
        grouped = tokens.reshape(n, self.n_freq, p // self.n_freq, d)
        return grouped.transpose(1, 2).reshape(n, p // self.n_freq, self.n_freq * d)

    def fit_frames(self, n_frames: int) -> int:
        return max(1, -(-n_frames // self.step)) * self.step

    def _check(self, features: Tensor) -> None:
        n_mels = self.n_freq * self.config.patch_size[1]
        if features.dim() != 3 or features.shape[2] != n_mels:
            raise InputError(f"features: shape {tuple(features.shape)}, expected (windows, frames, {n_mels})")
        if features.shape[1] == 0 or features.shape[1] % self.step:
            raise InputError(f"features: {features.shape[1]} frames, expected a multiple of {self.step}")


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
