"""This package's own bundled weights as a teacher of other models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from hear_audiomamba import get_scene_embeddings, load_model

from .base import Teacher, by_length


class OwnTeacher(Teacher):
    """The scene embeddings of the package's default weights.

    They hold what all the other teachers and the masked modelling of the weights' own training taught, so a
    small model learns from one vector what took hours to learn.

    Source: `weights/ssam_tiny_200_16x4.open-distilled.safetensors` of this package.
    """

    name = "own"
    licence = "Apache-2.0"
    source = "hear_audiomamba, ssam_tiny_200_16x4.open-distilled"
    network = True
    dim = 960

    def __init__(self, corpus: Path) -> None:
        super().__init__(corpus)
        self.model = load_model(variant="ssam_tiny_200_16x4.open-distilled")

    def to(self, device: str) -> None:
        """Move the network to a device."""
        self.model = self.model.to(device)

    def embed(self, clips: Sequence[np.ndarray], paths: Sequence[str]) -> np.ndarray:
        result = np.empty((len(clips), self.dim), np.float32)
        with torch.inference_mode():
            for indices in by_length(clips).values():
                batch = torch.from_numpy(np.stack([clips[i] for i in indices])).to(self.model.device)
                result[indices] = get_scene_embeddings(batch, self.model).cpu().numpy()
        return result
