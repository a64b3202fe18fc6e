"""The models by name: families (how a kind of model is built and recognised) and variants (its sizes)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from .config import Config, LogMelConfig, ModelConfig, SSAMConfig
from .encoders import ssam
from .encoders.base import Encoder
from .errors import ConfigError, VariantError, did_you_mean
from .features import LogMel

DEFAULT_VARIANT = "ssam_tiny_200_16x4"
SIZES = {"tiny": 192, "small": 384, "base": 768}


@dataclass(frozen=True)
class Family:
    """How one kind of model is built, and how its authors' checkpoints are read.

    `looks_like`, `config_from_state` and `convert_state` work on the tensors of a checkpoint: is it of
    this family, which sizes has it, and the same tensors under our names.
    """

    name: str
    encoder: Callable[[Any, Any], Encoder]
    encoder_config: type[Config]
    features: Callable[[Any], nn.Module]
    features_config: type[Config]
    looks_like: Callable[[Mapping[str, Tensor]], bool]
    config_from_state: Callable[[Mapping[str, Tensor]], tuple[Config, Config]]
    convert_state: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    window_seconds: float = 2.0


@dataclass(frozen=True)
class Variant:
    """A named size of a family."""

    name: str
    description: str
    source: str
    config: ModelConfig


FAMILIES: dict[str, Family] = {
    "ssam": Family(
        "ssam", ssam.SSAM, SSAMConfig, LogMel, LogMelConfig,
        ssam.looks_like, ssam.config_from_state, ssam.convert_state,
    ),
}  # fmt: skip


def _variants() -> dict[str, Variant]:
    entries = []
    for size, dim in SIZES.items():
        config = ModelConfig("ssam", f"ssam_{size}_200_16x4", LogMelConfig(), SSAMConfig(embed_dim=dim))
        text = f"SSAM {size}: causal Mamba on 4-frame, 16-bin patches"
        entries.append(Variant(config.variant, text, "arXiv 2406.02178", config))
    return {entry.name: entry for entry in entries}


VARIANTS: dict[str, Variant] = _variants()

# Short names; the published ones carry window frames and patch size.
ALIASES: dict[str, str] = {f"ssam_{size}": f"ssam_{size}_200_16x4" for size in SIZES}


def list_models() -> list[str]:
    """Return the names of all variants, in the order of their families."""
    return list(VARIANTS)


def find_variant(name: str) -> Variant:
    """Return a variant by its name or short name, without a weights tag.

    Raises:
        VariantError: the name is not known; says which names are near.
    """
    found = VARIANTS.get(ALIASES.get(name, name))
    if found is None:
        raise VariantError(f"unknown model {name!r}; {did_you_mean(name, [*VARIANTS, *ALIASES])}")
    return found


def config_from_dict(values: Mapping[str, Any]) -> ModelConfig:
    """Build a `ModelConfig` whose parts have the classes of its family.

    Raises:
        ConfigError: the family is unknown, or a key or value does not fit.
    """
    config = ModelConfig.from_dict(values)
    family = FAMILIES.get(config.family)
    if family is None:
        raise ConfigError(f"family: {config.family!r} is not known; {did_you_mean(config.family, FAMILIES)}")
    return config.replace(
        features=_as(family.features_config, config.features),
        encoder=_as(family.encoder_config, config.encoder),
    )


def with_options(config: ModelConfig, options: Mapping[str, Any]) -> ModelConfig:
    """Return the configuration with single settings of its encoder or features changed.

    Args:
        config: where to start from.
        options: field names of the family's encoder or features configuration, and values.

    Raises:
        ConfigError: neither has a field of that name; says which names are near.
    """
    parts = {"encoder": config.encoder, "features": config.features}
    known = {f.name: part for part in ("features", "encoder") for f in fields(parts[part])}
    for key, value in options.items():
        if key not in known:
            raise ConfigError(f"unknown option {key!r} for {config.variant}; {did_you_mean(key, known)}")
        parts[known[key]] = parts[known[key]].replace(**{key: value})
    return config.replace(**parts)


def build_modules(config: ModelConfig) -> tuple[nn.Module, Encoder]:
    """Return the features module and the encoder of a configuration, with random weights."""
    family = FAMILIES[config.family]
    return family.features(config.features), family.encoder(config.encoder, config.features)


def model_info(name: str) -> dict[str, Any]:
    """Describe a model without loading weights.

    Args:
        name: a variant, for instance "ssam_tiny_200_16x4".

    Returns:
        name, family, description, source, sample_rate (Hz), window_seconds, embed_dim, depth,
        parameters (with the pretraining head) and encoder_parameters (without),
        scene_embedding_size, timestamp_step_ms, and config (a plain dictionary).

    Raises:
        VariantError: the name is not known.
    """
    variant = find_variant(name)
    family = FAMILIES[variant.config.family]
    features = family.features(variant.config.features)
    with torch.device("meta"):
        encoder = family.encoder(variant.config.encoder, variant.config.features)
    heads = encoder.optional_keys
    counts = {key: p.numel() for key, p in encoder.named_parameters()}
    return {
        "name": variant.name,
        "family": variant.config.family,
        "description": variant.description,
        "source": variant.source,
        "sample_rate": features.sample_rate,
        "window_seconds": variant.config.window_seconds,
        "embed_dim": encoder.embed_dim,
        "depth": encoder.depth,
        "parameters": sum(counts.values()),
        "encoder_parameters": sum(n for key, n in counts.items() if not (heads and key.startswith(heads))),
        "scene_embedding_size": encoder.frame_embedding_size,
        "timestamp_step_ms": 1000.0 * encoder.step * features.hop_length / features.sample_rate,
        "config": variant.config.to_dict(),
    }


def _as(kind: type[Config], value: Any) -> Config:
    return value if isinstance(value, kind) else kind.from_dict(value)
