"""Models as files that other programs run: ONNX and `torch.export`.

An exported model takes clips of one length and any number of them. It gives what the HEAR API gives for
them, scene and timestamp embeddings, and the probabilities of classes where that is asked for.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ..classify.model_file import Classifier
from ..embedding.embedder import AudioEmbedder
from ..errors import require
from ..io.files import replacing
from ..onnx_runtime import METADATA_KEY
from .clip_model import ClipModel, Source, clip_model
from .eight_bits import quantise
from .lowered import check_torch, decompositions
from .simplified import simplify

OPSET = 20


def export_torch(
    model: AudioEmbedder,
    path: str | Path,
    *,
    seconds: float | None = None,
    source: Source = "waveform",
    classes: bool = False,
    classifier: Classifier | None = None,
) -> Path:
    """Write a model as a `.pt2` file, for `torch.export.load`; running it needs PyTorch only.

    Args:
        model: what `load_model` returned, on the CPU, in float32.
        path: the file to write.
        seconds: length of a clip; by default the model's window, or with classes the length of the clips that
            they were learned on.
        source: what the exported model takes.
        classes: also give what the model's own tagging head says. That is a second pass through the encoder,
            which every call then pays for.
        classifier: what `load_classifier` returned, to export with the model that it was fitted on. Its classes
            are read from the embeddings, so they cost next to nothing; `classes` changes nothing.

    Returns:
        The path.

    Raises:
        ConfigError: the model or the length cannot be exported, or the model has no tagging head.
        DataError: the classifier was fitted on embeddings of another model.
        MissingPackageError: PyTorch is older than 2.8.
        OutputError: the path cannot be written.
    """
    check_torch()
    clip = clip_model(model, seconds=seconds, source=source, classes=classes, classifier=classifier)
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
    classes: bool = False,
    int8: bool = False,
    classifier: Classifier | None = None,
) -> Path:
    """Write a model as an ONNX file (opset 20) with what one must know in its metadata.

    Inputs: "clips", `(batch, samples)` or `(batch, frames, mels)`. Outputs: "scene" `(batch, K)` and
    "embeddings" `(batch, n, K)`, whose times stand in the metadata; with classes also "probabilities",
    `(batch, C)`, or `(batch, n, C)` of events in time.

    Args:
        model: what `load_model` returned, on the CPU, in float32.
        path: the file to write.
        seconds: length of a clip; by default the model's window, or with classes the length of the clips that
            they were learned on.
        source: what the exported model takes.
        classes: also give what the model's own tagging head says. That is a second pass through the encoder,
            which every call then pays for: onnxruntime computes all outputs, whichever are asked for.
        int8: store the weights of matrix products in eight bits: see `eight_bits.quantise`.
        classifier: what `load_classifier` returned, to export with the model that it was fitted on. Its classes
            are read from the embeddings, so they cost next to nothing; `classes` changes nothing.

    Returns:
        The path.

    Raises:
        ConfigError: the model or the length cannot be exported, or the model has no tagging head.
        DataError: the classifier was fitted on embeddings of another model.
        MissingPackageError: the packages of the extra "onnx" are not installed, or PyTorch is older than 2.8.
        OutputError: the path cannot be written.
    """
    check_torch()
    for package in ("onnx", "onnxscript"):
        require(package, "exporting to ONNX", "hear_audiomamba[onnx]")
    clip = clip_model(model, seconds=seconds, source=source, classes=classes, classifier=classifier)
    with replacing(path) as partial, _quiet(), torch.no_grad():
        program = torch.onnx.export(
            _lowered(clip),
            (clip.example(2),),
            input_names=["clips"],
            output_names=clip.outputs,
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
