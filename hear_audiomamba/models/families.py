"""Kinds of models: how one is recognised in a checkpoint, configured, built and described."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ..config import (
    AuMConfig,
    Config,
    FbankPatchConfig,
    HierMambaConfig,
    KaldiFbankConfig,
    LogMelConfig,
    LogMelPatchConfig,
    ModelConfig,
    SSAMBAConfig,
    SSAMConfig,
    SSASTConfig,
    SSASTDeiTConfig,
    check_sizes,
)
from ..encoders import aum, ssam, ssamba, ssast, ssast_deit, vmamba
from ..encoders.base import Encoder
from ..encoders.hiermamba import HierMamba
from ..errors import ConfigError, did_you_mean
from ..frontends.base import Frontend
from ..frontends.kaldi import KaldiFbank
from ..frontends.logmel import LogMel

_DEEPENED = (SSAMConfig, SSAMBAConfig, AuMConfig)  # whose blocks may be more than were trained


@dataclass(frozen=True)
class Family:
    """How one kind of model is built, and how its authors' checkpoints are read.

    `looks_like`, `config_from_state` and `convert_state` work on the tensors of a checkpoint: is it of
    this family, which sizes has it, and the same tensors under our names.
    """

    name: str
    encoder: Callable[[Any, Any], Encoder]
    encoder_config: type[Config]
    features: Callable[[Any], Frontend]
    features_config: type[Config]
    looks_like: Callable[[Mapping[str, Tensor]], bool]
    config_from_state: Callable[[Mapping[str, Tensor]], tuple[Config, Config]]
    convert_state: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    window_seconds: float = 2.0


FAMILIES: dict[str, Family] = {
    "ssam": Family(
        "ssam", ssam.SSAM, SSAMConfig, LogMel, LogMelConfig,
        ssam.looks_like, ssam.config_from_state, ssam.convert_state,
    ),
    "ssamba": Family(
        "ssamba", ssamba.SSAMBA, SSAMBAConfig, KaldiFbank, KaldiFbankConfig,
        ssamba.looks_like, ssamba.config_from_state, ssamba.convert_state,
    ),
    "aum": Family(
        "aum", aum.AuM, AuMConfig, KaldiFbank, KaldiFbankConfig,
        aum.looks_like, aum.config_from_state, aum.convert_state,
    ),
    "ssast": Family(
        "ssast", ssast.SSAST, SSASTConfig, LogMel, LogMelConfig,
        ssast.looks_like, ssast.config_from_state, ssast.convert_state,
    ),
    "ssast_deit": Family(
        "ssast_deit", ssast_deit.SSASTDeiT, SSASTDeiTConfig, KaldiFbank, KaldiFbankConfig,
        ssast_deit.looks_like, ssast_deit.config_from_state, ssast_deit.convert_state,
    ),
    "hiermamba": Family(
        "hiermamba", HierMamba, HierMambaConfig, LogMel, LogMelConfig,
        vmamba.looks_like, vmamba.config_from_state, vmamba.convert_state,
    ),
    "dass": Family(
        "dass", HierMamba, HierMambaConfig, KaldiFbank, KaldiFbankConfig,
        vmamba.looks_like_dass, vmamba.config_from_dass, vmamba.convert_dass,
    ),
}  # fmt: skip


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


def with_options(config: ModelConfig, options: Mapping[str, Any], also: Iterable[str] = ()) -> ModelConfig:
    """Return the configuration with single settings of it, its encoder or its features changed.

    Args:
        config: where to start from.
        options: "scene_pooling", "timestamp_smoothing_ms" or field names of the family's encoder or features
            configuration, and values.
        also: other names that a caller allows, for the error that a misspelt one gets.

    Raises:
        ConfigError: there is no field of that name; says which names are near.
    """
    parts = {"model": config, "encoder": config.encoder, "features": config.features}
    known = {f.name: part for part in ("features", "encoder") for f in fields(parts[part])}
    known |= dict.fromkeys(("scene_pooling", "timestamp_smoothing_ms"), "model")
    for key, value in options.items():
        if key not in known:
            raise ConfigError(
                f"unknown option {key!r} for {config.variant}; {did_you_mean(key, [*known, *also])}"
            )
        parts[known[key]] = parts[known[key]].replace(**{key: value})
    changed: ModelConfig = parts.pop("model").replace(**parts)
    return changed


def all_blocks(encoder: Config) -> Config:
    """Return the configuration of an encoder with all of its blocks run, trained or not."""
    return encoder.replace(trained_depth=None) if isinstance(encoder, _DEEPENED) else encoder


def sizes_of(encoder: Config) -> tuple[int, tuple[int, ...]]:
    """Return the width of an encoder's first block, and the number of blocks in each of its stages."""
    if isinstance(encoder, HierMambaConfig):
        return encoder.dim, encoder.depths
    assert isinstance(encoder, (LogMelPatchConfig, FbankPatchConfig)), "encoders are of these three kinds"
    return encoder.embed_dim, (encoder.depth,)


def has_tagging_head(config: ModelConfig) -> bool:
    """Tell whether the model of a configuration can name what is heard."""
    encoder = config.encoder
    if isinstance(encoder, HierMambaConfig):
        return encoder.head != "none"
    return isinstance(encoder, FbankPatchConfig) and encoder.num_classes > 0


def build_modules(config: ModelConfig, device: str | None = None) -> tuple[Frontend, Encoder]:
    """Return the features module and the encoder of a configuration, with random weights.

    Args:
        config: the model.
        device: where to make the encoder; "meta" makes its shapes only.

    Raises:
        ConfigError: a number of the configuration is out of range.
    """
    family = FAMILIES[config.family]
    check_sizes(config.features)
    check_sizes(config.encoder)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)  # whatever the rest of the program computes in
    try:
        with torch.device("cpu"):  # constants of the front end, whatever the default device is
            features = family.features(config.features)
        with torch.device(device) if device else nullcontext():
            return features, family.encoder(config.encoder, config.features)
    finally:
        torch.set_default_dtype(before)


def describe(config: ModelConfig) -> dict[str, Any]:
    """Describe the model of a configuration.

    Returns:
        name, family, sample_rate (Hz), window_seconds, embed_dim, depth, parameters (with the
        pretraining heads), encoder_parameters (without), scene_embedding_size, timestamp_step_ms
        (between the encoder's own rows), and config (a plain dictionary).
    """
    features, encoder = build_modules(config, "meta")
    heads = encoder.optional_keys
    counts = {key: p.numel() for key, p in encoder.named_parameters()}
    return {
        "name": config.variant,
        "family": config.family,
        "sample_rate": features.sample_rate,
        "window_seconds": config.window_seconds,
        "embed_dim": encoder.embed_dim,
        "depth": encoder.depth,
        "parameters": sum(counts.values()),
        "encoder_parameters": sum(n for key, n in counts.items() if not (heads and key.startswith(heads))),
        "scene_embedding_size": encoder.frame_embedding_size,
        "timestamp_step_ms": 1000.0 * encoder.step * features.hop_length / features.sample_rate,
        "config": config.to_dict(),
    }


def _as(kind: type[Config], value: Any) -> Config:
    return value if isinstance(value, kind) else kind.from_dict(value)
