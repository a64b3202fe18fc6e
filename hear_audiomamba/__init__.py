"""Audio Mamba encoders behind the HEAR API: load a model, embed audio."""

from .errors import AudioMambaError, UntrainedWeightsWarning
from .hear import get_scene_embeddings, get_timestamp_embeddings, load_model
from .registry import list_models, model_info

__version__ = "0.1.0"

__all__ = [
    "AudioMambaError",
    "UntrainedWeightsWarning",
    "__version__",
    "get_scene_embeddings",
    "get_timestamp_embeddings",
    "list_models",
    "load_model",
    "model_info",
]
