"""What a run starts from: stored weights of the same model, of a shallower one, or of an image model."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...config import FbankPatchConfig, HierMambaConfig, ModelConfig
from ...encoders.base import Encoder
from ...encoders.fbank_patches import FbankPatchEncoder
from ...encoders.hiermamba import HierMamba
from ...errors import CheckpointError, ConfigError
from ...models.convert import read_checkpoint
from ...models.known import known_weights
from ...models.registry import find_variant
from ...models.weights import load_strict, read_safetensors
from ...modules.pos_embed import fit_positions
from ..config import PretrainConfig
from ..objectives.objectives import Objective
from .checkpoint import Checkpoints
from .grow import blocks_of, deepen

logger = logging.getLogger(__name__)

_TAG_HEADS = ("classifier.", "head.")
_OWN_HEAD = {"head": "", "num_classes": 0}  # what does not make two hierarchical models different


@dataclass(frozen=True)
class Start:
    """Stored weights: where from, of which model, and the tensors under our names."""

    path: Path
    model: ModelConfig
    state: dict[str, Tensor]


def find_start(config: PretrainConfig) -> Start | None:
    """Read the weights a run starts from; None where it starts from random ones.

    They are `init`: a weights file, a run's folder, or a variant with bundled weights. Fine-tuning without
    `init` takes the weights that are bundled for `model`.

    Raises:
        CheckpointError: there is no such file, it is not readable, or no weights are bundled.
    """
    name = config.init
    if name is None:
        if config.recipe != "finetune":
            return None
        path = known_weights(find_variant(config.model).config.variant)
        if path is None:
            logger.warning(
                "no weights are bundled for %s, so random ones are fine-tuned; give init=FILE", config.model
            )
            return None
        return Start(path, *read_checkpoint(path)[:2])
    path = Path(name).expanduser()
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.is_file():
        if "/" in name or name.endswith((".safetensors", ".pth", ".pt")):
            raise CheckpointError(f"init: {name}: no such file")
        variant, _, tag = name.partition(".")
        bundled = known_weights(find_variant(variant).config.variant, tag or None)
        if bundled is None:
            raise CheckpointError(f"init: no weights are bundled for {name}")
        path = bundled
    return Start(path, *read_checkpoint(path)[:2])


def initialise(encoder: Encoder, start: Start) -> None:
    """Start an encoder from stored weights.

    Args:
        encoder: whose parameters are set; heads that the file lacks stay as they are. Learned positions are
            fitted to the encoder's own grid, and a tagging head of other classes is left out.
        start: the weights. An ImageNet VMamba is spread over a hierarchical encoder; a shallower model is
            deepened.

    Raises:
        CheckpointError: they are of another model.
    """
    found, state, own = start.model, start.state, encoder.state_dict()
    state = {k: v for k, v in state.items() if not (k.startswith(_TAG_HEADS) and _differs(v, own.get(k)))}
    if isinstance(encoder, HierMamba):
        if {**vars(found.encoder), **_OWN_HEAD} != {**vars(encoder.config), **_OWN_HEAD}:
            from ...encoders import vmamba

            vmamba.initialise(encoder, start.state)
            return
        state = {**{k: v for k, v in own.items() if k.startswith(_TAG_HEADS)}, **state}
    if isinstance(encoder, FbankPatchEncoder) and _differs(state["pos_embed"], own["pos_embed"]):
        state["pos_embed"] = _fitted_positions(encoder, state["pos_embed"], found)
    if 0 < blocks_of(state) < blocks_of(own):
        state = deepen(state, encoder)
    load_strict(encoder, state, str(start.path), encoder.optional_keys)


def with_tagging_head(model: ModelConfig, config: PretrainConfig, labels: tuple[str, ...]) -> ModelConfig:
    """Return a model with an own head for these labels, or without one where a scene head is wanted.

    Raises:
        ConfigError: the model's family has no head.
    """
    wanted = config.finetune.head
    able = isinstance(model.encoder, (FbankPatchConfig, HierMambaConfig))
    if not able:
        if wanted == "model":
            raise ConfigError(f"finetune.head: {model.variant} has no tagging head of its own; use 'scene'")
        return model
    encoder = model.encoder
    if wanted == "scene":
        bare = {"head": "none"} if isinstance(encoder, HierMambaConfig) else {"num_classes": 0}
        return model.replace(encoder=encoder.replace(**bare), labels=())
    if isinstance(encoder, HierMambaConfig) and encoder.head == "none":
        encoder = encoder.replace(head="token_semantic")
    return model.replace(encoder=encoder.replace(num_classes=len(labels)), labels=labels)


def with_grid(model: ModelConfig, encoder: FbankPatchEncoder, n_frames: int) -> ModelConfig:
    """Return a model whose learned positions lie on the patches of a crop, as fine-tuning makes them."""
    grid = encoder.patch_embed.grid_of(n_frames, model.features.n_mels)
    return model.replace(encoder=model.encoder.replace(grid=tuple(grid)))


def _fitted_positions(encoder: FbankPatchEncoder, stored: Tensor, found: ModelConfig) -> Tensor:
    special, table = stored[:, : encoder.n_special], stored[:, encoder.n_special :]
    fitted = fit_positions(table, found.encoder.grid, encoder.config.grid, encoder.shrink)
    return torch.cat([special, fitted], dim=1)


def _differs(stored: Tensor, own: Tensor | None) -> bool:
    return own is None or stored.shape != own.shape


def take_heads(objective: Objective, run: Path) -> None:
    """Start the teachers' heads as another run left them, where they fit; the others start again.

    Args:
        objective: whose heads are set.
        run: the other run's folder; a weights file has no heads.
    """
    checkpoints = Checkpoints(run, keep=1)
    if not checkpoints.steps():
        return
    stored, _ = read_safetensors(checkpoints.path(checkpoints.steps()[-1]) / "training.safetensors")
    own = objective.state_dict()
    known = {key: stored.get(f"state/{key}") for key in own if key.startswith("heads.")}
    fitting = {k: v for k, v in known.items() if v is not None and v.shape == own[k].shape}
    objective.load_state_dict(fitting, strict=False)
