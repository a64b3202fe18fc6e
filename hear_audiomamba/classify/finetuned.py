"""A fine-tuned model with its head as a classifier that `predict` takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..hear import load_model
from ..pretrain.objectives.finetune import LinearHead
from .events import EventSettings
from .head import Calibration, Head, Layer
from .model_file import Classifier, EmbeddingModel, save_classifier

NAME = "classifier.safetensors"
# Of a class of several; what is most probable of a single-label task counts in any case.
_THRESHOLD = 0.5


def write_finetuned(run: Path, head: LinearHead, clip_seconds: float) -> Path:
    """Write the classifier of a fine-tuning run beside its model; the folder can be moved.

    Args:
        run: folder with `model.safetensors`.
        head: what `pretrain` returned.
        clip_seconds: length of the clips that the model was trained on.

    Returns:
        The file written.

    Raises:
        OutputError: it cannot be written.
    """
    thresholds = np.full(len(head.classes), 0.0 if head.kind == "single" else _THRESHOLD, np.float32)
    model = EmbeddingModel.of(
        load_model(run / "model.safetensors", device="cpu"), {"model_file_path": "model.safetensors"}
    )
    classifier = Classifier(
        Head(
            head.kind, head.classes, head.mean, head.scale, (Layer(head.weight, head.bias),),
            Calibration.none(len(head.classes)), thresholds,
        ),
        model, clip_seconds, EventSettings(smooth_seconds=0.0),
        {"made_by": "finetune", "calibrated": False},
    )  # fmt: skip
    save_classifier(classifier, run / NAME)
    return run / NAME
