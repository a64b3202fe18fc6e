"""Settings of a run, read from YAML, strict about keys and values, over a base file where one is named."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from ..config import load_config, parse_setting
from ..errors import ConfigError, did_you_mean
from ..models.bundled import bundled_path
from .config import PretrainConfig

# Bundled configurations, by folder; a name is looked for in this order.
FOLDERS = ("pretrain_configs", "finetune_configs")
# Lowest and highest value of a setting that is not None.
_RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**63 - 1), "threads": (1, 1024), "optim.micro_batch": (1, 2**24),
    "data.crop_seconds": (0.05, 3600), "data.workers": (0, 1024), "mask.ratio": (0, 1), "optim.batch": (1, 2**24),
    "optim.lr": (0, 100), "optim.cooldown": (0, 1), "distill.masked": (0, 1), "run.keep": (1, 10**6),
    "run.patience": (0, 10**9), "optim.layer_decay": (1e-6, 1), "optim.head_rate": (0, 1e6),
    "optim.frozen_layers": (0, 10**6), "optim.decay_factor": (0, 1), "optim.decay_every": (1e-6, 1e9),
    "optim.ema": (0, 1), "finetune.valid_share": (0, 0.9),
    **{f"augment.{name}": (0, 1) for name in ("gain", "noise", "mix", "speed", "reverb", "mixup")},
}  # fmt: skip
# Settings of the form [lowest, highest], and the least that the lowest may be.
_PAIRS: dict[str, float] = {
    "augment.noise_snr_db": -1000, "augment.mix_snr_db": -1000, "augment.speed_range": 0.01,
    "augment.reverb_seconds": 0, "mask.cluster": 1, "optim.average_epochs": 1,
}  # fmt: skip


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
        key, value = parse_setting(text)
        _set(values, key.split("."), value, text)
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
    for name, (low, high) in _RANGES.items():
        value = attrgetter(name)(config)
        if value is not None and not low <= value <= high:
            raise ConfigError(f"{name}: {value!r} is not within {low} to {high}")
    for name, least in _PAIRS.items():
        pair = attrgetter(name)(config)
        if pair is not None and not least <= pair[0] <= pair[1]:
            raise ConfigError(f"{name}: {list(pair)} must be [lowest, highest], from {least:g}")
    if config.optim.average_epochs is not None and config.optim.ema is not None:
        raise ConfigError("optim.average_epochs and optim.ema are two averages; set one of them to null")
    if config.recipe == "finetune":
        _check_finetuning(config)
    elif config.distill.targets is not None:
        for name in ("mix", "speed", "mixup"):
            if getattr(config.augment, name) > 0:
                raise ConfigError(
                    f"augment.{name} does not go with distill.targets: they are of the crop as it was"
                )
    elif config.recipe == "distill":
        raise ConfigError("recipe 'distill' needs distill.targets, the folder of the teachers' embeddings")
    elif not config.data.path:
        raise ConfigError("data.path is not set: give a folder of audio, a manifest or tars (data.path=…)")
    if not config.run.out:
        raise ConfigError("run.out is not set: give the folder the run is kept in (run.out=…)")


def _check_finetuning(config: PretrainConfig) -> None:
    if config.distill.targets is not None:
        raise ConfigError("distill.targets does not go with the recipe 'finetune': it learns from labels")
    if config.data.format not in ("auto", "audio"):
        raise ConfigError("data.format: labels name audio files; stored log-mels cannot be fine-tuned on")
    if config.data.weights is not None:
        raise ConfigError("data.weights does not go with the recipe 'finetune'; use data.balance=classes")
    if not config.data.path:
        raise ConfigError("data.path is not set: give the labels (a folder a class, a table or a HEAR task)")


# What decides which numbers a run computes.
_NUMERIC = ("seed", "precision", "data", "mask", "objective", "distill", "augment", "optim", "finetune")
_PLACES = {"data.workers", "data.worker_start", "data.path", "data.cache", "distill.targets"}


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names of settings that make a resumed run another one than it was.

    Args:
        before: the configuration in the checkpoint, as `to_dict` gives it.
        now: that of the configuration to continue with.
    """
    old, new = ({k: v for part in _NUMERIC for k, v in _flat(part, c.get(part))} for c in (before, now))
    return [key for key in new if key not in _PLACES and old.get(key) != new[key]]


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    return [(f"{name}.{k}", v) for k, v in value.items()] if isinstance(value, dict) else [(name, value)]
