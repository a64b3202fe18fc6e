"""What a pretraining run is: one YAML file, strict about its keys, read over a base file if it names one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from ..config import Config, load_config, parse_yaml
from ..errors import ConfigError, did_you_mean
from ..models.bundled import bundled_path


@dataclass(frozen=True)
class DataConfig(Config):
    """Where the audio is and how clips are cut from it.

    `path` is a folder of audio, a manifest (`.csv`, `.json`, `.jsonl`), webdataset tars (a folder, a
    glob, a brace pattern `shards-{000..031}.tar`, or URLs of them), or a folder of log-mels (`.npy`,
    `(T, F)`, not normalised). A folder that holds a `manifest.csv` is read by it. `split` and
    `valid_split` choose rows of a manifest by their `split` column, or sub-folders of that name.

    An epoch has one crop of each clip (`epoch: clips`, as published) or as many as it is long
    (`epoch: seconds`). `weights` draws clips by the manifest's `kind` instead: `{speech: 1, music: 1}`
    takes as many crops of either, however much there is. `balance: classes` draws a clip as often as
    its rarest labels ask for. Clips shorter than a crop are repeated (`tile`) or followed by silence
    after normalisation (`pad`).
    """

    path: str = ""
    format: Literal["auto", "audio", "webdataset", "logmel"] = "auto"
    split: str | None = "train"
    valid_split: str | None = "valid"
    crop_seconds: float = 2.0
    short_clips: Literal["tile", "pad"] = "tile"
    epoch: Literal["clips", "seconds"] = "clips"
    weights: dict | None = None
    balance: Literal["none", "classes"] = "none"
    labels: str | None = None
    workers: int = 2
    cache: str | None = None


@dataclass(frozen=True)
class MaskConfig(Config):
    """Which patches are hidden.

    `kind: random` hides single patches, `clusters` squares whose side is drawn from `cluster` (lowest,
    highest) for each clip. How many: `count`, or else the share `ratio` of all.
    """

    kind: Literal["random", "clusters"] = "random"
    ratio: float = 0.5
    count: int | None = None
    cluster: tuple[int, int] = (3, 5)


@dataclass(frozen=True)
class ObjectiveConfig(Config):
    """What is minimised; which keys count depends on the recipe.

    Masked reconstruction (`ssam`): `loss_on` all patches (as published) or the masked ones;
    `keep_positions` leaves masked tokens their positions (the published code does not);
    `normalize_patches` makes every target patch zero-mean with unit variance. `ssamba`:
    `generative_weight` is the factor of the generative loss. `tagging`: `label_smoothing`.
    """

    loss_on: Literal["all", "masked"] = "all"
    keep_positions: bool = False
    normalize_patches: bool = False
    generative_weight: float = 10.0
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class DistillConfig(Config):
    """Learning from teachers' embeddings of fixed crops (see docs/pretraining.md for the folder).

    `targets` is the folder, None for none. `teachers` gives a weight to each teacher used; None takes
    all with weight 1. A head for each teacher reads the scene vector: `linear`, or `mlp` with `hidden`
    units. Targets are standardised with the folder's mean and std. `weight` is that of the sum of the
    teachers' losses, `reconstruction_weight` that of the recipe's own loss, which is taken on the share
    `masked` of the clips; the others are seen whole. With the recipe "tagging" and `soft_labels`, a
    teacher's row is a logit for each class, softened by `temperature`, and `weight` between 0 and 1 is
    the share of the loss against them. With the recipe "distill", `tags` names the teacher whose rows of
    class scores the model's own tagging head predicts, in place of a head beside it.
    """

    targets: str | None = None
    teachers: dict | None = None
    head: Literal["linear", "mlp"] = "linear"
    hidden: int = 512
    loss: Literal["mse", "l1", "cosine", "l1_cosine"] = "mse"
    weight: float = 1.0
    reconstruction_weight: float = 1.0
    masked: float = 0.5
    soft_labels: bool = False
    temperature: float = 1.0
    jitter_seconds: float = 0.0
    tags: str | None = None


@dataclass(frozen=True)
class AugmentConfig(Config):
    """Changes of the waveform, each with the probability that a crop gets it; all off by default.

    `gain_db` is the largest change up or down; `noise_snr_db`, `mix_snr_db` the range of the ratio of
    the clip to coloured noise or to another crop; `speed` the range of the factor (pitch and tempo
    together); `reverb_seconds` the range of the time in which the echo falls by 60 dB. `mixup` is the
    chance that another clip and its labels are blended in, with a share drawn from a Beta distribution
    of both parameters `mixup_alpha`. `spec_time` and `spec_freq` are the widest stretches of frames and
    of mel bins that SpecAugment blanks.
    """

    gain: float = 0.0
    gain_db: float = 12.0
    noise: float = 0.0
    noise_snr_db: tuple[float, float] = (5.0, 40.0)
    mix: float = 0.0
    mix_snr_db: tuple[float, float] = (0.0, 15.0)
    speed: float = 0.0
    speed_range: tuple[float, float] = (0.8, 1.25)
    reverb: float = 0.0
    reverb_seconds: tuple[float, float] = (0.1, 0.8)
    mixup: float = 0.0
    mixup_alpha: float = 10.0
    spec_time: int = 0
    spec_freq: int = 0


@dataclass(frozen=True)
class OptimConfig(Config):
    """AdamW and its schedule.

    `lr` is for `lr_batch` clips a step and scales with the batch; None takes it as it is. The batch of a
    step is `batch` clips; every process takes `micro_batch` of them at a time (None: as many as fit into
    memory; see `run/memory.py`).
    The rate rises linearly for `warmup_epochs` (or `warmup_steps`), then falls: `cosine` to `min_lr`, or
    stays `constant` until a linear fall over the last `cooldown` share of the steps.
    """

    lr: float = 1.5e-4
    lr_batch: int | None = 256
    batch: int = 256
    micro_batch: int | None = None
    epochs: float = 100.0
    steps: int | None = None
    warmup_epochs: float = 10.0
    warmup_steps: int | None = None
    schedule: Literal["cosine", "constant"] = "cosine"
    cooldown: float = 0.0
    min_lr: float = 0.0
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    clip_norm: float | None = None
    ema: float | None = None


@dataclass(frozen=True)
class RunConfig(Config):
    """Where the run lives and what it keeps; intervals in steps, 0 for never.

    `tensorboard`: None writes for it where it is installed. `wandb` is a project's name. `max_seconds`
    ends the run early, with a checkpoint to go on from.
    """

    out: str = ""
    log_every: int = 10
    checkpoint_every: int = 1000
    keep: int = 2
    valid_every: int = 0
    valid_clips: int = 512
    picture_every: int = 0
    progress: bool = True
    tensorboard: bool | None = None
    wandb: str | None = None
    max_seconds: float | None = None
    min_free_gb: float = 1.0


@dataclass(frozen=True)
class ProbeConfig(Config):
    """A small classifier on HEAR-format tasks during the run, on frozen scene embeddings.

    `tasks_dir` holds `<task>-<version>/` folders; `tasks` names some of them (None: all scene tasks).
    `every` is in steps, `max_clips` bounds the clips a task, `folds` the test folds of a k-fold task.
    """

    tasks_dir: str | None = None
    tasks: tuple[str, ...] | None = None
    every: int = 0
    kind: Literal["linear", "knn"] = "linear"
    max_clips: int | None = None
    folds: int | None = 1
    at_start: bool = True


@dataclass(frozen=True)
class PretrainConfig(Config):
    """A pretraining run.

    `recipe`: "ssam" (masked reconstruction), "ssamba" (joint discriminative and generative masked
    patches), "tagging" (supervised, with labels) or "distill" (teachers only). `model` is a variant's
    name and `model_options` changes single settings of it. `init` is a weights file to start from, of the
    same depth or less, or another run's folder, whose teachers' heads are taken along too.
    """

    recipe: Literal["ssam", "ssamba", "tagging", "distill"] = "ssam"
    model: str = "ssam_tiny_200_16x4"
    model_options: dict = field(default_factory=dict)
    init: str | None = None
    seed: int = 0
    device: str | None = None
    threads: int | None = None
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: bool = False
    activation_checkpointing: bool = False
    backend: str | None = None
    data: DataConfig = DataConfig()
    mask: MaskConfig = MaskConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    distill: DistillConfig = DistillConfig()
    augment: AugmentConfig = AugmentConfig()
    optim: OptimConfig = OptimConfig()
    run: RunConfig = RunConfig()
    probe: ProbeConfig = ProbeConfig()


def read_config(name: str | Path, overrides: Sequence[str] = ()) -> PretrainConfig:
    """Read a run's configuration.

    Args:
        name: a YAML or JSON file, or the name of a bundled one ("ssam_tiny"). Its key `base` names a
            file, beside it or bundled, whose values it changes.
        overrides: `key.subkey=value` strings, values in YAML; they win over the file.

    Returns:
        The checked configuration.

    Raises:
        ConfigError: no such file, a key is unknown, or a value is not allowed.
    """
    values = _with_base(_find(name, Path.cwd()), ())
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"{text!r} is not of the form key=value, for instance optim.batch=64")
        try:
            parsed = parse_yaml(value)
        except yaml.YAMLError:
            raise ConfigError(f"{text!r}: the value is not YAML") from None
        _set(values, key.split("."), parsed, text)
    config = PretrainConfig.from_dict(values)
    _check(config)
    return config


def _find(name: str | Path, folder: Path) -> Path:
    path = Path(name).expanduser()
    bundled = bundled_path("pretrain_configs")
    for candidate in (folder / path, bundled / path, bundled / f"{name}.yaml"):
        if candidate.is_file():
            return candidate
    known = sorted(file.stem for file in bundled.glob("*.yaml"))
    raise ConfigError(f"no configuration file {str(name)!r}; {did_you_mean(path.stem, known)}")


def _with_base(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path in seen:
        raise ConfigError(f"{path}: its base files name one another in a circle")
    values = load_config(path)
    base = values.pop("base", None)
    if base is None:
        return values
    return _merge(_with_base(_find(base, path.parent), (*seen, path)), values)


def _merge(low: dict[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for key, value in high.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _set(values: dict[str, Any], keys: list[str], value: Any, text: str) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{text!r}: {key!r} is a value and has no keys")
    values[keys[-1]] = value


def _check(config: PretrainConfig) -> None:
    """Refuse values that would only fail later."""
    data, mask, optim, augment = config.data, config.mask, config.optim, config.augment
    _within("data.crop_seconds", data.crop_seconds, 0.05, 3600)
    _within("data.workers", data.workers, 0, 1024)
    _within("mask.ratio", mask.ratio, 0, 1)
    _within("optim.batch", optim.batch, 1, 2**24)
    _within("optim.lr", optim.lr, 0, 100)
    _within("optim.cooldown", optim.cooldown, 0, 1)
    _within("distill.masked", config.distill.masked, 0, 1)
    _within("run.keep", config.run.keep, 1, 10**6)
    if optim.ema is not None:
        _within("optim.ema", optim.ema, 0, 1)
    for name in ("gain", "noise", "mix", "speed", "reverb", "mixup"):
        _within(f"augment.{name}", getattr(augment, name), 0, 1)
    for name in ("noise_snr_db", "mix_snr_db", "speed_range", "reverb_seconds"):
        low, high = getattr(augment, name)
        if low > high:
            raise ConfigError(f"augment.{name}: {[low, high]} must be [lowest, highest]")
    if min(augment.speed_range) <= 0:
        raise ConfigError(f"augment.speed_range: {list(augment.speed_range)} must be above 0")
    if not 1 <= mask.cluster[0] <= mask.cluster[1]:
        raise ConfigError(f"mask.cluster: {list(mask.cluster)} must be [lowest, highest], from 1")
    if config.recipe == "distill" and config.distill.targets is None:
        raise ConfigError("recipe 'distill' needs distill.targets, the folder of the teachers' embeddings")
    if config.distill.targets is not None:
        for name in ("mix", "speed", "mixup"):
            if getattr(augment, name) > 0:
                raise ConfigError(
                    f"augment.{name} does not go with distill.targets: they are of the crop as it was"
                )
    if not data.path and config.distill.targets is None:
        raise ConfigError("data.path is not set: give a folder of audio, a manifest or tars (data.path=…)")
    if not config.run.out:
        raise ConfigError("run.out is not set: give the folder the run is kept in (run.out=…)")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name}: {value!r} is not within {low} to {high}")


# What decides which numbers a run computes.
_NUMERIC = ("seed", "precision", "data", "mask", "objective", "distill", "augment", "optim")
_PLACES = {"data.workers", "data.path", "data.cache", "distill.targets"}


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names of settings that make a resumed run another one than it was.

    Args:
        before: `plain` dictionary of the configuration in the checkpoint.
        now: that of the configuration to go on with.
    """
    old, new = ({k: v for part in _NUMERIC for k, v in _flat(part, c.get(part))} for c in (before, now))
    return [key for key in new if key not in _PLACES and old.get(key) != new[key]]


def plain(value: Any) -> Any:
    """Return a configuration's dictionary with lists for tuples, as JSON and YAML give it back."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    return [(f"{name}.{k}", v) for k, v in value.items()] if isinstance(value, dict) else [(name, value)]
