"""Settings of a run, read from YAML, strict about keys and values, over a base file where one is named."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..config import load_config, parse_yaml
from ..errors import ConfigError, did_you_mean
from ..models.bundled import bundled_path
from .config import AugmentConfig, PretrainConfig

# Bundled configurations, by folder; a name is looked for in this order.
FOLDERS = ("pretrain_configs", "finetune_configs")


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
    bundled = [bundled_path(name) for name in FOLDERS]
    beside = [place / ending for place in bundled for ending in (path, f"{name}.yaml")]
    for candidate in (folder / path, *beside):
        if os.path.isfile(candidate):  # False too where the name is longer than the file system takes
            return candidate
    known = sorted(file.stem for place in bundled for file in place.glob("*.yaml"))
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
    _within("run.patience", config.run.patience, 0, 10**9)
    _within("optim.layer_decay", optim.layer_decay, 1e-6, 1)
    _within("optim.head_rate", optim.head_rate, 0, 1e6)
    _within("optim.frozen_layers", optim.frozen_layers, 0, 10**6)
    _within("optim.decay_factor", optim.decay_factor, 0, 1)
    _within("optim.decay_every", optim.decay_every, 1e-6, 1e9)
    _within("finetune.valid_share", config.finetune.valid_share, 0, 0.9)
    if optim.ema is not None:
        _within("optim.ema", optim.ema, 0, 1)
    if optim.average_epochs is not None:
        if optim.ema is not None:
            raise ConfigError("optim.average_epochs and optim.ema are two averages; set one of them to null")
        first, last = optim.average_epochs
        if not 1 <= first <= last:
            raise ConfigError(f"optim.average_epochs: {[first, last]} must be [first, last], from 1")
    for name, (low, high) in _augmentation_ranges(augment).items():
        if low > high:
            raise ConfigError(f"augment.{name}: {[low, high]} must be [lowest, highest]")
    for name, chance in _augmentation_chances(augment).items():
        _within(f"augment.{name}", chance, 0, 1)
    if min(augment.speed_range) <= 0:
        raise ConfigError(f"augment.speed_range: {list(augment.speed_range)} must be above 0")
    if not 1 <= mask.cluster[0] <= mask.cluster[1]:
        raise ConfigError(f"mask.cluster: {list(mask.cluster)} must be [lowest, highest], from 1")
    if config.recipe == "distill" and config.distill.targets is None:
        raise ConfigError("recipe 'distill' needs distill.targets, the folder of the teachers' embeddings")
    if config.distill.targets is not None:
        chances = _augmentation_chances(augment)
        for name in ("mix", "speed", "mixup"):
            if chances[name] > 0:
                raise ConfigError(
                    f"augment.{name} does not go with distill.targets: they are of the crop as it was"
                )
    if config.recipe == "finetune":
        _check_finetuning(config)
    if not data.path and config.distill.targets is None:
        raise ConfigError("data.path is not set: give a folder of audio, a manifest or tars (data.path=…)")
    if not config.run.out:
        raise ConfigError("run.out is not set: give the folder the run is kept in (run.out=…)")


def _augmentation_chances(augment: AugmentConfig) -> dict[str, float]:
    return {
        "gain": augment.gain, "noise": augment.noise, "mix": augment.mix, "speed": augment.speed,
        "reverb": augment.reverb, "mixup": augment.mixup,
    }  # fmt: skip


def _augmentation_ranges(augment: AugmentConfig) -> dict[str, tuple[float, float]]:
    return {
        "noise_snr_db": augment.noise_snr_db, "mix_snr_db": augment.mix_snr_db,
        "speed_range": augment.speed_range, "reverb_seconds": augment.reverb_seconds,
    }  # fmt: skip


def _check_finetuning(config: PretrainConfig) -> None:
    if config.distill.targets is not None:
        raise ConfigError("distill.targets does not go with the recipe 'finetune': it learns from labels")
    if config.data.format not in ("auto", "audio"):
        raise ConfigError("data.format: labels name audio files; stored log-mels cannot be fine-tuned on")
    if config.data.weights is not None:
        raise ConfigError("data.weights does not go with the recipe 'finetune'; use data.balance=classes")
    if not config.data.path:
        raise ConfigError("data.path is not set: give the labels (a folder a class, a table or a HEAR task)")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name}: {value!r} is not within {low} to {high}")


# What decides which numbers a run computes.
_NUMERIC = ("seed", "precision", "data", "mask", "objective", "distill", "augment", "optim", "finetune")
_PLACES = {"data.workers", "data.worker_start", "data.path", "data.cache", "distill.targets"}


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names of settings that make a resumed run another one than it was.

    Args:
        before: `plain` dictionary of the configuration in the checkpoint.
        now: that of the configuration to continue with.
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
