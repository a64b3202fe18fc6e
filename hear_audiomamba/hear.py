"""The HEAR API: `load_model`, `get_scene_embeddings`, `get_timestamp_embeddings`.

Source: the common API of the HEAR benchmark, https://hearbenchmark.com/hear-api.html.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import threading
import warnings
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .config import Config, ModelConfig, check_value
from .embedding.embedder import AudioEmbedder, Precision, TimestampKind
from .embedding.recordings import read_recording
from .errors import CheckpointError, InputError, UntrainedWeightsWarning, did_you_mean
from .io.audio import AUDIO_EXTENSIONS
from .models.convert import name_of, read_checkpoint
from .models.devices import find_device
from .models.families import all_blocks, build_modules, sizes_of, with_options
from .models.hub import hub_file
from .models.known import known_weights
from .models.registry import ALIASES, DEFAULT_VARIANT, VARIANTS, find_variant
from .models.weights import load_strict
from .modules.compute import fastest_precision
from .ops.forks import one_thread_after_fork

logger = logging.getLogger(__name__)

PrecisionChoice = Literal["auto", Precision]

_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?(:(?P<file>[\w./-]+))?")
# The address of a repository, or of a file in it, as a browser shows it.
_HUB_PAGE = re.compile(
    r"https?://huggingface\.co/(?P<repo>[\w.-]+/[\w.-]+)"
    r"(/(tree|blob|resolve)/(?P<revision>[\w.-]+)(/(?P<file>[\w./-]+))?)?/?(\?download=true)?"
)
_SEED = 20240602
_SEEDING = threading.Lock()  # the generator is the whole process's
_FILE_ENDINGS = {".safetensors", ".pth", ".pt", ".ckpt", ".bin", *AUDIO_EXTENSIONS}


def load_model(
    model_file_path: str | Path = "",
    *,
    variant: str | None = None,
    window_seconds: float | None = None,
    device: str | torch.device | None = None,
    precision: PrecisionChoice = "float32",
    timestamps: TimestampKind = "center",
    compat: Literal["published"] | None = None,
    backend: str | None = None,
    max_batch_windows: int | None = None,
    **options: Any,
) -> AudioEmbedder:
    """Load a model for embedding.

    Args:
        model_file_path: a safetensors file of this package, a published checkpoint, a folder that holds
            `model.safetensors`, or a hub id ("owner/name", "owner/name@revision:file") or the address of
            its page. An empty string takes the bundled weights of `variant`.
        variant: a name of `list_models()`, with a weights tag or without: "ssam_tiny_200_16x4.as2m".
            The default is the variant of the file, or else the default variant.
        window_seconds: length of the encoder's windows; the default belongs to the weights.
        device: where to compute; by default a CUDA GPU, else Apple's (MPS), else the CPU.
        precision: of the encoder; embeddings are float32 in any case. "float16" needs a GPU. "auto" takes
            "bfloat16" for models of Mamba mixers on CPUs with AMX, and "float32" elsewhere; `model.precision`
            and the log tell which.
        timestamps: "center" of each row's stretch of audio, as HEAR requires, or its "start".
        compat: "published" reproduces the authors' runtime (docs/models.md); None is the paper's layout.
        backend: of the scan: "cpu", "torch", "reference", "triton", "mamba_ssm"; None takes the fastest.
        max_batch_windows: most windows encoded at once, a bound on memory; None chooses by device.
        options: "scene_pooling" ("mean" of a clip's rows or "mean_plus_max"), "timestamp_smoothing_ms"
            (time constant with which rows are averaged over time, at most 10,000; 0 for none). The
            defaults of both belong to the weights. Or single fields of the family's encoder or features
            configuration.

    Returns:
        The model, in evaluation mode, with `sample_rate`, `scene_embedding_size` and
        `timestamp_embedding_size`.

    Raises:
        VariantError: unknown variant.
        ConfigError: unknown option or value not allowed.
        CheckpointError: the file is missing, unsafe, damaged, or of another model.

    Warns:
        UntrainedWeightsWarning: no trained weights are bundled for the variant, or for these options.
    """
    check_value(str | None, variant, "variant")
    check_value(PrecisionChoice, precision, "precision")
    place = find_device(device)
    found, state, what = _find(str(model_file_path or ""), variant)
    config = with_options(found, options, load_model.__kwdefaults__ or ())
    name = str(model_file_path or "") or variant or DEFAULT_VARIANT
    if name in (*VARIANTS, *ALIASES) and _tensors_of(config) != _tensors_of(found):
        # Default weights belong to the unchanged variant; naming their tag uses them anyway.
        state, config = None, with_options(find_variant(name).config, options)
    if state is None:
        warnings.warn(
            f"{config.variant}: no trained weights are bundled{' for these options' if options else ''}, "
            "so the model is random (fixed seed); "
            "pass the path of a checkpoint for useful embeddings",
            UntrainedWeightsWarning,
            stacklevel=2,
        )
    one_thread_after_fork()
    # Parameters made in a caller's inference mode could never be trained.
    with torch.inference_mode(False):
        with _SEEDING, torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED)
            features, encoder = build_modules(config, "cpu")
        if state is not None:
            load_strict(encoder, state, what, encoder.optional_keys)
        computed: Precision = fastest_precision(encoder, place, backend) if precision == "auto" else precision
        model = AudioEmbedder(
            config, features, encoder, window_seconds=window_seconds, timestamps=timestamps, compat=compat,
            precision=computed, max_batch_windows=max_batch_windows, backend=backend,
            weights=None if state is None else Path(what).name,
        )  # fmt: skip
        logger.info("%r", model)
        return model.to(place)


def from_pretrained(repo_or_folder: str | Path, **options: Any) -> AudioEmbedder:
    """Load a model written by `push_to_hub` or `save_pretrained`.

    Args:
        repo_or_folder: "owner/name", "owner/name@revision", or a folder.
        options: keywords of `load_model`.

    Raises:
        CheckpointError: it cannot be read, or holds no model.
    """
    return load_model(repo_or_folder, **options)


def get_scene_embeddings(audio: Tensor, model: AudioEmbedder) -> Tensor:
    """Return one embedding for each clip.

    Args:
        audio: `(n_sounds, n_samples)` in [-1, 1] at `model.sample_rate`.
        model: what `load_model` returned.

    Returns:
        `(n_sounds, model.scene_embedding_size)` float32.

    Raises:
        InputError: see `hear_audiomamba.embedding.inputs.check_audio`.
    """
    return _checked(model).scene(audio)


def get_timestamp_embeddings(audio: Tensor, model: AudioEmbedder) -> tuple[Tensor, Tensor]:
    """Return embeddings at regular times.

    Args:
        audio: `(n_sounds, n_samples)` in [-1, 1] at `model.sample_rate`.
        model: what `load_model` returned.

    Returns:
        Embeddings `(n_sounds, n_timestamps, model.timestamp_embedding_size)` float32, and their times
        `(n_sounds, n_timestamps)` in milliseconds.

    Raises:
        InputError: see `hear_audiomamba.embedding.inputs.check_audio`.
    """
    return _checked(model).timestamps(audio)


def embed_file(
    file: str | os.PathLike[str] | BinaryIO | NDArray[np.floating] | Tensor,
    model: AudioEmbedder | None = None,
    *,
    sample_rate: int | None = None,
) -> Tensor:
    """Return the scene embedding of one recording, whatever its rate and channels.

    Args:
        file: an audio file, its path, or samples: `(n_samples,)` or `(n_channels, n_samples)` in [-1, 1].
        model: what `load_model` returned; by default the default model, which is loaded once.
        sample_rate: of samples, Hz; they are resampled to the model's. Files say theirs.

    Returns:
        `(model.scene_embedding_size,)` float32, on the CPU.

    Raises:
        AudioReadError: the file cannot be decoded.
        InputError: samples without a rate, transposed, or that `check_audio` refuses.
    """
    model = _default_model() if model is None else _checked(model)
    samples = read_recording(file, model.sample_rate, given_rate=sample_rate)
    return model.scene(samples[None])[0].cpu()


@functools.cache
def _default_model() -> AudioEmbedder:
    return load_model()


def _checked(model: AudioEmbedder) -> AudioEmbedder:
    if not isinstance(model, AudioEmbedder):
        raise InputError(f"model: expected what load_model returns, got {type(model).__name__}")
    return model


def _find(path: str, variant: str | None) -> tuple[ModelConfig, dict[str, Tensor] | None, str]:
    """Return configuration, tensors (None for untrained) and a name for errors."""
    if not path:
        name, _, tag = (variant or DEFAULT_VARIANT).partition(".")
        config = find_variant(name).config
        file = known_weights(config.variant, tag or None)
        if file is None:
            return config, None, config.variant
    else:
        file = _file_of(path)
        if file is None:  # the name of a variant where a path is expected
            return _find("", path)
        config = None
    found, state, _ = read_checkpoint(file)
    if variant and path:
        config = find_variant(variant.partition(".")[0]).config
    if config is not None and _kind_of(found) != _kind_of(config):
        raise CheckpointError(f"{file} looks like {name_of(found)}, not {config.variant}")
    return found, state, str(file)


def _file_of(path: str) -> Path | None:
    file = Path(path).expanduser()
    if file.is_dir():
        inside = file / "model.safetensors"
        if not inside.is_file():
            raise CheckpointError(f"{file} is a folder without model.safetensors")
        return inside
    if file.exists():
        return file
    names = [*VARIANTS, *ALIASES]
    if path.partition(".")[0] in names:
        return None
    page = _HUB_PAGE.fullmatch(path)
    match = page or _HUB_ID.fullmatch(path)
    if match and (page or match["file"] or not (file.suffix or file.parent.is_dir())):
        return hub_file(match["repo"], match["file"], match["revision"])
    hint = "" if file.suffix in _FILE_ENDINGS else f"; {did_you_mean(path, names)}"
    raise CheckpointError(f"{path}: no such file, folder or model{hint}")


def _kind_of(config: ModelConfig) -> tuple[object, ...]:
    """Return what the variants of all families differ in."""
    return config.family, sizes_of(config.encoder)


def _tensors_of(config: ModelConfig) -> tuple[Config, Config]:
    """Return what the tensors of a model depend on."""
    return all_blocks(config.encoder), config.features
