"""AdamW's parameter groups, the learning rate of a step, and an average of the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

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


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict]:
    """Return AdamW's groups: matrices and kernels with decay; biases, norms, tokens, A and D without.

    Args:
        module: its trainable parameters are taken, each once.
        weight_decay: of the first group.
    """
    decay, free = [], []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        last = name.rsplit(".", 1)[-1]
        plain = parameter.ndim <= 1 or last in _NO_DECAY or last.endswith(("bias", "A_logs"))
        (free if plain else decay).append(parameter)
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def build_optimizer(module: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """Return AdamW over the module's parameters, in one fused pass a step."""
    groups = parameter_groups(module, config.weight_decay)
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


class Schedule:
    """The learning rate of every step, from 0.

    Args:
        config: rate, batch and shape; see `OptimConfig`.
        steps_per_epoch: may be fractional.
    """

    def __init__(self, config: OptimConfig, steps_per_epoch: float) -> None:
        self.config = config
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
        left = (self.steps - step) / max(1.0, config.cooldown * self.steps)
        return config.min_lr + (self.peak - config.min_lr) * min(1.0, left)


class WeightAverage:
    """An exponential moving average of a module's parameters.

    The decay grows from zero with the number of steps, so that the start is soon forgotten.

    Args:
        module: what is averaged.
        decay: of the average once it is warm, for instance 0.999.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take the parameters after step number `step` (from 0) into the average."""
        decay = min(self.decay, (1 + step) / (10 + step))
        new = dict(module.named_parameters())
        torch._foreach_lerp_(list(self.values.values()), [new[k].detach() for k in self.values], 1 - decay)

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Go on from stored values."""
        for name, value in self.values.items():
            value.copy_(values[name])
