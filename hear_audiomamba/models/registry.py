"""The models by name: each variant is a family at one size."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..config import (
    AuMConfig,
    Config,
    HierMambaConfig,
    KaldiFbankConfig,
    ModelConfig,
    SSAMBAConfig,
    SSAMConfig,
    SSASTConfig,
    SSASTDeiTConfig,
)
from ..encoders import vmamba
from ..errors import VariantError, did_you_mean
from .families import FAMILIES, describe
from .manifest import manifest

DEFAULT_VARIANT = "ssam_tiny_200_16x4"
SIZES = {"tiny": 192, "small": 384, "base": 768}


@dataclass(frozen=True)
class Variant:
    """A named size of a family."""

    name: str
    description: str
    source: str
    config: ModelConfig


# Family, name, description, source, and how a size's encoder configuration is made from its width.
_SIZED: tuple[tuple[str, str, str, str, Callable[[int], Config]], ...] = (
    (
        "ssam", "ssam_{}_200_16x4", "SSAM {}: causal Mamba on 4-frame, 16-bin patches",
        "arXiv 2406.02178", lambda dim: SSAMConfig(embed_dim=dim),
    ),
    (
        "ssamba", "ssamba_{}", "SSAMBA {}: pairs of bidirectional Mamba layers on 16-frame, 16-bin patches",
        "arXiv 2405.11831", lambda dim: SSAMBAConfig(embed_dim=dim),
    ),
    (
        "aum", "aum_{}", "AuM {}: forward-bidirectional Mamba around a class token in the middle",
        "arXiv 2406.03344", lambda dim: AuMConfig(embed_dim=dim, num_classes=527),
    ),
    (
        "ssast", "ssast_{}_200_16x4", "SSAST {}: the Transformer on SSAM's patches",
        "arXiv 2406.02178", lambda dim: SSASTConfig(embed_dim=dim, num_heads=dim // 64),
    ),
    (
        "ssast_deit", "ssast_{}_patch", "SSAST {} of its authors: DeiT on 16-frame, 16-bin patches",
        "arXiv 2110.09784", lambda dim: SSASTDeiTConfig(embed_dim=dim, num_heads=dim // 64),
    ),
    (
        "ssast_deit", "ssast_{}_frame", "SSAST {} of its authors: DeiT on 2-frame patches of all bins",
        "arXiv 2110.09784", lambda dim: SSASTDeiTConfig(
            embed_dim=dim, num_heads=dim // 64, patch_size=(2, 128), grid=(512, 1),
            time_stride=2, freq_stride=128,
        ),
    ),
)  # fmt: skip


def _variants() -> dict[str, Variant]:
    entries = []
    for family, name, text, source, encoder in _SIZED:
        for size, dim in SIZES.items():
            features = FAMILIES[family].features_config()
            config = ModelConfig(family, name.format(size), features, encoder(dim))
            entries.append(Variant(config.variant, text.format(size), source, config))
    hierarchical = (
        (
            "hiermamba", "hierarchical Audio Mamba {}: 2-d scans in four stages, AudioSet tagging head",
            "arXiv 2405.13636", vmamba.HTSAT_FEATURES, vmamba.HIERMAMBA_SIZES,
        ),
        (
            "dass", "DASS {}: VMamba on a Kaldi filterbank, AudioSet tagging head",
            "arXiv 2407.04082", KaldiFbankConfig(), vmamba.DASS_SIZES,
        ),
    )  # fmt: skip
    for family, text, source, features, sizes in hierarchical:
        for size, options in sizes.items():
            config = ModelConfig(family, f"{family}_{size}", features, HierMambaConfig(**options))
            entries.append(Variant(config.variant, text.format(size), source, config))
    nano = ModelConfig(
        "hiermamba", "hiermamba_nano", vmamba.NANO_FEATURES, HierMambaConfig(**vmamba.HIERMAMBA_NANO),
        window_seconds=vmamba.NANO_SECONDS, scene_pooling="mean_plus_max",
    )  # fmt: skip
    text = "hierarchical Audio Mamba nano: 2-d scans in four stages over two seconds, YAMNet's tags"
    entries.append(Variant(nano.variant, text, "this package, after arXiv 2405.13636", nano))
    return {entry.name: entry for entry in entries}


VARIANTS: dict[str, Variant] = _variants()

# Short names; the published ones carry window frames and patch size. A family alone is its size with weights.
ALIASES: dict[str, str] = {
    f"{family}_{size}": f"{family}_{size}_200_16x4" for family in ("ssam", "ssast") for size in SIZES
} | {"hiermamba": "hiermamba_nano"}


def list_models(filter: str = "", *, pretrained: bool = False) -> list[str]:
    """Return the names of the models, in the order of their families.

    Args:
        filter: a pattern as in file names, such as "ssam*"; by default all.
        pretrained: return the names of weights instead, "variant.tag": those that come with the package, and
            those of other authors that `load_model` downloads or says how to get.

    Returns:
        Names that `load_model(variant=…)` takes.
    """
    names = list(VARIANTS)
    if pretrained:
        tagged = manifest()["weights"]
        names = [name for variant in VARIANTS for name in tagged if name.partition(".")[0] == variant]
    return fnmatch.filter(names, filter) if filter else names


def find_variant(name: str) -> Variant:
    """Return a variant by its name or short name, without a weights tag.

    Raises:
        VariantError: the name is not known; says which names are near.
    """
    found = VARIANTS.get(ALIASES.get(name, name))
    if found is None:
        raise VariantError(f"unknown model {name!r}; {did_you_mean(name, [*VARIANTS, *ALIASES])}")
    return found


def model_info(name: str) -> dict[str, Any]:
    """Describe a variant without loading weights.

    Args:
        name: a variant, for instance "ssam_tiny_200_16x4".

    Returns:
        name, description and source of the variant, and what `describe` tells.

    Raises:
        VariantError: the name is not known.
    """
    variant = find_variant(name)
    about = {"name": variant.name, "description": variant.description, "source": variant.source}
    return about | describe(variant.config)
