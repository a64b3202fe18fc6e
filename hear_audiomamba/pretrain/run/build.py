"""From a configuration to the parts of a run. Whatever can be wrong with it is said here, before any work."""

from __future__ import annotations

import functools
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ...config import ModelConfig
from ...encoders.base import Encoder, MaskedModel, n_classes
from ...encoders.fbank_patches import FbankPatchEncoder
from ...errors import ConfigError, DataError, counted, require
from ...frontends.base import Frontend
from ...io.files import refuse_blocked
from ...models.convert import name_of
from ...models.families import build_modules, with_options
from ...models.registry import find_variant
from ...modules.compute import set_backend
from ..config import DataConfig, PretrainConfig
from ..data.clips import Clips, find_clips
from ..data.dataset import Crops
from ..data.labelled import Labelled, labelled_clips
from ..data.masking import MaskSampler
from ..data.order import Order, class_weights, entries_by_length, kind_weights
from ..data.targets import Targets, load_targets
from ..objectives.finetune import Finetuning
from ..objectives.objectives import RECIPES, Objective
from .optim import freeze_layers
from .start import Start, find_start, initialise, take_heads, with_grid, with_tagging_head


@dataclass
class Parts:
    """A run before its first step.

    Attributes:
        model: configuration of the model.
        frontend: waveforms to spectrograms.
        objective: encoder and heads.
        train, valid, test: the data; valid and test are None where there is no such split.
        n_frames: frames of a crop as the encoder takes it.
    """

    model: ModelConfig
    frontend: Frontend
    objective: Objective
    train: Crops
    valid: Crops | None
    test: Crops | None
    n_frames: int

    @property
    def encoder(self) -> Encoder:
        return self.objective.encoder


def build(config: PretrainConfig) -> Parts:
    """Assemble a run.

    Raises:
        ConfigError, DataError, CheckpointError, VariantError: one line each on what does not fit.
    """
    start = find_start(config)
    labelled = labelled_clips(config) if config.recipe == "finetune" else None
    model, frontend, encoder, n_frames = _build_model(config, start, labelled)
    data = _load_clips(config) if labelled is None else (labelled.train, labelled.valid, None, None)
    train_clips, valid_clips, train_targets, valid_targets = data
    _check_labels(config, encoder, train_clips)
    if config.recipe == "tagging":
        model = model.replace(labels=tuple(train_clips.label_names))
    teachers = train_targets.teachers if train_targets is not None else None
    objective: Objective
    if labelled is not None:
        kind, n_labels = labelled.kind, len(labelled.classes)
        objective = Finetuning(encoder, config, model.scene_pooling, kind, n_labels)
        if kind == "multi":
            require("sklearn", "the score of several labels a clip", "hear_audiomamba[pretrain]")
        model = model.replace(single_label=objective.head is None and objective.loss == "cross_entropy")
    else:
        objective = RECIPES[config.recipe](encoder, config, teachers, model.scene_pooling)
    set_backend(objective, config.backend)
    if config.distill.tags and teachers:
        model = model.replace(labels=teachers[config.distill.tags].labels)
    if config.init is not None and objective.heads.names:
        take_heads(objective, Path(config.init).expanduser())
    if config.optim.frozen_layers:
        freeze_layers(objective, config.optim.frozen_layers)
    if config.activation_checkpointing:
        recompute_blocks(encoder)
    masks = _mask_samplers(config, model, encoder, n_frames, objective.n_masks)
    objective.n_masked = masks[0].count if masks else None
    crop_frames = frontend.n_frames(round(config.data.crop_seconds * frontend.sample_rate))
    common = (config.data, frontend.sample_rate, crop_frames, masks)
    train = Crops(
        train_clips, _train_order(config, train_clips), *common, augmentation=config.augment,
        targets=train_targets, jitter_seconds=config.distill.jitter_seconds, n_mels=frontend.n_mels,
    )  # fmt: skip
    valid = None
    if valid_clips is not None and len(valid_clips):
        order = Order(np.arange(len(valid_clips)), config.seed)
        valid = Crops(valid_clips, order, *common, targets=valid_targets, n_mels=frontend.n_mels)
    if valid is None and config.run.valid_every:
        raise DataError(
            f"run.valid_every is set, but {config.data.path} has no split {config.data.valid_split!r}"
        )
    test = None
    if labelled is not None and len(labelled.test):
        test = Crops(labelled.test, Order(np.arange(len(labelled.test)), config.seed), *common)
    return Parts(model, frontend, objective, train, valid, test, n_frames)


def _build_model(
    config: PretrainConfig, start: Start | None, labelled: Labelled | None
) -> tuple[ModelConfig, Frontend, Encoder, int]:
    """Return the model with its weights at the start, its parts, and the frames of a crop."""
    # What is fine-tuned is the model that was stored, with its sizes and its pooling.
    base = start.model if start is not None and labelled is not None else find_variant(config.model).config
    model = with_options(base, config.model_options)
    if labelled is not None:
        model = with_tagging_head(model, config, labelled.classes)
    torch.manual_seed(config.seed)
    frontend, encoder = build_modules(model)
    frames = round(config.data.crop_seconds * frontend.sample_rate / frontend.hop_length)
    n_frames, seconds = encoder.fit_frames(frames), config.data.crop_seconds
    if labelled is not None and isinstance(encoder, FbankPatchEncoder):
        # As the authors' convolution does: frames that do not fill a last patch are left out, not filled up.
        rows = max(1, encoder.count_rows(frames))
        n_frames = encoder.fit_frames(rows * encoder.step)
        seconds = rows * encoder.step * frontend.hop_length / frontend.sample_rate
        model = with_grid(model, encoder, n_frames)
        torch.manual_seed(config.seed)
        frontend, encoder = build_modules(model)
    model = model.replace(encoder=encoder.config, window_seconds=seconds)
    model = model.replace(variant=name_of(model))
    if start is not None:
        initialise(encoder, start)
    return model, frontend, encoder, n_frames


