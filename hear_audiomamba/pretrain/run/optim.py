"""AdamW's parameter groups, the learning rate of a step, and an average of the weights."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ..config import OptimConfig

# Learned tokens and positions are offsets like biases; A's logarithm and D set time constants and
# skips of the recurrence, which the Mamba authors also leave without decay.
_NO_DECAY = (
    "A_log",
    "A_b_log",
    "D",
    "D_b",
    "cls_token",
    "dist_token",
    "mask_token",
    "mask_embed",
    "pos_embed",
)


# A block of a chain of blocks, or of one of a hierarchy's stages.
_BLOCK = re.compile(r"encoder\.(?:backbone\.)?(?:blocks|stages\.(?P<stage>\d+))\.(?P<block>\d+)\.")
_AFTER_STAGE = re.compile(r"encoder\.backbone\.downsamples\.(?P<stage>\d+)\.")
_NORMS = ("encoder.norm.", "encoder.encoder_norm.")
_HEADS = ("head.", "heads.") + tuple(
    f"encoder.{name}." for name in ("head", "classifier", "pred", "contrast_head", "reconstruct_head")
)


def layer_numbers(names: Iterable[str]) -> dict[str, int]:
    """Return the layer each parameter of an objective belongs to, in the order of the forward pass.

    Args:
        names: of its parameters.

    Returns:
        0 for patches, tokens and positions, i + 1 for block i, n + 1 for the norm behind n blocks, and n + 2
        for heads.
    """
    names = list(names)
    blocks = sorted({place for name in names if (place := _place(name)) is not None})
    number = {place: i + 1 for i, place in enumerate(blocks)}
    last = len(blocks) + 1
    found = {}
    for name in names:
        place, after = _place(name), _AFTER_STAGE.match(name)
        if place is not None:
            found[name] = number[place]
        elif after is not None:  # belongs to the last block of the stage before it
            found[name] = max(n for (stage, _), n in number.items() if stage <= int(after["stage"]))
        elif name.startswith(_HEADS):
            found[name] = last + 1
        else:
            found[name] = last if name.startswith(_NORMS) else 0
    return found


def _place(name: str) -> tuple[int, int] | None:
    block = _BLOCK.match(name)
    return None if block is None else (int(block["stage"] or 0), int(block["block"]))


def freeze_layers(module: nn.Module, n: int) -> None:
    """Have the first `n` layers not learn: 1 is the patch embedding, n - 1 blocks follow.

    Raises:
        ConfigError: nothing but the head would be left; fit a classifier on embeddings instead.
    """
    numbers = layer_numbers(name for name, _ in module.named_parameters())
    most = max(number for name, number in numbers.items() if not name.startswith(_HEADS))
    if n > most:
        raise ConfigError(
            f"optim.frozen_layers: {n}, but the model has {most + 1} layers below its head and one of them must "
            "learn; `hear-audiomamba fit` leaves the whole model as it is"
        )
    for name, parameter in module.named_parameters():
        if numbers[name] < n:
            parameter.requires_grad_(False)


def parameter_groups(module: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """Return AdamW's groups, each with the factor `rate` of the learning rate.

    Matrices and kernels decay; biases, norms, tokens, A and D do not.

    Args:
        module: its trainable parameters are taken, each once.
        config: weight decay, layer-wise decay of the rate, and the head's own factor.
    """
    numbers = layer_numbers(name for name, _ in module.named_parameters())
    top = max((number for name, number in numbers.items() if not name.startswith(_HEADS)), default=0)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        last = name.rsplit(".", 1)[-1]
        plain = parameter.ndim <= 1 or last in _NO_DECAY or last.endswith(("bias", "A_logs"))
        is_head = name.startswith(_HEADS)
        rate = config.head_rate if is_head else config.layer_decay ** (top - numbers[name])
        groups.setdefault((rate, 0.0 if plain else config.weight_decay), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": weight_decay, "rate": rate}
        for (rate, weight_decay), parameters in sorted(
            groups.items(), key=lambda group: group[0], reverse=True
        )
    ]


def build_optimizer(module: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """Return AdamW over the module's parameters, in one fused pass a step."""
    groups = parameter_groups(module, config)
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


class Schedule:
    """The learning rate of every step, from 0.

    Args:
        config: rate, batch and shape; see `OptimConfig`.
        steps_per_epoch: may be fractional.
    """

    def __init__(self, config: OptimConfig, steps_per_epoch: float) -> None:
        self.config, self.steps_per_epoch = config, steps_per_epoch
        self.peak = config.lr * (config.batch / config.lr_batch if config.lr_batch else 1.0)
        self.steps = config.steps or max(1, round(config.epochs * steps_per_epoch))
        warmup = config.warmup_steps
        if warmup is None:
            warmup = round(config.warmup_epochs * steps_per_epoch)
            # A run cut short by `steps` keeps the share of warm-up that its epochs would have had.
            warmup = min(warmup, round(self.steps * config.warmup_epochs / max(config.epochs, 1e-9)))
        self.warmup = min(warmup, self.steps)

    def lr(self, step: int) -> float:
        """Return the rate of step number `step`, 0 ≤ step < steps."""
        config = self.config
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        if config.schedule == "cosine":
            done = (step - self.warmup) / max(1, self.steps - self.warmup)
            return config.min_lr + (self.peak - config.min_lr) * 0.5 * (
                1 + math.cos(math.pi * min(done, 1.0))
            )
        if config.schedule == "step":
            done = step / self.steps_per_epoch - config.decay_start
            times = math.floor(done / config.decay_every) + 1 if done >= 0 else 0
            return self.peak * config.decay_factor**times
        left = (self.steps - step) / max(1.0, config.cooldown * self.steps)
        return config.min_lr + (self.peak - config.min_lr) * min(1.0, left)


class WeightAverage:
    """An average of a module's parameters over the steps of a run.

    Args:
        module: what is averaged.
        decay: of an exponential moving average once it is warm, for instance 0.999. It grows from zero with the
            number of steps, so that the start is soon forgotten.
        at: take the plain mean of the parameters after these numbers of steps instead, and follow the module
            until the first of them.
    """

    def __init__(self, module: nn.Module, decay: float = 0.0, at: Sequence[int] = ()) -> None:
        self.decay, self.at = decay, tuple(at)
        self.values = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take the parameters after step number `step` (from 0) into the average."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        if self.at:
            before = sum(number <= step for number in self.at)  # how many are in the average
            if step + 1 not in self.at and before:
                return
            weight = 1 / (before + 1)
        new = dict(module.named_parameters())
        torch._foreach_lerp_(list(self.values.values()), [new[k].detach() for k in self.values], weight)

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Continue from stored values."""
        for name, value in self.values.items():
            value.copy_(values[name])


def build_average(module: nn.Module, schedule: Schedule) -> WeightAverage | None:
    """Return the average a run keeps, or None."""
    config = schedule.config
    if config.ema is not None:
        return WeightAverage(module, config.ema)
    if config.average_epochs is None:
        return None
    first, last = config.average_epochs
    ends = [round(epoch * schedule.steps_per_epoch) for epoch in range(first, last + 1)]
    return WeightAverage(module, at=[end for end in ends if 0 < end <= schedule.steps])
