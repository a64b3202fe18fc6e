"""The few things a run asks of torch.distributed, and what they mean for a single process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from ...errors import ConfigError


@contextmanager
def process_group(device: str | None) -> Iterator[torch.device]:
    """Join the processes that `torchrun` started, if it did, and yield this one's device.

    Args:
        device: "cpu", "cuda", "cuda:1"; None takes the GPU if there is one.

    Raises:
        ConfigError: a GPU was asked for and there is none for this process.
    """
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device: {name!r} is not a device; use 'cpu', 'cuda' or 'cuda:1'") from None
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if chosen.type == "cuda":
        if chosen.index is None:
            chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if chosen.index >= torch.cuda.device_count():
            raise ConfigError(
                f"device: {chosen} was asked for, but {torch.cuda.device_count()} GPUs are here"
            )
        torch.cuda.set_device(chosen)
    if not launched:
        yield chosen
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield chosen
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Return this process's number, 0 for a single one."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def barrier() -> None:
    """Wait for the other processes."""
    if dist.is_initialized():
        dist.barrier()


def mean(values: torch.Tensor) -> torch.Tensor:
    """Return the mean of a tensor over all processes."""
    if dist.is_initialized():
        dist.all_reduce(values)
        values = values / dist.get_world_size()
    return values


def any_true(flag: bool, device: torch.device) -> bool:
    """Tell whether the flag is set in any process: all must leave the loop at the same step."""
    if not dist.is_initialized():
        return flag
    value = torch.tensor(float(flag), device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value.item())


def launched_rank() -> int:
    """Return the number torchrun gave this process, also after the group has been left."""
    return int(os.environ.get("RANK", "0"))
