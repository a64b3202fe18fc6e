"""The hierarchical Audio Mamba: VMamba's four stages over a folded spectrogram, with a tagging head.

The spectrogram of 10 s is long and thin; HTS-AT's fold makes it a square by stacking consecutive time
windows along frequency, the first at the top. With one window (`fold=1`) the same encoder is DASS.

Source: Lin & Hu, arXiv 2405.13636 and the configuration in diggerdu/AudioMamba; the fold and the
    token-semantic head of RetroCirce/HTS-Audio-Transformer; Bhati et al., arXiv 2407.04082 (DASS).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import HierMambaConfig, KaldiFbankConfig, LogMelConfig
from ..errors import ConfigError, InputError
from ..modules.vss import VMambaStages
from .base import Tagger

PATCH = 4
# Where the running statistics of the input norm start: about those of log-mel decibels of recordings,
# so that weights from images meet inputs of unit size before the first training step.
_START_MEAN_DB, _START_STD_DB = -40.0, 25.0
_START_SCALE = 0.3


def stretch(features: Tensor, n_frames: int) -> Tensor:
    """Resample spectrograms along time by bicubic interpolation, first and last frame kept in place.

    Args:
        features: `(N, T, F)`.
        n_frames: frames of the result.

    Returns:
        `(N, n_frames, F)`; the input itself if it has that length.

    Source: reshape_wav2img of HTS-AT.
    """
    if features.shape[1] == n_frames:
        return features
    size = (n_frames, features.shape[2])
    return F.interpolate(features[:, None], size, mode="bicubic", align_corners=True)[:, 0]


def fold_windows(features: Tensor, fold: int) -> Tensor:
    """Stack `fold` time windows of spectrograms along frequency.

    Args:
        features: `(N, T, F)`, T a multiple of fold.
        fold: number of windows.

    Returns:
        Images `(N, 1, fold · F, T / fold)`: row w · F + f, column t is frame w · T / fold + t, bin f.

    Source: reshape_wav2img of HTS-AT.
    """
    windows: Tensor = features.unflatten(1, (fold, -1))
    return windows.transpose(2, 3).flatten(1, 2)[:, None]


class TokenSemanticHead(nn.Module):
    """Class scores over time: a convolution over all frequency tokens and three neighbours in time.

    Source: tscam_conv of HTS-AT (Chen et al., arXiv 2202.00874, section 2.3).
    """

    def __init__(self, dim: int, n_freq: int, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, num_classes, (n_freq, 3), padding=(0, 1))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits `(N, t, classes)` of normed tokens `(N, t, n_freq, dim)`."""
        x = tokens.permute(0, 3, 2, 1).to(self.conv.weight.dtype)
        logits: Tensor = self.conv(x)
        return logits[:, :, 0].transpose(1, 2)


class PooledHead(nn.Module):
    """Class scores over time: a linear layer on the mean over frequency (the mean over time is VMamba's)."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits `(N, t, classes)` of normed tokens `(N, t, n_freq, dim)`."""
        logits: Tensor = self.linear(tokens.mean(dim=2).to(self.linear.weight.dtype))
        return logits


