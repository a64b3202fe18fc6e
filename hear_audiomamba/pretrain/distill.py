"""Heads that predict teachers' embeddings from a student's scene vector, and their losses."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from .config import DistillConfig


class TeacherHeads(nn.Module):
    """A small head for each teacher; the student keeps none of them.

    Args:
        width: K, of the scene vector.
        teachers: name → width of its embedding; empty for no teachers.
        config: kind of head and of loss, and the teachers' weights.

    Source: several teachers with a head each, as USAD (arXiv 2506.18843) and DASS (arXiv 2407.04082).
    """

    def __init__(self, width: int, teachers: Mapping[str, int], config: DistillConfig) -> None:
        super().__init__()
        self.names = tuple(teachers)
        self.loss = config.loss
        weights = config.teachers or {}
        self.weights = {name: float(weights.get(name, 1.0)) for name in self.names}
        self.heads = nn.ModuleDict()
        for name, dim in teachers.items():
            # Without a scale of its own the norm keeps all directions of the scene vector alike.
            layers: list[nn.Module] = [nn.LayerNorm(width, elementwise_affine=False)]
            if config.head == "mlp":
                layers += [nn.Linear(width, config.hidden), nn.GELU(), nn.Linear(config.hidden, dim)]
            else:
                layers.append(nn.Linear(width, dim))
            self.heads[name] = nn.Sequential(*layers)

    def forward(self, scene: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of the teachers' losses and each of them.

        Args:
            scene: `(B, K)`.
            batch: holds `target_<teacher>` `(B, dim)`, standardised.
        """
        total = scene.new_zeros(())
        parts = {}
        for name in self.names:
            loss = teacher_loss(self.heads[name](scene.float()).float(), batch[f"target_{name}"], self.loss)
            parts[f"teacher_{name}"] = loss.detach()
            total = total + self.weights[name] * loss
        return total / max(sum(self.weights.values()), 1e-9), parts


def teacher_loss(prediction: Tensor, target: Tensor, kind: str) -> Tensor:
    """Return the distance between predicted and true embeddings, mean over the batch.

    Args:
        prediction, target: `(B, dim)`.
        kind: "mse", "l1", "cosine" (one minus the cosine), or "l1_cosine" (l1 − log σ(cosine)).
    """
    if kind == "mse":
        return F.mse_loss(prediction, target)
    cosine = F.cosine_similarity(prediction, target, dim=-1)
    if kind == "cosine":
        return (1 - cosine).mean()
    distance = F.l1_loss(prediction, target)
    return distance if kind == "l1" else distance - F.logsigmoid(cosine).mean()
