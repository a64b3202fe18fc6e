"""The configurations of features, encoders and models.

A `ModelConfig` names a family and holds the configuration of its features and of its encoder. Which
class each of the two is, the `family` decides: see `hear_audiomamba.models.families.FAMILIES`.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Any

from ..errors import ConfigError, shown
from .base import Config


@dataclasses.dataclass(frozen=True)
class LogMelConfig(Config):
    """A log-mel spectrogram of centred, reflect-padded frames (`frontends.logmel.LogMel`).

    Frequencies in Hz, lengths in samples. `normalize="clip"` subtracts each clip's mean and divides by
    its standard deviation plus 1e-8; `"none"` leaves the logarithm as it is.
    """

    sample_rate: int = 16000
    n_fft: int = 400
    win_length: int = 400
    hop_length: int = 160
    n_mels: int = 80
    f_min: float = 50.0
    f_max: float = 8000.0
    mel_scale: typing.Literal["htk", "slaney"] = "htk"
    mel_norm: typing.Literal["none", "slaney"] = "none"
    log: typing.Literal["ln", "db"] = "ln"
    normalize: typing.Literal["clip", "none"] = "clip"


@dataclasses.dataclass(frozen=True)
class KaldiFbankConfig(Config):
    """Kaldi's log-mel filterbank without dither (`frontends.kaldi.KaldiFbank`).

    Frequencies in Hz, lengths in samples. The energies are normalised as `(x - mean) / (2 * std)`; the
    defaults are the constants SSAST and SSAMBA were pretrained with. `window` is the symmetric Hann
    window or Kaldi's own default.
    """

    sample_rate: int = 16000
    frame_length: int = 400
    hop_length: int = 160
    n_mels: int = 128
    f_min: float = 20.0
    f_max: float = 8000.0
    window: typing.Literal["hanning", "povey"] = "hanning"
    preemphasis: float = 0.97
    mean: float = -4.2677393
    std: float = 4.5689974


@dataclasses.dataclass(frozen=True)
class LogMelPatchConfig(Config):
    """What SSAM and its Transformer baseline share: patches of a log-mel spectrogram, fixed positions.

    `grid` is the training window in patches (time, frequency); `patch_size` is (frames, mel bins).
    """

    embed_dim: int = 192
    depth: int = 12
    patch_size: tuple[int, int] = (4, 16)
    grid: tuple[int, int] = (50, 5)
    norm_eps: float = 1e-6
    cls_token: bool = True


@dataclasses.dataclass(frozen=True)
class SSAMConfig(LogMelPatchConfig):
    """The SSAM encoder (Yadav & Tan, arXiv 2406.02178): causal Mamba over spectrogram patches.

    The first `trained_depth` blocks are run. The weights of the others are kept for further training, but are
    not trained yet. None runs all blocks.
    """

    d_state: int = 24
    d_conv: int = 4
    expand: int = 3
    norm: typing.Literal["layer", "rms"] = "layer"
    trained_depth: int | None = None


@dataclasses.dataclass(frozen=True)
class SSASTConfig(LogMelPatchConfig):
    """The Transformer that SSAM is compared with: its patches and positions, ViT blocks (`encoders.ssast`).

    The published sizes have `embed_dim // 64` heads.
    """

    num_heads: int = 3
    mlp_ratio: int = 4


@dataclasses.dataclass(frozen=True)
class FbankPatchConfig(Config):
    """What SSAMBA, AuM and Gong's SSAST share: patches of a Kaldi filterbank with learned positions.

    `patch_size` is (frames, mel bins); `grid` the canvas of the learned positions in patches (time,
    frequency). `time_stride` and `freq_stride` are frames and bins between patches; smaller than the
    patch, patches overlap. `pooling` makes a row of one time step's patches: side by side in frequency
    (K = frequency patches · embed_dim) or their mean (K = embed_dim). `num_classes` > 0 adds a
    classifier.
    """

    embed_dim: int = 192
    depth: int = 24
    patch_size: tuple[int, int] = (16, 16)
    grid: tuple[int, int] = (64, 8)
    time_stride: int = 16
    freq_stride: int = 16
    pooling: typing.Literal["freq_concat", "mean"] = "freq_concat"
    num_classes: int = 0


@dataclasses.dataclass(frozen=True)
class SSAMBAConfig(FbankPatchConfig):
    """The SSAMBA encoder (Shams et al., arXiv 2405.11831): pairs of bidirectional Mamba layers.

    `depth` counts layers, two to a pair, and is even; so is `trained_depth` (see `SSAMConfig`).
    """

    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    norm: typing.Literal["layer", "rms"] = "layer"
    norm_eps: float = 1e-5
    trained_depth: int | None = None


@dataclasses.dataclass(frozen=True)
class AuMConfig(FbankPatchConfig):
    """The AuM encoder (Erol et al., arXiv 2406.03344): Mamba blocks around a class token in the middle.

    `direction`: "fofo" scans forward only, "fobi" scans both ways behind one forward convolution,
    "bibi" has a convolution and a scan for each way. `trained_depth` as in `SSAMConfig`.
    """

    direction: typing.Literal["fofo", "fobi", "bibi"] = "fobi"
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    norm: typing.Literal["layer", "rms"] = "rms"
    norm_eps: float = 1e-5
    trained_depth: int | None = None


@dataclasses.dataclass(frozen=True)
class SSASTDeiTConfig(FbankPatchConfig):
    """Gong et al.'s SSAST (AAAI 2022): a DeiT with class and distillation token over filterbank patches."""

    depth: int = 12
    num_heads: int = 3
    mlp_ratio: int = 4
    norm_eps: float = 1e-6


