"""Models as files that other programs run: ONNX and `torch.export`.

An exported model takes clips of one length and any number of them. It gives what the HEAR API gives for
them: scene and timestamp embeddings.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from .. import __version__
from ..embedding.embedder import AudioEmbedder
from ..embedding.pooling import pool_rows, smooth_rows
from ..embedding.timestamps import rows_at
from ..errors import ConfigError, require
from ..io.files import replacing
from ..models.families import FAMILIES
from .eight_bits import quantise
from .lowered import decompositions

OPSET = 20
METADATA_KEY = "hear_audiomamba"
OUTPUTS = ("scene", "embeddings")
Source = Literal["waveform", "spectrogram"]


class ClipModel(nn.Module):
    """A model for clips of one length, as one function of tensors.

    Args:
        model: what `load_model` returned, on the CPU, in float32.
        n_samples: length of every clip, in samples.
        source: what it takes: the "waveform", or the normalised "spectrogram" of `model.features`.
    """

    def __init__(self, model: AudioEmbedder, n_samples: int, source: Source = "waveform") -> None:
        super().__init__()
        if model.compat is not None:
            raise ConfigError("compat: only the paper's layout can be exported; load with compat=None")
        if model.precision != "float32" or model.device.type != "cpu":
            raise ConfigError(
                f"export: the model is {model.precision} on {model.device}; load it in float32 on the CPU"
            )
        self.model, self.n_samples, self.source = model, n_samples, source
        self.features = FAMILIES[model.config.family].features(model.config.features)
        self.features.fourier = "products"
        self.n_rows = model.count_rows(n_samples)
        self.grid = model.timestamp_grid(n_samples, self.n_rows)

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Return scene embeddings `(B, K)` and timestamp embeddings `(B, n, K)` of `clips`."""
        model = self.model
        features = self.features(clips) if self.source == "waveform" else clips
        windows = model.plan.cut(features, self.n_samples)
        rows = model.encoder.embed_frames(windows).float()
        rows = rows.reshape(clips.shape[0], -1, rows.shape[-1])[:, : self.n_rows]
        scene = pool_rows(rows, model.scene_pooling)
        return scene, rows_at(smooth_rows(rows, model.row_smoothing), self.grid.positions)

    def example(self, count: int) -> Tensor:
        """Return inputs of the right shape: noise, since silence would hide mistakes."""
        noise = torch.rand(count, self.n_samples, generator=torch.Generator().manual_seed(0)) - 0.5
        if self.source == "waveform":
            return noise
        with torch.inference_mode():
            features: Tensor = self.model.features(noise)
        return features

    def describe(self) -> dict[str, Any]:
        """Return what a program that runs the file must know, fit for JSON."""
        model = self.model
        return {
            "variant": model.config.variant,
            "source": self.source,
            "sample_rate": model.sample_rate,
            "n_samples": self.n_samples,
            "embedding_size": model.scene_embedding_size,
            "scene_pooling": model.scene_pooling,
            "timestamps_ms": np.round(self.grid.times, 4).tolist(),
            "version": __version__,
        }


def export_torch(
    model: AudioEmbedder, path: str | Path, *, seconds: float | None = None, source: Source = "waveform"
) -> Path:
    """Write a model as a `.pt2` file, for `torch.export.load`; running it needs PyTorch only.

    Args:
        model: what `load_model` returned, on the CPU, in float32.
        path: the file to write.
        seconds: length of a clip; by default the model's window.
        source: what the exported model takes.

    Returns:
        The path.

    Raises:
        ConfigError: the model or the length cannot be exported.
    """
    clip = _clip_model(model, seconds, source)
    with replacing(path) as partial:
        torch.export.save(
            _lowered(clip), partial, extra_files={f"{METADATA_KEY}.json": json.dumps(clip.describe())}
        )
    return Path(path)


def export_onnx(
    model: AudioEmbedder,
    path: str | Path,
    *,
    seconds: float | None = None,
    source: Source = "waveform",
    int8: bool = False,
) -> Path:
    """Write a model as an ONNX file (opset 20) with what one must know in its metadata.

    Inputs: "clips", `(batch, samples)` or `(batch, frames, mels)`. Outputs: "scene" `(batch, K)` and
    "embeddings" `(batch, n, K)`, whose times stand in the metadata.

    Args:
        model: what `load_model` returned, on the CPU, in float32.
        path: the file to write.
        seconds: length of a clip; by default the model's window.
        source: what the exported model takes.
        int8: store the weights of matrix products in eight bits: see `eight_bits.quantise`.

    Returns:
        The path.

    Raises:
        ConfigError: the model or the length cannot be exported.
        MissingPackageError: the packages of the extra "onnx" are not installed.
    """
    for package in ("onnx", "onnxscript"):
        require(package, "exporting to ONNX", "hear_audiomamba[onnx]")
    clip = _clip_model(model, seconds, source)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter, about other packages
        program = torch.onnx.export(
            _lowered(clip),
            (clip.example(2),),
            input_names=["clips"],
            output_names=list(OUTPUTS),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props[METADATA_KEY] = json.dumps(clip.describe())
    with replacing(path) as partial:
        program.save(str(partial))
        if int8:
            quantise(partial, partial)
    return Path(path)


def _clip_model(model: AudioEmbedder, seconds: float | None, source: Source) -> ClipModel:
    if source not in ("waveform", "spectrogram"):
        raise ConfigError(f"source: {source!r} is not one of 'waveform', 'spectrogram'")
    if seconds is None:
        seconds = model.config.window_seconds
    n_samples = round(seconds * model.sample_rate)
    if n_samples < model.features.hop_length:
        raise ConfigError(f"seconds: {seconds!r} is shorter than one frame")
    return ClipModel(model, n_samples, source).eval()


def _lowered(clip: ClipModel) -> torch.export.ExportedProgram:
    """Return the clip model as a graph of standard operators, for any number of clips."""
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        program = torch.export.export(clip, (clip.example(2),), dynamic_shapes=({0: batch},), strict=False)
        lowered: torch.export.ExportedProgram = program.run_decompositions(decompositions())
    return lowered
