"""What SSAMBA, AuM and Gong's SSAST share: filterbank patches, learned positions, rows and heads.

Tokens are frequency-major: all time steps of the lowest band, then those of the next. Source: Gong et
al., AAAI 2022 (SSAST), whose wrapper code SSAMBA keeps; Erol et al., arXiv 2406.03344 (AuM).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..config import FbankPatchConfig, KaldiFbankConfig
from ..errors import CheckpointError, ConfigError, InputError
from ..modules.patch_embed import PatchEmbed
from ..modules.pos_embed import fit_positions
from .base import PatchDiscriminator, Tagger


class FbankPatchEncoder(Tagger):
    """Base of the encoders over patches of a Kaldi filterbank; subclasses give the blocks.

    Args:
        config: sizes, strides and pooling; see `FbankPatchConfig`.
        features: configuration of the filterbank.

    Attributes:
        n_special: tokens in front of the patches: the class token, and DeiT's distillation token.
        shrink: how positions are fitted to shorter windows; see `fit_positions`.
    """

    n_special = 1
    shrink: Literal["cut", "resize"] = "cut"

    def __init__(self, config: FbankPatchConfig, features: KaldiFbankConfig) -> None:
        super().__init__()
        patch_frames, patch_bins = config.patch_size
        for name, stride, patch in (
            ("time_stride", config.time_stride, patch_frames),
            ("freq_stride", config.freq_stride, patch_bins),
        ):
            if not 1 <= stride <= patch:
                raise ConfigError(f"{name}: {stride} is not between 1 and the patch's {patch}")
        if patch_bins > features.n_mels:
            raise ConfigError(
                f"patch_size: {patch_bins} bins are more than the filterbank's {features.n_mels}"
            )
        dim = config.embed_dim
        self.config, self.n_mels = config, features.n_mels
        self.embed_dim = dim
        self.num_classes = config.num_classes
        # A window is padded to the canvas of the learned positions, as clips are in training.
        self.tag_frames = self.tag_padding = (config.grid[0] - 1) * config.time_stride + patch_frames
        self.step, self.first_center = config.time_stride, (patch_frames - 1) / 2
        self.patch_embed = PatchEmbed(
            config.patch_size, dim, (config.time_stride, config.freq_stride), "frequency", "freq_time"
        )
        self.n_freq = self.patch_embed.grid_of(patch_frames, features.n_mels)[1]
        self.frame_embedding_size = dim * (self.n_freq if config.pooling == "freq_concat" else 1)
        n_positions = self.n_special + config.grid[0] * config.grid[1]
        self.cls_token = nn.Parameter(torch.empty(1, self.n_special, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, n_positions, dim))
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def positions(self, n_time: int) -> Tensor:
        """Return the positions `(1, n_special + f · n_time, D)` of a window of `n_time` patches."""
        special, table = self.pos_embed[:, : self.n_special], self.pos_embed[:, self.n_special :]
        fitted = fit_positions(table, self.config.grid, (n_time, self.n_freq), self.shrink)
        return torch.cat([special, fitted], dim=1)

    def embed(self, features: Tensor) -> Tensor:
        """Return the tokens `(N, P, D)` that enter the first block, from `features` `(N, T, F)`."""
        return self._add_positions(self.patch_embed(self._checked(features)))

    def encode(self, tokens: Tensor) -> Tensor:
        """Return embedded tokens `(N, P, D)` after all blocks and the final norm, float32."""
        raise NotImplementedError

    def forward(self, features: Tensor) -> Tensor:
        return self.encode(self.embed(features))

    def hidden_states(self, features: Tensor) -> list[Tensor]:
        return list(self.streams(self.embed(features)))

    def streams(self, tokens: Tensor) -> Iterator[Tensor]:
        """Yield the residual stream `(N, P, D)` float32 after each block, from embedded tokens."""
        raise NotImplementedError

    def frames(self, tokens: Tensor) -> Tensor:
        n, _, dim = tokens.shape
        grid = tokens[:, self.n_special :].reshape(n, self.n_freq, -1, dim).transpose(1, 2)
        return grid.flatten(2) if self.config.pooling == "freq_concat" else grid.mean(dim=2)

    def fit_frames(self, n_frames: int) -> int:
        stride = self.config.time_stride
        rows = max(1, -(-n_frames // stride))
        return (rows - 1) * stride + self.config.patch_size[0]

    def count_rows(self, n_frames: int) -> int:
        return max(0, (n_frames - self.config.patch_size[0]) // self.config.time_stride + 1)

    def tag(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the clip's logits `(N, num_classes)`, and the same as its one row `(N, 1, num_classes)`.

        Raises:
            ConfigError: the model has no classifier.
        """
        logits = self.classify(features)
        return logits, logits[:, None]

    def classify(self, features: Tensor) -> Tensor:
        """Return the logits `(N, num_classes)` of spectrograms `(N, T, F)`.

        Raises:
            ConfigError: the model has no classifier.
        """
        if not self.num_classes:
            raise ConfigError("this model has no classifier: num_classes is 0")
        return self.class_logits(self(features))

    def class_logits(self, tokens: Tensor) -> Tensor:
        """Return the classifier's verdict `(N, num_classes)` on encoded tokens `(N, P, D)`, float32."""
        raise NotImplementedError

    def _add_positions(self, patches: Tensor) -> Tensor:
        special = self.cls_token.to(patches.dtype).expand(patches.shape[0], -1, -1)
        table = self.positions(patches.shape[1] // self.n_freq)
        return torch.cat([special, patches], dim=1) + table.to(patches.dtype)

    def _checked(self, features: Tensor) -> Tensor:
        if features.dim() != 3 or features.shape[2] != self.n_mels:
            shape = tuple(features.shape)
            raise InputError(f"features: shape {shape}, expected (windows, frames, {self.n_mels})")
        if features.shape[1] < self.config.patch_size[0]:
            raise InputError(f"features: {features.shape[1]} frames, a patch has {self.config.patch_size[0]}")
        return features


class MaskedPatchEncoder(FbankPatchEncoder, PatchDiscriminator):
    """A `FbankPatchEncoder` with the mask token and the two heads of joint masked patch modelling.

    Source: Gong et al., AAAI 2022, section "Joint discriminative and generative masked spectrogram patch
        modeling"; SSAMBA pretrains in the same way.
    """

    optional_keys = ("mask_token", "contrast_head.", "reconstruct_head.", "classifier.")

    def __init__(self, config: FbankPatchConfig, features: KaldiFbankConfig) -> None:
        super().__init__(config, features)
        dim, values = config.embed_dim, config.patch_size[0] * config.patch_size[1]
        self.mask_token = nn.Parameter(torch.empty(1, 1, dim))
        nn.init.xavier_normal_(self.mask_token)
        self.contrast_head = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, values))
        self.reconstruct_head = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, values))
        if config.num_classes:
            self.classifier = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, config.num_classes))

    def embed(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the tokens that enter the first block.

        Args:
            features: `(N, T, F)`.
            mask: `(N, f · t)`, true where a patch is hidden behind the mask token (frequency-major, as
                the tokens are), or None. Masked tokens keep their positions.

        Returns:
            `(N, P, D)`, special tokens first.
        """
        patches = self.patch_embed(self._checked(features))
        if mask is not None:
            mask = mask.to(device=patches.device, dtype=torch.bool)[..., None]
            patches = torch.where(mask, self.mask_token.to(patches.dtype), patches)
        return self._add_positions(patches)

    def contrast(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the discriminative head's guesses and the true patches, both `(N, f · t, bins · frames)`."""
        tokens = self.encode(self.embed(features, mask))[:, self.n_special :]
        return _head(self.contrast_head, tokens), self.patch_embed.patches(features)

    def reconstruct(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the generative head's patches and the true ones, both `(N, f · t, bins · frames)`."""
        tokens = self.encode(self.embed(features, mask))[:, self.n_special :]
        return _head(self.reconstruct_head, tokens), self.patch_embed.patches(features)

    def class_logits(self, tokens: Tensor) -> Tensor:
        return _head(self.classifier, tokens[:, self.n_special :].mean(dim=1))


def _head(head: nn.Sequential, tokens: Tensor) -> Tensor:
    """Apply a head whose linear layers may be in half precision; float32 out."""
    for layer in head:
        tokens = layer(tokens.to(layer.weight.dtype) if isinstance(layer, nn.Linear) else tokens)
    return tokens.float()


def strip_wrapper(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without the `module.` that `DataParallel` puts before each key."""
    return {key.removeprefix("module."): value for key, value in state.items()}


def convert_wrapped(state: Mapping[str, Tensor], renamed: Mapping[str, str]) -> dict[str, Tensor]:
    """Rename the tensors of the wrapper that SSAST and SSAMBA share.

    Args:
        state: a published state dict, with or without `module.`.
        renamed: further published beginnings of keys of the backbone (behind `v.`) and ours.

    Returns:
        The tensors under our names, without those no forward pass uses: the backbone's ImageNet head
        and the stored canvas size.
    """
    names = {
        "mask_embed": "mask_token",
        "cpredlayer.": "contrast_head.",
        "gpredlayer.": "reconstruct_head.",
        "mlp_head.": "classifier.",
        **{"v." + published: ours for published, ours in renamed.items()},
        "v.": "",
    }
    converted = {}
    for key, value in strip_wrapper(state).items():
        if key.startswith(("p_input_", "v.head.", "v.head_dist.")):
            continue
        for published, ours in names.items():
            if key.startswith(published):
                key = ours + key.removeprefix(published)
                break
        converted[key] = value
    return converted


def count_blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    """Return 1 + the largest number that follows `prefix` in the keys.

    Raises:
        ValueError: there is none.
    """
    return 1 + max(int(key[len(prefix) :].split(".")[0]) for key in state if key.startswith(prefix))


def filterbank_of(state: Mapping[str, Tensor]) -> KaldiFbankConfig:
    """Return the filterbank of an SSAST or SSAMBA wrapper: its bins, if the file stores its canvas."""
    bins = state.get("p_input_fdim")
    return KaldiFbankConfig() if bins is None else KaldiFbankConfig(n_mels=int(bins))


def patch_layout(state: Mapping[str, Tensor], n_special: int, n_mels: int) -> dict[str, Any]:
    """Read patch size, grid and strides from the tensors of an SSAST or SSAMBA wrapper.

    A pretraining checkpoint stores its canvas. A fine-tuned one does not; its grid follows from the
    number of positions, with the overlapping patches (stride 10) of the published fine-tuning recipes
    where their rows fit, else with patches side by side.

    Args:
        state: a state dict without `module.`.
        n_special: special tokens among the positions.
        n_mels: bins of the filterbank.

    Returns:
        Fields of a `FbankPatchConfig`.

    Raises:
        KeyError: a tensor is missing.
        CheckpointError: the positions fit no grid of patches.
    """
    bins, frames = state["v.patch_embed.proj.weight"].shape[2:]
    n_positions = state["v.pos_embed"].shape[1] - n_special
    if "p_input_tdim" in state:
        grid = (int(state["p_input_tdim"]) // frames, int(state["p_input_fdim"]) // bins)
        strides = (frames, bins)
    else:
        for strides in ((min(10, frames), min(10, bins)), (frames, bins)):
            n_freq = (n_mels - bins) // strides[1] + 1
            grid = (n_positions // n_freq, n_freq)
            if grid[0] * grid[1] == n_positions:
                break
    if grid[0] * grid[1] != n_positions:
        raise CheckpointError(
            f"{n_positions} positions do not fit patches of {frames} frames × {bins} bins on {n_mels} bins"
        )
    return {
        "patch_size": (frames, bins), "grid": grid, "time_stride": strides[0], "freq_stride": strides[1],
    }  # fmt: skip
