"""Training the whole network on labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ...encoders.base import Encoder, Tagger
from ..config import PretrainConfig
from ..data.labelled import Kind
from .objectives import Batch, Objective

_FIT_STEPS = 200


class LinearHead(NamedTuple):
    """A trained scene head as plain numbers: `(scene - mean) / scale @ weight + bias` gives the classes' logits.

    `mean` and `scale` are `(K,)`, `weight` `(K, C)` and `bias` `(C,)`, float32.
    """

    kind: Kind
    classes: tuple[str, ...]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


class SceneHead(nn.Module):
    """A linear layer on standardised scene embeddings; until it is fitted, all classes are as likely.

    Args:
        width: K, of a scene embedding.
        n_classes: outputs.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.linear = nn.Linear(width, n_classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, scene: Tensor) -> Tensor:
        """Return logits `(B, classes)` float32 of scene embeddings `(B, K)`."""
        logits: Tensor = self.linear((scene.float() - self.mean) / self.scale)
        return logits.float()

    def numbers(self, kind: Kind, classes: tuple[str, ...]) -> LinearHead:
        """Return the head as it is now."""
        parts = (self.mean, self.scale, self.linear.weight.T, self.linear.bias)
        mean, scale, weight, bias = (
            part.detach().float().cpu().contiguous().numpy().copy() for part in parts
        )
        return LinearHead(kind, classes, mean, scale, weight, bias)

    @torch.no_grad()
    def standardise(self, scenes: Tensor) -> None:
        """Take mean and deviation from scene embeddings `(n, K)`."""
        deviation = scenes.double().std(dim=0, correction=0)
        # A dimension that hardly varies must not dominate.
        self.scale.copy_(deviation.clamp_min(1e-3 * deviation.median().clamp_min(1e-6)))
        self.mean.copy_(scenes.double().mean(dim=0))

    def fit(self, scenes: Tensor, loss: Callable[[Tensor], Tensor], penalty: float) -> None:
        """Become the classifier with the least loss on these scenes, starting from the present one.

        It is solved in float64 on the CPU, so that what rounding does to embeddings is not made larger.

        Args:
            scenes: embeddings `(n, K)`.
            loss: of logits `(n, classes)` float64 on the CPU.
            penalty: half of it times the squared weights is added to the loss.
        """
        rows = ((scenes.float() - self.mean) / self.scale).cpu().double()
        weight, bias = (p.detach().cpu().double().requires_grad_() for p in self.linear.parameters())
        solver = torch.optim.LBFGS(
            [weight, bias], max_iter=_FIT_STEPS, tolerance_grad=1e-7, tolerance_change=1e-12,
            line_search_fn="strong_wolfe",
        )  # fmt: skip

        def closure() -> Tensor:
            solver.zero_grad()
            total = loss(F.linear(rows, weight, bias)) + 0.5 * penalty * weight.square().sum()
            torch.autograd.backward(total)
            return total

        solver.step(closure)
        with torch.no_grad():
            self.linear.weight.copy_(weight)
            self.linear.bias.copy_(bias)


class Finetuning(Objective):
    """Classification by the whole network: cross-entropy, or binary cross-entropy for several labels a clip.

    Args:
        encoder: what is trained; its own tagging head is used if it has one and the configuration agrees.
        config: of the run.
        scene_pooling: how rows become the scene vector that the head reads; the model's own.
        kind: "single" label a clip, or "multi"ple.
        n_labels: classes.

    Source: fine-tuning of AST, SSAST and SSAMBA (Gong et al., AAAI 2022; Shams et al., arXiv 2405.11831).
    """

    head: SceneHead | None

    def __init__(
        self, encoder: Encoder, config: PretrainConfig, scene_pooling: str, kind: Kind, n_labels: int
    ) -> None:
        super().__init__(encoder, config, None, scene_pooling)
        self.kind = kind
        loss = config.finetune.loss
        self.loss = loss if loss != "auto" else ("cross_entropy" if kind == "single" else "bce")
        own = isinstance(encoder, Tagger) and encoder.num_classes > 0
        self.head = None if own else SceneHead(encoder.frame_embedding_size, n_labels)

    def logits(self, features: Tensor, batch: Batch) -> Tensor:
        """Return the classes' logits `(B, classes)` float32."""
        if self.head is not None:
            logits: Tensor = self.head(self.scene(self.encoder.embed_frames(features), batch))
            return logits
        assert isinstance(self.encoder, Tagger)  # or there would be a head
        return self.encoder.tag(features)[0].float()

    def loss_of(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of logits `(B, classes)` against labels `(B, classes)`, 0 to 1."""
        smooth = self.config.objective.label_smoothing
        if self.loss == "bce":
            return F.binary_cross_entropy_with_logits(
                logits, labels * (1 - smooth) + smooth / labels.shape[1]
            )
        shares = labels / labels.sum(dim=1, keepdim=True).clamp_min(1e-6)
        return F.cross_entropy(logits, shares, label_smoothing=smooth)

    def forward(self, features: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self.loss_of(self.logits(features, batch), batch["labels"])}
