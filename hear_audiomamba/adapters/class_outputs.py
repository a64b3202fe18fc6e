"""The classes of exported models: a model's own tagging head, or a classifier that `fit` or `finetune` wrote."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..classify.model_file import Classifier
from ..embedding.embedder import AudioEmbedder
from ..embedding.tagging import class_names, tag_input, tag_probabilities, tag_windows
from ..encoders.base import Tagger


class TagOutput(nn.Module):
    """What a model's tagging head says about clips of one length: `tag_audio` as a function of tensors.

    Args:
        model: with a tagging head.
        tagger: its encoder.
        n_samples: length of every clip, in samples.
    """

    def __init__(self, model: AudioEmbedder, tagger: Tagger, n_samples: int) -> None:
        super().__init__()
        self.model, self.tagger = model, tagger
        self.starts, self.length = tag_windows(model, tagger, n_samples)

    def of_waveforms(self, clips: Tensor, features: nn.Module) -> Tensor:
        """Return probabilities `(B, C)` of clips `(B, n_samples)`, whose spectrograms `features` computes."""
        return self._highest([features(clips[:, at : at + self.length]) for at in self.starts])

    def of_spectrograms(self, clips: Tensor) -> Tensor:
        """Return probabilities `(B, C)` of spectrograms `(B, T, F)`; a long one is cut at the nearest frames."""
        hop = self.model.features.hop_length
        frames = self.model.features.n_frames(self.length)
        firsts = [round(at / hop) for at in self.starts]
        return self._highest([clips[:, first : first + frames] for first in firsts])

    def describe(self) -> dict[str, Any]:
        """Return what a program that runs the file must know, fit for JSON."""
        return {"classes": class_names(self.tagger.num_classes, self.model.config.labels), "kind": "tags"}

    def _highest(self, windows: list[Tensor]) -> Tensor:
        batch = torch.cat([tag_input(self.model, self.tagger, window) for window in windows])
        found = tag_probabilities(self.model, self.tagger.tag(batch)[0])
        highest: Tensor = found.unflatten(0, (len(windows), -1)).amax(0)
        return highest


class HeadOutput(nn.Module):
    """A fitted classifier as a function of tensors.

    Args:
        classifier: what `load_classifier` returned.

    Attributes:
        in_time: it takes timestamp embeddings, and not scene embeddings.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier, self.kind = classifier, classifier.head.kind
        head = classifier.head
        self.n_layers, self.in_time = len(head.layers), head.kind == "events"
        numbers = {
            "mean": head.mean, "scale": head.scale, "slope": head.calibration.slope,
            "offset": head.calibration.offset,
        }  # fmt: skip
        for index, layer in enumerate(head.layers):
            numbers |= {f"weight{index}": layer.weight, f"bias{index}": layer.bias}
        for name, values in numbers.items():
            self.register_buffer(name, torch.from_numpy(values.copy()))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the probabilities `(…, C)` of embeddings `(…, K)`."""
        rows = (embeddings - self.get_buffer("mean")) / self.get_buffer("scale")
        for index in range(self.n_layers):
            rows = rows.relu() if index else rows
            rows = rows @ self.get_buffer(f"weight{index}") + self.get_buffer(f"bias{index}")
        logits = rows * self.get_buffer("slope") + self.get_buffer("offset")
        found: Tensor = logits.softmax(-1) if self.kind == "single" else logits.sigmoid()
        return found

    def describe(self) -> dict[str, Any]:
        """Return what a program that runs the file must know, fit for JSON."""
        head = self.classifier.head
        return {
            "classes": head.classes,
            "kind": head.kind,
            "thresholds": [round(float(value), 6) for value in head.thresholds],
            "events": self.classifier.events.to_dict(),
        }
