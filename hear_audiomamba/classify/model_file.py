"""A fitted classifier in one safetensors file: its numbers, and in the metadata all that they mean."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..archive.describe import describe
from ..archive.options import EmbedOptions
from ..embedding.embedder import AudioEmbedder
from ..errors import CheckpointError, DataError, one_line
from ..io.files import replacing
from ..io.label_checks import KINDS
from ..io.tensors import system_errors
from .events import EventSettings
from .head import Calibration, Head, Layer

KEY, FORMAT = "hear_audiomamba_classifier", 1
# What embeddings depend on, of all that `describe` says.
_SETTINGS = ("config", "window_frames", "precision", "timestamps", "compat")


@dataclass(frozen=True)
class EmbeddingModel:
    """Which embeddings a classifier takes.

    Attributes:
        arguments: keywords of `load_model` that load it again. A file beside the classifier's own is found there.
        variant: its name.
        weights_sha256: of its weights' values.
        settings: configuration, window and all else that its embeddings depend on.
    """

    arguments: dict[str, Any]
    variant: str
    weights_sha256: str
    settings: dict[str, Any]

    @classmethod
    def of(cls, model: AudioEmbedder, arguments: dict[str, Any] | None = None) -> EmbeddingModel:
        """Describe a loaded model; `arguments` are the keywords that it was loaded with."""
        facts = describe(model, EmbedOptions())
        # Through JSON, as it comes back from a file.
        settings = json.loads(json.dumps({key: facts.settings[key] for key in _SETTINGS}))
        given = {"model_file_path": facts.model} if arguments is None else arguments
        return cls(dict(given), facts.model, facts.weights_sha256, settings)

    def check(self, model: AudioEmbedder) -> None:
        """Raise a DataError unless a model gives the embeddings that the classifier was fitted on."""
        self._check(EmbeddingModel.of(model), "the model given")

    def check_archive(self, folder: Path, made_with: dict[str, Any]) -> None:
        """Raise a DataError unless an archive holds such embeddings; `made_with` is its provenance."""
        settings = {key: made_with.get(key) for key in _SETTINGS}
        other = EmbeddingModel(
            {}, str(made_with.get("model")), str(made_with.get("weights_sha256")), settings
        )
        self._check(other, str(folder))

    def _check(self, other: EmbeddingModel, what: str) -> None:
        pairs = [
            ("model", self.variant, other.variant),
            ("weights", self.weights_sha256[:16], other.weights_sha256[:16]),
            *((key, self.settings[key], other.settings[key]) for key in _SETTINGS),
        ]
        for name, own, theirs in pairs:
            if not _agree(own, theirs):
                shown = "" if name == "config" else f" {own}, not {theirs}"
                raise DataError(
                    f"the classifier was fitted on embeddings of another {name}{shown} as in {what}; "
                    "give the model it was fitted on with --embedding-model, or fit again"
                )


def _agree(own: Any, theirs: Any) -> bool:
    """Compare settings; one that another version of this package does not know yet has no say."""
    if isinstance(own, dict) and isinstance(theirs, dict):
        return all(_agree(own[key], theirs[key]) for key in own.keys() & theirs.keys())
    return bool(own == theirs)


@dataclass(frozen=True)
class Classifier:
    """A classifier with what it needs to be used on audio.

    Attributes:
        head: embeddings to probabilities.
        embedding: what gives the embeddings.
        clip_seconds: length of the pieces that long recordings are cut into; None for events in time.
        events: how probabilities over time become events.
        facts: how it was fitted: counts, options, versions; for people to read.
    """

    head: Head
    embedding: EmbeddingModel
    clip_seconds: float | None
    events: EventSettings
    facts: dict[str, Any] = field(default_factory=dict)


def save_classifier(classifier: Classifier, path: str | Path) -> None:
    """Write a classifier; the file appears under its name only when it is complete.

    Raises:
        OutputError: it cannot be written.
    """
    from safetensors.numpy import save_file

    head = classifier.head
    tensors = {
        "mean": head.mean, "scale": head.scale, "thresholds": head.thresholds,
        "calibration.slope": head.calibration.slope, "calibration.offset": head.calibration.offset,
    }  # fmt: skip
    for index, layer in enumerate(head.layers):
        tensors[f"layers.{index}.weight"] = layer.weight
        tensors[f"layers.{index}.bias"] = layer.bias
    meaning = {
        "format": FORMAT, "kind": head.kind, "classes": list(head.classes),
        "embedding": vars(classifier.embedding), "clip_seconds": classifier.clip_seconds,
        "events": classifier.events.to_dict(), "facts": classifier.facts,
    }  # fmt: skip
    arrays = {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}
    with replacing(path) as partial, system_errors():
        save_file(arrays, partial, {KEY: json.dumps(meaning, sort_keys=True)})


def is_classifier(path: str | Path) -> bool:
    """Tell whether a file is a classifier, and not the weights of a model; False where it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def load_classifier(path: str | Path) -> Classifier:
    """Read a classifier.

    Raises:
        CheckpointError: the file is missing, damaged, or no classifier.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if KEY not in metadata:
                raise CheckpointError(
                    f"{path}: not a classifier of recordings; `hear-audiomamba fit` and `finetune` write them "
                    "(AudioClassifier.save writes one of embeddings)"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read: {one_line(error)}") from None
    try:
        return _with_model_beside(_classifier(json.loads(metadata[KEY]), tensors), Path(path).parent)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: a damaged classifier: {error!r}") from None


def _with_model_beside(classifier: Classifier, folder: Path) -> Classifier:
    """Let the model be found in the classifier's folder, wherever that was moved to."""
    given = classifier.embedding.arguments
    name = str(given.get("model_file_path", ""))
    if not name or not (folder / name).is_file():
        return classifier
    arguments = {**given, "model_file_path": str(folder / name)}
    return replace(classifier, embedding=replace(classifier.embedding, arguments=arguments))


def _classifier(meaning: dict[str, Any], tensors: dict[str, Any]) -> Classifier:
    if meaning["format"] != FORMAT:
        raise ValueError(f"format {meaning['format']}, this version reads {FORMAT}")
    if meaning["kind"] not in KINDS:
        raise ValueError(f"kind {meaning['kind']!r}")
    count = sum(name.endswith(".weight") for name in tensors)
    layers = tuple(Layer(tensors[f"layers.{i}.weight"], tensors[f"layers.{i}.bias"]) for i in range(count))
    classes = tuple(map(str, meaning["classes"]))
    calibration = Calibration(tensors["calibration.slope"], tensors["calibration.offset"])
    widths = [(len(tensors["mean"]),), *(layer.weight.shape for layer in layers)]
    fits = all(a[-1] == b[0] for a, b in pairwise(widths)) and layers[-1].bias.shape == (len(classes),)
    if not fits or {v.shape for v in (calibration.slope, tensors["thresholds"])} != {(len(classes),)}:
        raise ValueError("its tensors do not fit together")
    head = Head(
        meaning["kind"],
        classes,
        tensors["mean"],
        tensors["scale"],
        layers,
        calibration,
        tensors["thresholds"],
    )
    return Classifier(
        head, EmbeddingModel(**meaning["embedding"]), meaning["clip_seconds"],
        EventSettings.from_dict(meaning["events"]), dict(meaning["facts"]),
    )  # fmt: skip
