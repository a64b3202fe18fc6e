"""A model for clips of one length, as one function of tensors: what is exported."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from .. import __version__
from ..classify.model_file import Classifier
from ..embedding.embedder import MAX_WINDOW_SECONDS, AudioEmbedder
from ..embedding.pooling import pool_rows, smooth_rows
from ..embedding.tagging import no_head_error, tag_windows
from ..embedding.timestamps import rows_at
from ..encoders.base import Tagger
from ..errors import ConfigError
from ..models.families import FAMILIES
from .class_outputs import HeadOutput, TagOutput

EMBEDDINGS = ("scene", "embeddings")
PROBABILITIES = "probabilities"
Source = Literal["waveform", "spectrogram"]


class ClipModel(nn.Module):
    """Clips in, embeddings and possibly probabilities of classes out.

    Args:
        model: what `load_model` returned, on the CPU, in float32.
        n_samples: length of every clip, in samples.
        source: what it takes: the "waveform", or the normalised "spectrogram" of `model.features`.
        classes: what tells the classes; None for embeddings alone.

    Raises:
        ConfigError: the model reproduces a published runtime, is in lower precision or is not on the CPU.
    """

    def __init__(
        self,
        model: AudioEmbedder,
        n_samples: int,
        source: Source = "waveform",
        classes: HeadOutput | TagOutput | None = None,
    ) -> None:
        super().__init__()
        if model.compat is not None:
            raise ConfigError("compat: only the paper's layout can be exported; load with compat=None")
        if model.precision != "float32" or model.device.type != "cpu":
            raise ConfigError(
                f"export: the model is {model.precision} on {model.device}; load it in float32 on the CPU"
            )
        self.model, self.n_samples, self.source, self.classes = model, n_samples, source, classes
        self.features = FAMILIES[model.config.family].features(model.config.features)
        self.features.fourier = "products"
        self.n_rows = model.count_rows(n_samples)
        self.grid = model.timestamp_grid(n_samples, self.n_rows)

    @property
    def outputs(self) -> list[str]:
        """The names of what `forward` returns."""
        return [*EMBEDDINGS, *([] if self.classes is None else [PROBABILITIES])]

    def forward(self, clips: Tensor) -> tuple[Tensor, ...]:
        """Return scene embeddings `(B, K)` and timestamp embeddings `(B, n, K)` of `clips`.

        With classes also their probabilities, `(B, C)`, or `(B, n, C)` of events in time.
        """
        model, classes = self.model, self.classes
        features = self.features(clips) if self.source == "waveform" else clips
        windows = model.plan.cut(features, self.n_samples)
        rows = model.encoder.embed_frames(windows)
        rows = rows.float().reshape(clips.shape[0], -1, rows.shape[-1])[:, : self.n_rows]
        scene = pool_rows(rows, model.scene_pooling)
        embeddings = rows_at(smooth_rows(rows, model.row_smoothing), self.grid.positions)
        if isinstance(classes, HeadOutput):
            return scene, embeddings, classes(embeddings if classes.in_time else scene)
        if classes is not None and self.source == "waveform":
            return scene, embeddings, classes.of_waveforms(clips, self.features)
        if classes is not None:
            return scene, embeddings, classes.of_spectrograms(clips)
        return scene, embeddings

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
            "tagging_head": _tagger(model) is not None,
            "version": __version__,
            **({} if self.classes is None else self.classes.describe()),
        }


def clip_model(
    model: AudioEmbedder,
    *,
    seconds: float | None = None,
    source: Source = "waveform",
    classes: bool = False,
    classifier: Classifier | None = None,
) -> ClipModel:
    """Return what `export_onnx` and `export_torch` write; arguments and errors are theirs."""
    if source not in ("waveform", "spectrogram"):
        raise ConfigError(f"source: {source!r} is not one of 'waveform', 'spectrogram'")
    tagger = None
    if classifier is not None:
        classifier.embedding.check(model)
    elif classes:
        tagger = _tagger(model)
        if tagger is None:
            raise no_head_error(model)
    n_samples = round(_clip_seconds(model, seconds, classifier, tagger) * model.sample_rate)
    output: HeadOutput | TagOutput | None = None
    if classifier is not None:
        output = HeadOutput(classifier)
    elif tagger is not None:
        output = TagOutput(model, tagger, n_samples)
    return ClipModel(model, n_samples, source, output).eval()


def _tagger(model: AudioEmbedder) -> Tagger | None:
    """Return the encoder of a model with a tagging head; None of other models."""
    encoder = model.encoder
    return encoder if isinstance(encoder, Tagger) and encoder.num_classes else None


def _clip_seconds(
    model: AudioEmbedder, seconds: float | None, classifier: Classifier | None, tagger: Tagger | None
) -> float:
    """Return the length of a clip: what was asked for, if possible; else that of the classes, or of the window."""
    learned = None if classifier is None else classifier.clip_seconds
    if seconds is None:
        if learned is not None:
            seconds = learned
        elif tagger is not None:
            # The windows of a recording that is longer than one: what most recordings are cut into.
            longest = tagger.tag_frames * model.features.hop_length
            seconds = tag_windows(model, tagger, longest + 1)[1] / model.sample_rate
        else:
            seconds = model.config.window_seconds
    elif learned is not None and seconds != learned:
        raise ConfigError(
            f"seconds: {seconds:g}, but the classifier was fitted on clips of {learned:g} s; leave it out"
        )
    if not model.features.hop_length <= seconds * model.sample_rate <= MAX_WINDOW_SECONDS * model.sample_rate:
        shortest = model.features.hop_length / model.sample_rate
        raise ConfigError(
            f"seconds: {seconds!r} is not from {shortest:g} (one frame) to {MAX_WINDOW_SECONDS}"
        )
    return seconds
