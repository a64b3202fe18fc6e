"""Configurations: frozen dataclasses that travel as JSON or YAML, also inside weights files."""

from .base import Config, check_value, is_number
from .models import (
    AuMConfig,
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
from .text import load_config, parse_setting

__all__ = [
    "AuMConfig",
    "Config",
    "FbankPatchConfig",
    "HierMambaConfig",
    "KaldiFbankConfig",
    "LogMelConfig",
    "LogMelPatchConfig",
    "ModelConfig",
    "SSAMBAConfig",
    "SSAMConfig",
    "SSASTConfig",
    "SSASTDeiTConfig",
    "check_sizes",
    "check_value",
    "is_number",
    "load_config",
    "parse_setting",
]