def recompute_blocks(encoder: Encoder) -> None:
    """Compute each block again in the backward pass instead of keeping its activations."""
    for holder in encoder.modules():
        if isinstance(holder, nn.ModuleList):
            for block in holder:
                if not any(isinstance(inner, nn.ModuleList) for inner in block.modules()):
                    block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)


def check_disk(config: PretrainConfig, objective: nn.Module) -> None:
    """Refuse to start a run whose checkpoints will not fit on the disk.

    Raises:
        DataError: says how much is needed and how much is free.
        OutputError: `run.out` cannot become a folder.
    """
    out = Path(config.run.out).expanduser()
    refuse_blocked(out)
    existing = next(path for path in (out, *out.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    values = sum(p.numel() for p in objective.parameters())
    needed = (config.run.keep + 2) * values * 4 * 4 + config.run.min_free_gb * 1e9
    if free < needed:
        raise DataError(
            f"run.out: {existing} has {free / 1e9:.1f} GB free, but {config.run.keep} checkpoints, the "
            f"best one and {config.run.min_free_gb:g} GB of room (run.min_free_gb) need {needed / 1e9:.1f} GB"
        )


def _load_clips(config: PretrainConfig) -> tuple[Clips, Clips | None, Targets | None, Targets | None]:
    data, distill = config.data, config.distill
    if distill.targets is None:
        valid = find_clips(data, data.valid_split) if data.valid_split else None
        return find_clips(data, data.split), valid, None, None
    clips, targets = load_targets(distill, data.path, data.split)
    if not len(clips):
        raise DataError(f"distill.targets: no crop of {distill.targets} is of split {data.split!r}")
    for name, teacher in targets.teachers.items():
        if teacher.coverage == 0:
            raise DataError(
                f"distill.targets: {name} has no known row for split {data.split!r}; leave it out"
            )
    valid, valid_targets = None, None
    if data.valid_split is not None and (clips.root / "manifest.csv").is_file():
        valid, valid_targets = load_targets(distill, data.path, data.valid_split)
    for part in (clips, valid):
        if part is not None and len(part):
            _copy_columns(part, data)
    first = clips.root / clips.paths[0]
    if not first.is_file():
        raise DataError(
            f"data.path: {first} of the targets' crops is not there; give the corpus they were made on"
        )
    return clips, valid, targets, valid_targets


def _copy_columns(crops: Clips, data: DataConfig) -> None:
    """Give listed crops the kind and the labels that the corpus manifest has for their files."""
    if not (crops.root / "manifest.csv").is_file():
        return
    corpus = find_clips(data, None)
    index = {path: i for i, path in enumerate(corpus.paths)}
    rows = [index[path] for path in crops.paths if path in index]
    if len(rows) < len(crops):
        return
    if corpus.kinds is not None:
        crops.kinds = [corpus.kinds[row] for row in rows]
    if corpus.labels is not None:
        crops.labels, crops.label_names = [corpus.labels[row] for row in rows], corpus.label_names


def _check_labels(config: PretrainConfig, encoder: Encoder, clips: Clips) -> None:
    if config.recipe == "finetune":
        return
    if config.recipe != "tagging":
        clips.labels = None
        return
    if clips.labels is None:
        raise DataError(
            f"recipe 'tagging': {config.data.path} has no labels; a manifest needs a column 'labels'"
        )
    if 0 < n_classes(encoder) != len(clips.label_names):
        raise ConfigError(
            f"recipe 'tagging': {counted(len(clips.label_names), 'label')} in the data, but the model has "
            f"{counted(n_classes(encoder), 'class', 'classes')}; set model_options.num_classes={len(clips.label_names)}"
        )


def _train_order(config: PretrainConfig, clips: Clips) -> Order:
    data = config.data
    if data.epoch == "seconds":
        entries = entries_by_length(clips.known_seconds(), data.crop_seconds)
    else:
        entries = np.arange(len(clips))
    weights = None
    if data.weights is not None:
        if clips.kinds is None:
            raise ConfigError("data.weights: the manifest has no column 'kind'")
        weights = kind_weights(entries, clips.kinds, data.weights)
    elif data.balance == "classes":
        if clips.labels is None:
            raise ConfigError(
                "data.balance 'classes' needs the recipe 'tagging' or 'finetune' and a column 'labels'"
            )
        weights = class_weights(entries, clips.labels, len(clips.label_names))
    return Order(entries, config.seed, weights)


def _mask_samplers(
    config: PretrainConfig, model: ModelConfig, encoder: Encoder, n_frames: int, n_masks: int
) -> list[MaskSampler]:
    if not n_masks or not isinstance(encoder, MaskedModel):
        return []
    patches = encoder.patch_embed
    grid = patches.grid_of(n_frames, model.features.n_mels)
    return [MaskSampler(config.mask, (grid[0], grid[1]), patches.order) for _ in range(n_masks)]
