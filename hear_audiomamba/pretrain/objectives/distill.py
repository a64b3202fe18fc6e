"""Heads that predict teachers' embeddings from a student's scene vector, and their losses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import DistillConfig
from ..data.targets import Teacher


class ScaledBatchNorm(nn.BatchNorm1d):
    """Standardise each dimension over the batch, and make all of them small.

    One step of Adam moves a linear layer's output by about the rate times the sum of its inputs' sizes: at full
    size a thousand inputs would throw the predictions about.
    """

    SCALE = 0.25

    def __init__(self, width: int) -> None:
        super().__init__(width, affine=False)

    def forward(self, input: Tensor) -> Tensor:
        """Return `(B, width)` of `(B, width)`."""
        return self.SCALE * super().forward(input)


class TeacherHeads(nn.Module):
    """A small head for each teacher; the model that is kept has none of them.

    Args:
        width: K, of the scene vector.
        teachers: by name; empty for none.
        config: kind of head.

    Source: several teachers with a head each, as USAD (arXiv 2506.18843) and DASS (arXiv 2407.04082).
    """

    def __init__(self, width: int, teachers: Mapping[str, Teacher], config: DistillConfig) -> None:
        super().__init__()
        self.names = tuple(teachers)
        self.losses = {name: teacher.loss for name, teacher in teachers.items()}
        self.weights = {name: teacher.weight for name, teacher in teachers.items()}
        self.coverage = {name: teacher.coverage for name, teacher in teachers.items()}
        self.heads = nn.ModuleDict()
        for name, teacher in teachers.items():
            if name == config.tags:
                continue
            # Without a scale of its own the norm keeps all directions of the scene vector alike.
            norm: nn.Module = nn.LayerNorm(width, elementwise_affine=False)
            if config.head_norm == "batch":
                norm = ScaledBatchNorm(width)
            layers: list[nn.Module] = [norm]
            if config.head == "mlp":
                layers += [nn.Linear(width, config.hidden), nn.GELU(), nn.Linear(config.hidden, teacher.dim)]
            else:
                layers.append(nn.Linear(width, teacher.dim))
            self.heads[name] = nn.Sequential(*layers)

    @contextmanager
    def covering(self, coverage: Mapping[str, float]) -> Iterator[None]:
        """Count, within the context, with other shares of known rows than those of the training crops.

        Args:
            coverage: share of the rows each teacher knows, by name; one who knows none has no loss.
        """
        own = self.coverage
        self.coverage = {name: coverage[name] or math.inf for name in self.names}
        try:
            yield
        finally:
            self.coverage = own

    def forward(
        self, scene: Tensor, batch: Mapping[str, Tensor], own: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted mean of the teachers' losses, and each of them.

        Args:
            scene: `(B, K)`.
            batch: holds `target_<teacher>` `(B, width)`; rows with a NaN are left out.
            own: predictions `(B, width)` that the model makes itself, by the teacher's name.
        """
        own = own or {}
        total = scene.new_zeros((), dtype=torch.float32)
        parts = {}
        for name in self.names:
            target = batch[f"target_{name}"]
            known = ~target.isnan().any(dim=1)
            prediction = own[name].float() if name in own else self.heads[name](scene.float()).float()
            # Unknown rows get any target and no weight, so that every head has a gradient at every step.
            each = teacher_loss(prediction, torch.where(known[:, None], target, 0.0), self.losses[name])
            # Divided by how many rows are known on average and not in this batch: a teacher who knows few crops
            # then has the same weight in every batch, and the loss of a batch is the mean of its parts.
            loss = (each * known).sum() / (len(known) * self.coverage[name])
            parts[f"teacher_{name}"] = loss.detach()
            total = total + self.weights[name] * loss
        return total / max(sum(self.weights.values()), 1e-9), parts


def teacher_loss(prediction: Tensor, target: Tensor, kind: str) -> Tensor:
    """Return the distance of each prediction from its target, `(B,)`.

    Args:
        prediction: `(B, dim)`.
        target: `(B, dim)`; for "cross_entropy" `(B, 1)`, the class's number.
        kind: "mse", "l1", "cosine" (one minus the cosine), "l1_cosine" (l1 − log σ(cosine)), "bce" or
            "cross_entropy".
    """
    if kind == "mse":
        return (prediction - target).square().mean(dim=1)
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(prediction, target, reduction="none").mean(dim=1)
    if kind == "cross_entropy":
        return F.cross_entropy(prediction, target[:, 0].long(), reduction="none")
    cosine = F.cosine_similarity(prediction, target, dim=1)
    if kind == "cosine":
        return 1 - cosine
    distance = (prediction - target).abs().mean(dim=1)
    return distance if kind == "l1" else distance - F.logsigmoid(cosine)
