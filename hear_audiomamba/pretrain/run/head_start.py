"""Where a new head starts: at zero, or as good as a classifier on the model's embeddings."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..config import PretrainConfig
from ..data.batches import fixed_batches
from ..data.dataset import Crops
from ..data.order import Order
from ..objectives.finetune import Finetuning, SceneHead
from .build import Parts
from .evaluation import Forward, on_device
from .scores import score

# Neither moments nor a probe get better with more.
_MOST_CLIPS = 10_000
# From strong to weak: each fit starts from the one before it.
_PENALTIES = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)


def start_head(config: PretrainConfig, parts: Parts, forward: Forward, micro: int) -> None:
    """Give a scene head its mean and deviation, and the weights of the probe if the run asks for them.

    The probe is the linear classifier with the least loss on embeddings of the training clips, without
    augmentation. Of several penalties, the one with the best score on the validation clips is taken. A tagging
    head of the model's own is left as it is.

    Args:
        config: of the run.
        parts: model and data.
        forward: from a batch to its losses.
        micro: clips that go through the model at once.
    """
    objective = parts.objective
    if not isinstance(objective, Finetuning) or objective.head is None:
        return
    clips = parts.train.clips
    order = Order(np.arange(len(clips)), config.seed)
    train = Crops(clips, order, config.data, parts.train.sample_rate, parts.train.n_frames, [])
    objective.eval()
    scenes, labels = _embed(objective, forward, train, micro)
    objective.head.standardise(scenes)
    if config.finetune.head_start == "probe" and parts.valid is not None:
        unseen = _embed(objective, forward, parts.valid, micro)
        _fit_probe(objective, objective.head, (scenes, labels), unseen)
    objective.train()


@torch.no_grad()
def _embed(objective: Finetuning, forward: Forward, crops: Crops, micro: int) -> tuple[Tensor, Tensor]:
    """Return scene embeddings `(n, K)` and labels `(n, classes)`, on the device."""
    scenes, labels = [], []
    for batch in fixed_batches(crops, _MOST_CLIPS, micro):
        features, inputs = forward.inputs(on_device(batch, forward.device), False)
        with forward.autocast():
            scenes.append(objective.scene(objective.encoder.embed_frames(features), inputs).float())
        labels.append(inputs["labels"])
    return torch.cat(scenes), torch.cat(labels)


def _fit_probe(
    objective: Finetuning, head: SceneHead, train: tuple[Tensor, Tensor], valid: tuple[Tensor, Tensor]
) -> None:
    scenes, wanted = train[0], train[1].cpu().double()
    unseen, truth = valid[0], valid[1].cpu()
    best: tuple[float, float] | None = None
    state = {}
    for penalty in _PENALTIES:
        head.fit(scenes, lambda logits: objective.loss_of(logits, wanted), penalty)
        with torch.no_grad():
            logits = head(unseen).cpu()
        # Of two equal scores, the one with the lower loss, as in validation.
        found = (score(logits, truth, objective.kind), -float(objective.loss_of(logits, truth)))
        if best is None or found > best:
            best, state = found, {name: value.clone() for name, value in head.state_dict().items()}
    head.load_state_dict(state)
