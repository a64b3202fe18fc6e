"""What a run minimises. An objective holds the encoder and the heads that only training needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...embedding.pooling import pool_rows
from ...encoders.base import Encoder, PatchDiscriminator, PatchPredictor, Tagger, n_classes
from ...encoders.hiermamba import HierMamba
from ...errors import ConfigError
from ..config import PretrainConfig
from ..data.targets import Teacher
from .distill import TeacherHeads

Batch = dict[str, Any]


class Picture(NamedTuple):
    """Patches of a masked clip: true and predicted `(P, values)`, and which were hidden `(P,)`."""

    target: Tensor
    prediction: Tensor
    mask: Tensor


class Objective(nn.Module):
    """Base: `forward` returns the loss under "loss" and its parts under names of their own.

    Args:
        encoder: what is trained.
        config: of the run.
        teachers: for distillation, by name.
        scene_pooling: how rows become the scene vector that the heads read; the model's own.

    Attributes:
        n_masks: masks a sample needs.
        n_masked: hidden patches of each mask, where all clips have as many; None to count them.

    Raises:
        ConfigError: the encoder lacks what the objective needs.
    """

    n_masks = 0
    n_masked: int | None = None
    encoder: Encoder
    heads: TeacherHeads

    def __init__(
        self,
        encoder: Encoder,
        config: PretrainConfig,
        teachers: dict[str, Teacher] | None = None,
        scene_pooling: str = "mean",
    ) -> None:
        super().__init__()
        self.encoder, self.config, self.scene_pooling = encoder, config, scene_pooling
        self.heads = TeacherHeads(encoder.frame_embedding_size, self.prepare(teachers or {}), config.distill)

    def prepare(self, teachers: Mapping[str, Teacher]) -> Mapping[str, Teacher]:
        """Refuse an encoder and teachers that this objective cannot use; return the teachers that get a head."""
        return teachers

    def scene(self, rows: Tensor, batch: Batch) -> Tensor:
        """Return the scene embeddings `(B, K)` of rows `(B, t, K)`, as the embedder makes them."""
        return pool_rows(rows, self.scene_pooling, batch.get("n_rows"))

    def forward(self, features: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of a batch.

        Args:
            features: `(B, T, F)`, normalised.
            batch: what `dataset.collate` made, on the features' device.

        Returns:
            Scalars; "loss" is the one to minimise.
        """
        raise NotImplementedError

    def picture(self, features: Tensor, batch: Batch) -> Picture | None:
        """Return the first clip's patches, for looking at; None where nothing is reconstructed."""
        return None


