"""Configurations: frozen dataclasses that travel as JSON or YAML, also inside weights files."""

from .base import Config, check_value
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
from .numbers import check_number, check_whole, plain_number
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
    "check_number",
    "check_sizes",
    "check_value",
    "check_whole",
    "load_config",
    "parse_setting",
    "plain_number",
]
