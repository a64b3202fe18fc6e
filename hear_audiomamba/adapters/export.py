"""Models as files that other programs run: ONNX and `torch.export`.

An exported model takes clips of one length and any number of them. It gives what the HEAR API gives for
them, scene and timestamp embeddings, and the probabilities of its classes where it has some.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from .. import __version__
from ..classify.model_file import Classifier
from ..embedding.embedder import MAX_WINDOW_SECONDS, AudioEmbedder
from ..embedding.pooling import pool_rows, smooth_rows
from ..embedding.tagging import tag_windows
from ..embedding.timestamps import rows_at
from ..encoders.base import Tagger
from ..errors import ConfigError, require
from ..io.files import replacing
from ..models.families import FAMILIES
from .class_outputs import HeadOutput, TagOutput
from .eight_bits import quantise
from .lowered import check_torch, decompositions
from .simplified import simplify

OPSET = 20
METADATA_KEY = "hear_audiomamba"
OUTPUTS = ("scene", "embeddings", "probabilities")
Source = Literal["waveform", "spectrogram"]


class ClipModel(nn.Module):
    """A model for clips of one length, as one function of tensors.

    Args:
        model: what `load_model` returned, on the CPU, in float32.
        n_samples: length of every clip, in samples.
        source: what it takes: the "waveform", or the normalised "spectrogram" of `model.features`.
        classifier: of the model's embeddings, whose classes it tells instead of those of the model's own head.
    """

    def __init__(
        self,
        model: AudioEmbedder,
        n_samples: int,
        source: Source = "waveform",
        classifier: Classifier | None = None,
    ) -> None:
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
        self.head = None if classifier is None else HeadOutput(classifier)
        self.tags = None
        if classifier is None and isinstance(model.encoder, Tagger) and model.encoder.num_classes:
            self.tags = TagOutput(model, model.encoder, n_samples)

    def forward(self, clips: Tensor) -> tuple[Tensor, ...]:
        """Return scene embeddings `(B, K)` and timestamp embeddings `(B, n, K)` of `clips`.

        Of a model with classes also their probabilities, `(B, C)`, or `(B, n, C)` of events in time.
        """
        model, tags = self.model, self.tags
        features = self.features(clips) if self.source == "waveform" else clips
        windows = model.plan.cut(features, self.n_samples)
        rows = model.encoder.embed_frames(windows)
        rows = rows.float().reshape(clips.shape[0], -1, rows.shape[-1])[:, : self.n_rows]
        scene = pool_rows(rows, model.scene_pooling)
        embeddings = rows_at(smooth_rows(rows, model.row_smoothing), self.grid.positions)
        if self.head is not None:
            return scene, embeddings, self.head(embeddings if self.head.in_time else scene)
        if tags is not None and self.source == "waveform":
            return scene, embeddings, tags.of_waveforms(clips, self.features)
        if tags is not None:
            return scene, embeddings, tags.of_spectrograms(clips)
        return scene, embeddings

    @property
    def classes(self) -> HeadOutput | TagOutput | None:
        """What tells the classes; None where only embeddings are given."""
        return self.head or self.tags

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
            "weights": model.weights,
            "source": self.source,
            "sample_rate": model.sample_rate,
            "n_samples": self.n_samples,
            "embedding_size": model.scene_embedding_size,
            "scene_pooling": model.scene_pooling,
            "timestamps_ms": np.round(self.grid.times, 4).tolist(),
            "version": __version__,
            **({} if self.classes is None else self.classes.describe()),
        }


def export_torch(
    model: AudioEmbedder,
    path: str | Path,
    *,
    seconds: float | None = None,
    source: Source = "waveform",
    classifier: Classifier | None = None,
) -> Path:
    """Write a model as a `.pt2` file, for `torch.export.load`; running it needs PyTorch only.

    Args:
        model: what `load_model` returned, on the CPU, in float32.
        path: the file to write.
        seconds: length of a clip; by default the model's window, or where there are classes the length of the
            clips that they were learned on.
        source: what the exported model takes.
        classifier: what `load_classifier` returned, to export with the model that it was fitted on.

    Returns:
        The path.

    Raises:
        ConfigError: the model or the length cannot be exported.
        DataError: the classifier was fitted on embeddings of another model.
        MissingPackageError: PyTorch is older than 2.8.
    """
    check_torch()
    clip = _clip_model(model, seconds, source, classifier)
    with replacing(path) as partial:  # from here on, so that a path that cannot be written ends it at once
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
    classifier: Classifier | None = None,
) -> Path:
    """Write a model as an ONNX file (opset 20) with what one must know in its metadata.

    Inputs: "clips", `(batch, samples)` or `(batch, frames, mels)`. Outputs: "scene" `(batch, K)` and
    "embeddings" `(batch, n, K)`, whose times stand in the metadata; of a model with classes also
    "probabilities", `(batch, C)`, or `(batch, n, C)` of events in time.

    Args:
        model: what `load_model` returned, on the CPU, in float32.
        path: the file to write.
        seconds: length of a clip; by default the model's window, or where there are classes the length of the
            clips that they were learned on.
        source: what the exported model takes.
        int8: store the weights of matrix products in eight bits: see `eight_bits.quantise`.
        classifier: what `load_classifier` returned, to export with the model that it was fitted on.

    Returns:
        The path.

    Raises:
        ConfigError: the model or the length cannot be exported.
        DataError: the classifier was fitted on embeddings of another model.
        MissingPackageError: the packages of the extra "onnx" are not installed, or PyTorch is older than 2.8.
    """
    check_torch()
    for package in ("onnx", "onnxscript"):
        require(package, "exporting to ONNX", "hear_audiomamba[onnx]")
    clip = _clip_model(model, seconds, source, classifier)
    with replacing(path) as partial, _quiet(), torch.no_grad():
        program = torch.onnx.export(
            _lowered(clip),
            (clip.example(2),),
            input_names=["clips"],
            output_names=list(OUTPUTS if clip.classes is not None else OUTPUTS[:2]),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            optimize=False,
        )
        assert program is not None
        simplify(program.model)
        program.model.metadata_props[METADATA_KEY] = json.dumps(clip.describe())
        program.save(str(partial))
        if int8:
            quantise(partial, partial)
    return Path(path)


def _clip_model(
    model: AudioEmbedder, seconds: float | None, source: Source, classifier: Classifier | None
) -> ClipModel:
    if source not in ("waveform", "spectrogram"):
        raise ConfigError(f"source: {source!r} is not one of 'waveform', 'spectrogram'")
    learned = None if classifier is None else classifier.clip_seconds
    if classifier is not None:
        classifier.embedding.check(model)
    if seconds is None:
        seconds = learned or _clip_seconds(model, classifier)
    elif learned is not None and seconds != learned:
        raise ConfigError(
            f"seconds: {seconds:g}, but the classifier was fitted on clips of {learned:g} s; leave it out"
        )
    if not model.features.hop_length <= seconds * model.sample_rate <= MAX_WINDOW_SECONDS * model.sample_rate:
        shortest = model.features.hop_length / model.sample_rate
        raise ConfigError(
            f"seconds: {seconds!r} is not from {shortest:g} (one frame) to {MAX_WINDOW_SECONDS}"
        )
    n_samples = round(seconds * model.sample_rate)
    return ClipModel(model, n_samples, source, classifier).eval()


def _clip_seconds(model: AudioEmbedder, classifier: Classifier | None) -> float:
    """Return the length of a model's windows, or of the clips that its tagging head takes if that is what counts."""
    encoder = model.encoder
    if classifier is None and isinstance(encoder, Tagger) and encoder.num_classes:
        longest = encoder.tag_frames * model.features.hop_length
        return tag_windows(model, encoder, longest + 1)[1] / model.sample_rate
    return model.config.window_seconds


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what the exporter says about other packages."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _lowered(clip: ClipModel) -> torch.export.ExportedProgram:
    """Return the clip model as a graph of standard operators, for any number of clips."""
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        program = torch.export.export(clip, (clip.example(2),), dynamic_shapes=({0: batch},), strict=False)
        lowered: torch.export.ExportedProgram = program.run_decompositions(decompositions())
    return lowered
