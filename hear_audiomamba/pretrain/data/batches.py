"""Batches of one process: which positions of the training stream, in which order, loaded by which processes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from .dataset import Crops


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack samples into tensors `(B, …)`; `skipped` becomes one list."""
    batch: dict[str, Any] = {"skipped": [item for sample in samples for item in sample.pop("skipped")]}
    for key in samples[0]:
        batch[key] = torch.from_numpy(np.stack([sample[key] for sample in samples]))
    return batch


class _Positions:
    """Batches of positions of one process, from a step on: the data order, free of workers' timing.

    With `length`, crops of like length share a micro-batch, which is then computed no further than they go.
    """

    def __init__(
        self, batch: int, micro: int, rank: int, world: int, steps: range,
        length: Callable[[int], float] | None = None,
    ) -> None:  # fmt: skip
        self.batch, self.micro, self.rank, self.world = batch, micro, rank, world
        self.steps, self.length = steps, length
        self.accumulation = batch // (micro * world)

    def __len__(self) -> int:
        return len(self.steps) * self.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            positions = list(range(step * self.batch, (step + 1) * self.batch))
            if self.length is not None:
                positions.sort(key=self.length)
            for part in range(self.accumulation):
                start = (part * self.world + self.rank) * self.micro
                yield positions[start : start + self.micro]


def training_batches(
    crops: Crops,
    *,
    batch: int,
    micro: int,
    rank: int,
    world: int,
    steps: range,
    workers: int,
    device: torch.device,
) -> DataLoader[dict[str, Any]]:
    """Return this process's micro-batches of steps `steps`, in order.

    Args:
        crops: the data.
        batch: clips of a step over all processes.
        micro: clips of a micro-batch; `batch` is a multiple of `micro · world`.
        rank: number of this process.
        world: processes.
        steps: from where to where.
        workers: loading processes.
        device: where the batches go; those for a GPU are copied to page-locked memory.
    """
    length = crops.seconds if crops.data.short_clips == "pad" and batch > micro * world else None
    positions = _Positions(batch, micro, rank, world, steps, length)
    return _loader(crops, positions, workers, device)


def fixed_batches(crops: Crops, n_clips: int, micro: int) -> DataLoader[dict[str, Any]]:
    """Return the first `n_clips` positions in batches of at most `micro`: the same ones at every call."""
    n_clips = min(n_clips, len(crops))
    positions = [list(range(i, min(i + micro, n_clips))) for i in range(0, n_clips, micro)]
    return _loader(crops, positions, 0, torch.device("cpu"))


def start_method(wanted: str, device: torch.device, platform: str) -> str:
    """Return how worker processes are started.

    Args:
        wanted: "auto" or a name that `multiprocessing` knows.
        device: where the run trains.
        platform: `sys.platform`.

    Returns:
        "fork" where it is safe and quick; "spawn" beside a GPU, whose state a copied process cannot use, and on
        systems other than Linux.
    """
    if wanted != "auto":
        return wanted
    return "fork" if platform == "linux" and device.type == "cpu" else "spawn"


def _loader(crops: Crops, positions: Any, workers: int, device: torch.device) -> DataLoader[dict[str, Any]]:
    start = start_method(crops.data.worker_start, device, sys.platform) if workers else None
    return DataLoader(
        crops, batch_sampler=positions, num_workers=workers, collate_fn=collate,
        pin_memory=device.type == "cuda", worker_init_fn=_one_thread, multiprocessing_context=start,
        prefetch_factor=4 if workers else None,
    )  # fmt: skip


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)