class InputNorm(nn.BatchNorm1d):
    """Batch norm of the mel bins, whose statistics move only where gradients are computed in training mode."""

    running_mean: Tensor
    running_var: Tensor

    def start(self, mean: float, std: float) -> None:
        """Let the running statistics begin here."""
        nn.init.constant_(self.running_mean, mean)
        nn.init.constant_(self.running_var, std**2)

    def forward(self, x: Tensor) -> Tensor:
        """Norm spectrograms `(N, n_mels, T)`."""
        if self.training and torch.is_grad_enabled():
            return super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class HierMamba(Tagger):
    """The hierarchical encoder with its tagging head.

    Args:
        config: sizes and options; see `HierMambaConfig`.
        features: configuration of the spectrogram; its `n_mels` must be a multiple of 32.

    Deviates: windows shorter than the training image are folded into as many, narrower time windows,
        not stretched to 10 s; only `tag` stretches, as the training did.
    """

    def __init__(self, config: HierMambaConfig, features: LogMelConfig | KaldiFbankConfig) -> None:
        super().__init__()
        levels = 2 ** (len(config.depths) - 1)
        if features.n_mels % (PATCH * levels):
            raise ConfigError(
                f"n_mels: {features.n_mels} is not a multiple of {PATCH * levels}, as {len(config.depths)} "
                "stages need"
            )
        if config.fold < 1 or config.canvas_frames % (config.fold * PATCH * levels):
            raise ConfigError(
                f"canvas_frames: {config.canvas_frames} is not a multiple of fold · {PATCH * levels} = "
                f"{config.fold * PATCH * levels}"
            )
        self.config, self.n_mels = config, features.n_mels
        self.depth = sum(config.depths)
        self.step = PATCH
        # Downsampling without padding would lose a column of an odd map.
        self._unit = config.fold * PATCH * (levels if config.downsample == "v2" else 1)
        # Overlapping convolutions centre a patch on its first frame, plain patches on their middle.
        self.first_center = 0.0 if config.patch_embed == "v2" else (PATCH - 1) / 2
        self.backbone = VMambaStages(
            1, config.dim, config.depths, config.patch_embed, config.downsample, config.mlp_ratio,
            config.drop_path, d_state=config.d_state, ssm_ratio=config.ssm_ratio, gate=config.gate,
            conv_bias=config.conv_bias, float32_scan=config.float32_scan,
        )  # fmt: skip
        dims = self.backbone.dims
        self.embed_dim = dims[-1]
        n_bands = features.n_mels // (PATCH * levels // 2)
        widths = {
            "multi_scale": sum(dims),
            "last": dims[-1],
            "bands": features.n_mels + n_bands * dims[-2] + dims[-1],
        }
        self.frame_embedding_size = widths[config.pooling]
        self.input_norm = self.start_norm(features.n_mels) if config.input_norm else None
        if self.input_norm is not None and config.pooling == "bands":
            # Beside inputs much larger than the first biases, the first norm over channels would forget the level.
            nn.init.constant_(self.input_norm.weight, _START_SCALE)
        self.norm = nn.LayerNorm(dims[-1])
        self.num_classes = 0 if config.head == "none" else config.num_classes
        self.tag_frames, self.tag_padding = config.canvas_frames, config.clip_frames
        self.head: nn.Module | None = None
        if config.head == "token_semantic":
            n_freq = features.n_mels // (PATCH * levels)
            self.head = TokenSemanticHead(dims[-1], n_freq, config.num_classes)
        elif config.head == "pooled":
            self.head = PooledHead(dims[-1], config.num_classes)

    @staticmethod
    def start_norm(n_mels: int) -> InputNorm:
        """Return the norm of the mel bins as it is before training."""
        norm = InputNorm(n_mels)
        norm.start(_START_MEAN_DB, _START_STD_DB)
        return norm

    def forward(self, features: Tensor) -> Tensor:
        """Return the last stage's normed tokens.

        Args:
            features: `(N, T, n_mels)`, T a multiple of fold · 4.

        Returns:
            `(N, P, D)` in time order; the frequency tokens of one time step lie side by side.
        """
        return self._last_tokens(self._image(features)).flatten(1, 2)

    def hidden_states(self, features: Tensor) -> list[Tensor]:
        """Return the maps after each block as tokens `(N, H · W, C)`, row by row of the folded image.

        Later stages have fewer tokens of larger width.
        """
        return [x.flatten(1, 2) for x in self.backbone.block_maps(self._image(features))]

    def frames(self, tokens: Tensor) -> Tensor:
        """Return the mean over frequency of the last stage's tokens, `(N, P, D)` to `(N, t, D)`.

        These rows lie 32 frames apart; `embed_frames`, which embeddings are made of, has finer ones.
        """
        n_freq = self.n_mels // (PATCH * 2 ** (len(self.config.depths) - 1))
        by_frequency: Tensor = tokens.unflatten(1, (-1, n_freq))
        return by_frequency.mean(dim=2)

    def embed_frames(self, features: Tensor) -> Tensor:
        """Return one row for every 4 frames.

        Args:
            features: `(N, T, n_mels)`, T a multiple of fold · 4.

        Returns:
            `(N, T / 4, K)`: the mean over frequency of each stage's normed map, stages side by side
            (`pooling="multi_scale"`), or that of the last stage alone (`"last"`), or that behind all frequencies
            of the stage before it and the normed spectrogram itself (`"bands"`), which tell high from low. A
            coarse stage's position is repeated over the rows it covers.
        """
        image = self._image(features)
        return self._rows(image, self.backbone(image))

    def rows_and_tags(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `embed_frames` returns and the clip's class logits, from one pass.

        Args:
            features: `(N, T, n_mels)`, T a multiple of fold · 4. They are not stretched: at T = `canvas_frames`
                the logits are those of `tag`.

        Returns:
            Rows `(N, T / 4, K)`, and logits `(N, classes)` float32.

        Raises:
            ConfigError: the model has no tagging head.
        """
        if self.head is None:
            raise ConfigError("this model has no tagging head")
        image = self._image(features)
        maps = self.backbone(image)
        return self._rows(image, maps), self.head(self._in_time_order(maps[-1])).float().mean(dim=1)

    def _rows(self, image: Tensor, maps: list[Tensor]) -> Tensor:
        """Return one row for every 4 frames, `(N, T / 4, K)`, of the folded image and the stages' maps."""
        fine = maps[0].shape[2]
        chosen = list(enumerate(maps))
        if self.config.pooling != "multi_scale":
            chosen = chosen[-1:] if self.config.pooling == "last" else chosen[-2:]
        rows = []
        if self.config.pooling == "bands":
            spectrum = image[:, 0].unflatten(1, (self.config.fold, -1)).unflatten(3, (-1, PATCH)).mean(dim=4)
            rows.append(spectrum.transpose(2, 3).to(maps[0].dtype))
        for stage, x in chosen:
            if stage == len(maps) - 1:
                x = self.norm(x)
            else:
                x = F.layer_norm(x, x.shape[-1:])
            x = x.unflatten(1, (self.config.fold, -1))
            bands = self.config.pooling == "bands" and stage == len(maps) - 2
            x = x.transpose(2, 3).flatten(3) if bands else x.mean(dim=2)
            rows.append(x[:, :, self._covering(stage, fine, x.shape[2], x.device)])
        return torch.cat(rows, dim=-1).flatten(1, 2)

    def tag(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits of spectrograms no longer than the training image.

        Args:
            features: `(N, T, n_mels)`, T at most `tag_frames`; shorter ones are stretched to it.

        Returns:
            Clip logits `(N, classes)`, and frame logits `(N, t, classes)` at t regular steps over T,
            whose mean the clip logits are; float32.

        Raises:
            ConfigError: the model has no tagging head.
            InputError: the spectrogram is longer than the training image.
        """
        if self.head is None:
            raise ConfigError("this model has no tagging head")
        if features.shape[1] > self.config.canvas_frames:
            raise InputError(
                f"features: {features.shape[1]} frames, at most {self.config.canvas_frames} are tagged at once"
            )
        tokens = self._last_tokens(self._image(features, stretched=True))
        logits = self.head(tokens).float()
        return logits.mean(dim=1), logits

    def fit_frames(self, n_frames: int) -> int:
        """Return the shortest window of at least `n_frames` that folds into whole patches.

        Lengths that the training image exceeds by less than one step of the last stage get the image's
        length, so that windows of 10 s are folded as in training.
        """
        canvas = self.config.canvas_frames
        coarse = self.config.fold * PATCH * 2 ** (len(self.config.depths) - 1)
        if canvas - coarse < n_frames <= canvas:
            return canvas
        return max(1, -(-n_frames // self._unit)) * self._unit

    def _image(self, features: Tensor, stretched: bool = False) -> Tensor:
        if features.dim() != 3 or features.shape[2] != self.n_mels:
            raise InputError(
                f"features: shape {tuple(features.shape)}, expected (windows, frames, {self.n_mels})"
            )
        if self.input_norm is not None:
            features = self.input_norm(features.transpose(1, 2)).transpose(1, 2)
        if stretched:
            features = stretch(features, self.config.canvas_frames)
        if features.shape[1] == 0 or features.shape[1] % self._unit:
            raise InputError(f"features: {features.shape[1]} frames, expected a multiple of {self._unit}")
        return fold_windows(features, self.config.fold)

    def _last_tokens(self, image: Tensor) -> Tensor:
        """Return the last stage's normed tokens in time order, `(N, t, frequency, D)`."""
        return self._in_time_order(self.backbone(image)[-1])

    def _in_time_order(self, last: Tensor) -> Tensor:
        normed: Tensor = self.norm(last)
        windows: Tensor = normed.unflatten(1, (self.config.fold, -1))
        return windows.transpose(2, 3).flatten(1, 2)

    def _covering(self, stage: int, n_fine: int, n_coarse: int, device: torch.device) -> Tensor:
        """Return, for each of `n_fine` positions of the first stage, the nearest of stage `stage`."""
        # A 3 × 3 convolution of stride 2 is centred on every second position, merging between two.
        half = 2**stage // 2 if self.config.downsample == "v3" else 0
        nearest: Tensor = (torch.arange(n_fine, device=device) + half) // 2**stage
        return nearest.clamp_max(n_coarse - 1)