@dataclasses.dataclass(frozen=True)
class HierMambaConfig(Config):
    """The hierarchical Audio Mamba (Lin & Hu, arXiv 2405.13636) and DASS: a VMamba over a spectrogram.

    `dim` is the first stage's width, doubled at each of the following ones; the defaults are VMamba-T
    of the second generation. `fold` time windows are stacked along frequency before the first patch.
    `canvas_frames` is the length of a training image, to which a clip of `clip_frames` is stretched.
    `input_norm` normalises each mel bin; `head` is the kind of tagging head. `pooling` says what a
    row holds: the features of all stages (`multi_scale`), or of the last, each the mean over frequency; or that
    behind the spectrogram and all frequencies of the stage before it (`bands`). `float32_scan` keeps the scan in
    float32.
    """

    dim: int = 96
    depths: tuple[int, int, int, int] = (2, 2, 8, 2)
    d_state: int = 1
    ssm_ratio: float = 1.0
    gate: bool = False
    conv_bias: bool = False
    float32_scan: bool = False
    mlp_ratio: float = 4.0
    patch_embed: typing.Literal["v1", "v2"] = "v2"
    downsample: typing.Literal["v1", "v2", "v3"] = "v3"
    fold: int = 4
    canvas_frames: int = 1024
    clip_frames: int = 1001
    input_norm: bool = True
    head: typing.Literal["token_semantic", "pooled", "none"] = "token_semantic"
    num_classes: int = 527
    pooling: typing.Literal["multi_scale", "last", "bands"] = "multi_scale"
    drop_path: float = 0.0


@dataclasses.dataclass(frozen=True)
class ModelConfig(Config):
    """All that is needed to build a model: stored in the metadata of every weights file of ours.

    `scene_pooling` makes a scene embedding of a clip's rows: see `embedding.pooling.pool_rows`. Timestamp
    embeddings are the rows, averaged with their neighbours by weights that decay with the time constant
    `timestamp_smoothing_ms`: see `embedding.pooling.smooth_rows`; 0, as in the papers, leaves them as they are.
    `labels` names the classes of a tagging head in the order of its outputs; empty where the file does not say.
    With `single_label`, exactly one of them is heard in a clip, and their probabilities add up to 1.
    """

    family: str
    variant: str
    features: Any
    encoder: Any
    window_seconds: float = 2.0
    scene_pooling: typing.Literal["mean", "mean_plus_max"] = "mean"
    timestamp_smoothing_ms: float = 0.0
    labels: tuple[str, ...] = ()
    single_label: bool = False


# Beyond any model: building one would fill the memory first, or never end.
_MOST, _MOST_BLOCKS = 1 << 24, 1 << 10


def check_sizes(part: Config) -> None:
    """Refuse a features or encoder configuration with numbers that no model can have.

    Raises:
        ConfigError: says which setting, and what is allowed.
    """
    values = part.to_dict()
    for name, value in values.items():
        least = 0 if name == "num_classes" else 1
        most = _MOST_BLOCKS if "depth" in name else _MOST
        for number in value if isinstance(value, list) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise ConfigError(f"{name}: {number} is not a finite number")
            if isinstance(number, int) and not isinstance(number, bool) and number < least:
                raise ConfigError(f"{name}: {number} is less than {least}")
            if isinstance(number, int) and number > most:
                raise ConfigError(f"{name}: {shown(number)} is more than {most}")
    for name in ("std", "norm_eps", "ssm_ratio"):
        if values.get(name, 1) <= 0:
            raise ConfigError(f"{name}: {values[name]:g} is not more than 0")
    if values.get("mlp_ratio", 0) < 0:  # 0: the first VMamba has no MLP in its blocks
        raise ConfigError(f"mlp_ratio: {values['mlp_ratio']:g} is less than 0")
    if "sample_rate" in values:
        low, high, nyquist = values["f_min"], values["f_max"], values["sample_rate"] / 2
        if not 0 <= low < high <= nyquist:
            raise ConfigError(f"f_min {low:g}, f_max {high:g} Hz: expected 0 ≤ f_min < f_max ≤ {nyquist:g}")
    if values.get("win_length", 0) > values.get("n_fft", 0):
        raise ConfigError(f"win_length: {values['win_length']} is more than n_fft, {values['n_fft']}")
