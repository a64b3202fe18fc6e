"""How good a run is by now: the loss on unseen clips, the probe's scores, a picture."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...encoders.base import MaskedModel
from ..config import PretrainConfig
from ..data.batches import fixed_batches
from ..data.dataset import Crops
from ..data.inputs import rows_within, spec_augment, spectrogram
from ..objectives.finetune import Finetuning
from .build import Parts
from .optim import WeightAverage
from .pictures import reconstruction_picture
from .probe import Probe
from .scores import score, score_name

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Forward:
    """From a batch to its losses: features in float32, the encoder in the run's precision.

    Args:
        config: of the run.
        parts: front end and crop length.
        device: where batches go.
    """

    def __init__(self, config: PretrainConfig, parts: Parts, device: torch.device) -> None:
        self.config, self.device = config, device
        self.frontend, self.n_frames = parts.frontend.to(device), parts.n_frames
        self.encoder = parts.encoder

    def features(self, batch: dict[str, Any]) -> Tensor:
        """Return the encoder's input `(B, T, F)`."""
        return spectrogram(self.frontend, batch, self.n_frames)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context that computes in the run's precision."""
        dtype = PRECISIONS[self.config.precision]
        return torch.autocast(self.device.type, dtype) if dtype else contextlib.nullcontext()

    def _without_padding(self, features: Tensor, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Cut a batch behind its longest clip; what a causal encoder says of the clips stays the same.

        `n_rows` lies on the CPU here.
        """
        longest, full = int(batch["n_rows"].max()), self.encoder.count_rows(self.n_frames)
        if longest == full:
            return features, batch
        features = features[:, : self.encoder.fit_frames(round(longest * self.encoder.step))]
        masks = {
            name: mask[:, : mask.shape[1] * longest // full]  # tokens are time-major
            for name, mask in batch.items()
            if name.startswith("mask")
        }
        return features, {**batch, **masks}

    def inputs(self, batch: dict[str, Any], training: bool) -> tuple[Tensor, dict[str, Any]]:
        """Return what an objective takes, of a batch that lies on the device."""
        features = self.features(batch)
        if self.config.data.short_clips == "pad" and "length" in batch:
            rows = rows_within(self.frontend, self.encoder, batch, self.n_frames)
            batch = {**batch, "n_rows": rows}
            if self.encoder.causal:
                features, batch = self._without_padding(features, batch)
            batch["n_rows"] = rows.to(self.device, non_blocking=True)
        if training:
            features = spec_augment(features, batch["chance"], self.config.augment)
        return features, batch

    def __call__(self, batch: dict[str, Any], model: nn.Module) -> dict[str, Tensor]:
        """Return the losses of a batch that lies on the device."""
        features, batch = self.inputs(batch, model.training)
        with self.autocast():
            losses: dict[str, Tensor] = model(features, batch)
        return losses


class Evaluation:
    """Evaluates with the weights a checkpoint's model file gets: the average, if the run keeps one.

    Args:
        config: of the run.
        parts: model and data.
        forward: from a batch to its losses.
        average: of the objective's weights, or None.
        micro: clips that go through the model at once.
        probing: this process does the probe.
    """

    def __init__(
        self,
        config: PretrainConfig,
        parts: Parts,
        forward: Forward,
        average: WeightAverage | None,
        micro: int,
        probing: bool,
    ) -> None:
        self.config, self.parts, self.forward, self.average = config, parts, forward, average
        self.micro = micro
        self.probe = Probe(config.probe, parts.frontend, parts.model) if probing else None

    @torch.no_grad()
    def label_scores(self, crops: Crops) -> dict[str, float]:
        """Return a fine-tuned model's loss and score on labelled clips, all of them."""
        objective = self.parts.objective
        assert isinstance(objective, Finetuning)
        with self._kept_weights():
            logits, labels = self._logits(objective, crops)
        loss = float(objective.loss_of(logits, labels))
        return {"loss": loss, score_name(objective.kind): score(logits, labels, objective.kind)}

    def _logits(self, objective: Finetuning, crops: Crops) -> tuple[Tensor, Tensor]:
        logits, labels = [], []
        for batch in fixed_batches(crops, len(crops), self.micro):
            labels.append(batch["labels"])
            features, inputs = self.forward.inputs(on_device(batch, self.forward.device), False)
            with self.forward.autocast():
                logits.append(objective.logits(features, inputs))
        return torch.cat(logits).cpu(), torch.cat(labels)

    @torch.no_grad()
    def valid_losses(self) -> dict[str, float]:
        """Return the mean losses over fixed crops of the valid split, a teacher's over the crops it knows.

        A teacher that knows none of them is left out.
        """
        valid, heads = self.parts.valid, self.parts.objective.heads
        assert valid is not None  # or `build` would have refused
        shares = valid.known_shares(self.config.run.valid_clips)
        sums: dict[str, Tensor] = {}  # on the device until the end, so that nothing waits for it
        clips = 0
        with self._kept_weights(), heads.covering(shares):
            for batch in fixed_batches(valid, self.config.run.valid_clips, self.micro):
                batch = on_device(batch, self.forward.device)
                n = len(batch["chance"])
                for name, value in self.forward(batch, self.parts.objective).items():
                    sums[name] = sums.get(name, torch.zeros_like(value.float())) + n * value.float()
                clips += n
        unknown = {f"teacher_{name}" for name, share in shares.items() if not share}
        return {name: float(value) / clips for name, value in sums.items() if name not in unknown}

    def probe_scores(self) -> dict[str, float]:
        """Return the score of each probe task; empty where there are none."""
        if self.probe is None or not self.probe.tasks:
            return {}
        with self._kept_weights():
            return self.probe.scores(self.parts.encoder)

    @torch.no_grad()
    def draw(self, path: Path) -> bool:
        """Write a picture of a reconstruction; tell whether the objective makes one."""
        source = self.parts.valid or self.parts.train
        batch = on_device(next(iter(fixed_batches(source, 1, 1))), self.forward.device)
        features = self.forward.features(batch)
        with self._kept_weights(), self.forward.autocast():
            picture = self.parts.objective.picture(features, batch)
        encoder = self.parts.encoder
        if picture is None or not isinstance(encoder, MaskedModel):
            return False
        reconstruction_picture(picture, encoder.patch_embed, (features.shape[1], features.shape[2]), path)
        return True

    @contextlib.contextmanager
    def _kept_weights(self) -> Iterator[None]:
        objective = self.parts.objective
        live = None
        if self.average is not None:
            live = {name: p.detach().clone() for name, p in objective.named_parameters()}
            _set(objective, self.average.values)
        objective.eval()
        try:
            yield
        finally:
            if live is not None:
                _set(objective, live)
            objective.train()


def on_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Return the tensors of a batch on a device, all but the lengths: the CPU decides by them."""
    return {
        name: value if name == "length" else value.to(device, non_blocking=True)
        for name, value in batch.items()
        if isinstance(value, Tensor)
    }


@torch.no_grad()
def _set(module: nn.Module, values: dict[str, Tensor]) -> None:
    for name, parameter in module.named_parameters():
        parameter.copy_(values[name])
