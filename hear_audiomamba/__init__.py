"""Audio Mamba encoders behind the HEAR API: load a model, embed audio."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import _moved
from .errors import AudioMambaError, UntrainedWeightsWarning

if TYPE_CHECKING:
    from .classify.classifier import AudioClassifier
    from .hear import (
        embed_file,
        from_pretrained,
        get_scene_embeddings,
        get_timestamp_embeddings,
        load_model,
    )
    from .io.audio import load_audio
    from .models.registry import list_models, model_info

__version__ = "0.1.0"

_moved.install()

__all__ = [
    "AudioClassifier",
    "AudioMambaError",
    "UntrainedWeightsWarning",
    "__version__",
    "embed_file",
    "from_pretrained",
    "get_scene_embeddings",
    "get_timestamp_embeddings",
    "list_models",
    "load_audio",
    "load_model",
    "model_info",
]

# Loaded when first used: decoding processes and `--help` need no torch, which takes a second to import.
_LAZY = {
    "AudioClassifier": "classify.classifier",
    "embed_file": "hear",
    "from_pretrained": "hear",
    "get_scene_embeddings": "hear",
    "get_timestamp_embeddings": "hear",
    "list_models": "models.registry",
    "load_audio": "io.audio",
    "load_model": "hear",
    "model_info": "models.registry",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