class MaskedReconstruction(Objective):
    """SSAM's objective: predict the patches of a spectrogram half of which is hidden.

    With teachers, one pass serves both: on the clips that chance leaves whole there is no
    reconstruction loss, and the heads read the scene vector of all clips.

    Source: Yadav & Tan, arXiv 2406.02178, section 2; `mae_loss` of the reference code, which takes the
        mean over all patches (`loss_on="all"`).
    """

    n_masks = 1
    encoder: PatchPredictor

    def prepare(self, teachers: Mapping[str, Teacher]) -> Mapping[str, Teacher]:
        if not isinstance(self.encoder, PatchPredictor):
            raise ConfigError(f"recipe 'ssam': {self.config.model} has no head that reconstructs patches")
        return teachers

    def forward(self, features: Tensor, batch: Batch) -> dict[str, Tensor]:
        mask, share = batch["mask"], 1.0
        chosen = torch.ones(len(mask), device=mask.device)
        if self.heads.names:
            share = self.config.distill.masked
            chosen = (batch["chance"][:, 0] < share).float()
            mask = mask & chosen.bool()[:, None]
        tokens, prediction, target = self._reconstruct(features, mask)
        per_clip = self.per_clip(prediction, target, mask, self._own_patches(batch))
        # Divided by the expected number of masked clips, not by the actual one: so the gradient of a
        # batch is the mean of those of its parts, however it is split over processes.
        reconstruction = (per_clip * chosen).sum() / (max(share, 1e-6) * len(mask))
        losses = {"reconstruction": reconstruction.detach()}
        if not self.heads.names:
            return {"loss": reconstruction, **losses}
        distillation, parts = self.heads(self.scene(self.encoder.frames(tokens), batch), batch)
        weight = self.config.distill.reconstruction_weight if share > 0 else 0.0
        loss = self.config.distill.weight * distillation + weight * reconstruction
        return {"loss": loss, **losses, **parts}

    def per_clip(self, prediction: Tensor, target: Tensor, mask: Tensor, own: Tensor | None = None) -> Tensor:
        """Return the squared error of each clip `(B,)`, over all its patches or the masked ones.

        Args:
            prediction, target: `(B, P, values)`.
            mask: `(B, P)`, true where hidden.
            own: `(B, P)`, false for the padding behind a short clip; None where there is none.
        """
        objective = self.config.objective
        if objective.normalize_patches:
            mean, var = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
            target = (target - mean) / (var + 1e-6).sqrt()
        error = (prediction.float() - target.float()).square().mean(dim=-1)
        counted = mask if objective.loss_on == "masked" else torch.ones_like(mask)
        if own is not None:
            counted = counted & own
        return (error * counted).sum(dim=1) / counted.sum(dim=1).clamp_min(1)

    def _own_patches(self, batch: Batch) -> Tensor | None:
        if "n_rows" not in batch:
            return None
        index = torch.arange(batch["mask"].shape[1], device=batch["mask"].device)
        within: Tensor = index // self.encoder.n_freq < batch["n_rows"][:, None]  # tokens are time-major
        return within

    def picture(self, features: Tensor, batch: Batch) -> Picture:
        mask = batch["mask"][:1]
        _, prediction, target = self._reconstruct(features[:1], mask)
        return Picture(target[0], prediction[0], mask[0])

    def _reconstruct(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        encoder = self.encoder
        tokens = encoder.encode(encoder.embed(features, mask, self.config.objective.keep_positions))
        return tokens, encoder.predict_patches(tokens), encoder.patch_embed.patches(features)


class JointMaskedPatches(Objective):
    """SSAMBA's objective: tell a clip's own masked patches apart, and reconstruct them.

    Each loss has its own masks and its own pass, as in the reference code.

    Source: Gong et al., AAAI 2022, eq. 1–3; Shams et al., arXiv 2405.11831, section III; `mpc` and `mpg`
        of the reference code.
    """

    n_masks = 2
    encoder: PatchDiscriminator

    def prepare(self, teachers: Mapping[str, Teacher]) -> Mapping[str, Teacher]:
        if not isinstance(self.encoder, PatchDiscriminator):
            raise ConfigError(
                f"recipe 'ssamba': {self.config.model} has no discriminative and generative heads"
            )
        return teachers

    def forward(self, features: Tensor, batch: Batch) -> dict[str, Tensor]:
        nce, accuracy = self.discriminative(features, batch["mask"])
        mse = self.generative(features, batch["mask1"])
        loss = nce + self.config.objective.generative_weight * mse
        losses = {"nce": nce.detach(), "accuracy": accuracy, "mse": mse.detach()}
        if self.heads.names:
            distillation, parts = self.heads(self.scene(self.encoder.embed_frames(features), batch), batch)
            weights = self.config.distill
            loss = weights.reconstruction_weight * loss + weights.weight * distillation
            losses.update(parts)
        return {"loss": loss, **losses}

    def discriminative(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return InfoNCE among each clip's masked patches, and how often a guess fits its own patch best."""
        prediction, target = (
            _masked(x, mask, self.n_masked).float() for x in self.encoder.contrast(features, mask)
        )
        scores = (target @ prediction.transpose(1, 2)).log_softmax(dim=-1)
        right = scores.detach().argmax(dim=1) == torch.arange(scores.shape[1], device=scores.device)
        return -scores.diagonal(dim1=1, dim2=2).mean(), right.float().mean()

    def generative(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return the squared error over the masked patches."""
        prediction, target = (
            _masked(x, mask, self.n_masked).float() for x in self.encoder.reconstruct(features, mask)
        )
        return F.mse_loss(prediction, target)

    def picture(self, features: Tensor, batch: Batch) -> Picture:
        mask = batch["mask1"][:1]
        prediction, target = self.encoder.reconstruct(features[:1], mask)
        return Picture(target[0], prediction[0], mask[0])


class Tagging(Objective):
    """Supervised tagging: binary cross-entropy over all classes, also against a teacher's logits.

    Source: Chen et al., HTS-AT, arXiv 2202.00874, whose training the hierarchical Audio Mamba
        (arXiv 2405.13636) keeps; DASS, arXiv 2407.04082, for the teacher.
    """

    encoder: Tagger

    def prepare(self, teachers: Mapping[str, Teacher]) -> Mapping[str, Teacher]:
        if not isinstance(self.encoder, Tagger) or self.encoder.num_classes < 1:
            raise ConfigError(
                f"recipe 'tagging': {self.config.model} has no classifier; give model_options.num_classes"
            )
        if teachers and not self.config.distill.soft_labels:
            raise ConfigError(
                "recipe 'tagging' learns from teachers' logits only: set distill.soft_labels=true"
            )
        self.soft_teachers = tuple(teachers)
        return {}  # the tags themselves are taught

    def forward(self, features: Tensor, batch: Batch) -> dict[str, Tensor]:
        encoder, labels = self.encoder, batch["labels"]
        logits = encoder.tag(features)[0]
        smooth = self.config.objective.label_smoothing
        if smooth:
            labels = labels * (1 - smooth) + smooth / labels.shape[1]
        hard = F.binary_cross_entropy_with_logits(logits, labels)
        if not self.soft_teachers:
            return {"loss": hard, "bce": hard.detach()}
        temperature, weight = self.config.distill.temperature, self.config.distill.weight
        soft = torch.stack([
            F.binary_cross_entropy_with_logits(logits, torch.sigmoid(batch[f"target_{name}"] / temperature))
            for name in self.soft_teachers
        ]).mean()  # fmt: skip
        loss = (1 - weight) * hard + weight * soft
        return {"loss": loss, "bce": hard.detach(), "teacher": soft.detach()}


class Distillation(Objective):
    """Teachers only: predict their embeddings of whole clips from the scene vector.

    With `distill.tags` the model's own tagging head learns a teacher's class scores beside them, from the
    same pass.
    """

    def prepare(self, teachers: Mapping[str, Teacher]) -> Mapping[str, Teacher]:
        encoder, self.tags = self.encoder, self.config.distill.tags
        if self.tags is None:
            return teachers
        classes = n_classes(encoder)
        if not isinstance(encoder, HierMamba) or not classes:
            raise ConfigError(
                f"distill.tags: {self.config.model} has no tagging head that can learn beside its rows"
            )
        if self.tags not in teachers or teachers[self.tags].dim != classes:
            raise ConfigError(
                f"distill.tags: {self.tags!r} must be one of distill.teachers and have a score for each of "
                f"the {classes} classes"
            )
        if self.config.init is None:
            _start_at_prior(encoder, teachers[self.tags])
        return teachers

    def forward(self, features: Tensor, batch: Batch) -> dict[str, Tensor]:
        own = {}
        if self.tags is not None and isinstance(self.encoder, HierMamba):
            rows, own[self.tags] = self.encoder.rows_and_tags(features)
        else:
            rows = self.encoder.embed_frames(features)
        loss, parts = self.heads(self.scene(rows, batch), batch, own)
        return {"loss": loss, **parts}


RECIPES: dict[str, Callable[..., Objective]] = {
    "ssam": MaskedReconstruction,
    "ssamba": JointMaskedPatches,
    "tagging": Tagging,
    "distill": Distillation,
}


def _start_at_prior(encoder: Encoder, teacher: Teacher) -> None:
    """Set a tagging head's bias to the mean scores, so that it does not begin with one half for every class."""
    rows = np.asarray(teacher.values[:: max(1, len(teacher.values) // 20000)], dtype=np.float32)
    prior = torch.from_numpy(np.nanmean(rows, axis=0)).clamp(1e-4, 1 - 1e-4)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if name.startswith("head.") and name.endswith("bias"):
                parameter.copy_(prior.logit())


def _masked(patches: Tensor, mask: Tensor, n_masked: int | None) -> Tensor:
    """Return the masked rows `(B, M, ·)` of `(B, P, ·)`; every clip has as many.

    Taken by index: choosing by the mask itself would make the CPU wait for a GPU to count.
    """
    n = int(mask[0].sum()) if n_masked is None else n_masked
    index = mask.byte().argsort(dim=1, descending=True, stable=True)[:, :n, None]
    return patches.gather(1, index.expand(-1, -1, patches.shape[-1]))
