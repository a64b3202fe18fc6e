"""One step of the optimiser: the gradients of a step's clips, clipped, applied and averaged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..config import PretrainConfig
from ..objectives.objectives import Objective
from . import distributed
from .evaluation import Forward, on_device
from .optim import Schedule, build_average, build_optimizer

Skipped = list[tuple[str, str]]


class Stepper:
    """What a step changes: the objective's parameters, the optimiser's moments, and the average of the weights.

    Args:
        config: of the run.
        objective: on its device, the parameters that do not learn frozen.
        forward: from a batch to its losses.
        schedule: of the learning rate.
    """

    def __init__(
        self, config: PretrainConfig, objective: Objective, forward: Forward, schedule: Schedule
    ) -> None:
        self.config, self.objective, self.forward, self.schedule = config, objective, forward, schedule
        self.optimizer = build_optimizer(objective, config.optim)
        self.average = build_average(objective, schedule)
        self.scaler = torch.amp.GradScaler(forward.device.type, enabled=config.precision == "float16")
        self._model: nn.Module = objective
        self._parallel: DistributedDataParallel | None = None

    def join(self) -> None:
        """Exchange gradients with the other processes, and compile if asked for; once the parameters are set."""
        device = self.forward.device
        if distributed.world_size() > 1:
            ids = [device.index] if device.type == "cuda" else None
            self._model = self._parallel = DistributedDataParallel(self.objective, device_ids=ids)
        if self.config.compile:
            # Compiled last: the compiler then cuts the graph where gradients are exchanged.
            self._model = cast(nn.Module, torch.compile(self._model))

    def step(
        self, step: int, batches: Iterator[dict[str, Any]], micro: int
    ) -> tuple[dict[str, Tensor], Skipped]:
        """Do one step.

        Args:
            step: its number, from 0.
            batches: this process's micro-batches, on the CPU.
            micro: clips of each.

        Returns:
            The means of its losses, and the clips that could not be read, each with the reason.
        """
        lr = self.schedule.lr(step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["rate"]
        # Whatever draws from torch's own generator (stochastic depth) depends on the step alone.
        torch.manual_seed((self.config.seed * 1_000_003 + step) * 4099 + distributed.rank())
        sums: dict[str, Tensor] = {}
        skipped: Skipped = []
        parts = self.config.optim.batch // (micro * distributed.world_size())
        for part in range(parts):
            batch = next(batches)
            skipped += batch.pop("skipped")
            with (
                self._parallel.no_sync() if self._parallel and part < parts - 1 else contextlib.nullcontext()
            ):
                losses = self.forward(on_device(batch, self.forward.device), self._model)
                torch.autograd.backward(self.scaler.scale(losses["loss"] / parts))
            add_to(sums, {name: value.detach().float() / parts for name, value in losses.items()})
        self.scaler.unscale_(self.optimizer)
        sums["grad_norm"] = self._clip()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.objective, step)
        return sums, skipped

    def _clip(self) -> Tensor:
        gradients = [p.grad for p in self.objective.parameters() if p.grad is not None]
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        limit = self.config.optim.clip_norm
        if limit is not None:
            torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0))
        return norm


def add_to(sums: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    """Add values to the sums of the same name."""
    for name, value in values.items():
        sums[name] = sums[name] + value if name in sums else value
