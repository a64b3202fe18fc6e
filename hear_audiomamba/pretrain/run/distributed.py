"""The few things a run asks of torch.distributed, and what they mean for a single process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from ...errors import ConfigError

T = TypeVar("T")

# One process may probe or write while the others wait; PyTorch's own limit of 10 minutes is too short.
_PATIENCE = timedelta(hours=2)

# What Python sends goes through a group of its own. A thread of gloo may still hold a tensor as the process ends, and
# freeing one that Python made, it would wait for an interpreter that is on its way out: the process aborts. Leaving a
# group ends its threads, but for the group that DistributedDataParallel uses, which it keeps alive.
_control: dist.ProcessGroup | None = None


@contextmanager
def process_group(device: str | None) -> Iterator[torch.device]:
    """Join the processes that `torchrun` started, if it did, and yield this one's device.

    Args:
        device: "cpu", "cuda", "cuda:1"; None takes the GPU if there is one.

    Raises:
        ConfigError: a GPU was asked for and there is none for this process.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    chosen = choose_device(device, launched, local_rank, torch.cuda.device_count())
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if not launched:
        yield chosen
        return
    global _control
    # Gloo for what lies on the CPU, so that control messages never wait for the GPU.
    dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    _control = dist.new_group(backend="gloo", timeout=_PATIENCE)
    try:
        yield chosen
        dist.barrier(_control)  # no process leaves while another still speaks to it
    finally:
        dist.destroy_process_group(_control)
        _control = None
        dist.destroy_process_group()


def choose_device(name: str | None, launched: bool, local_rank: int, n_gpus: int) -> torch.device:
    """Return the device of one process.

    Args:
        name: "cpu", "cuda", "cuda:1"; None takes a GPU if there is one.
        launched: several processes were started by `torchrun`.
        local_rank: number of this process on its machine.
        n_gpus: GPUs of the machine.

    Raises:
        ConfigError: the name is not a device, the GPU is not there, or every process would share one GPU.
    """
    name = name or ("cuda" if n_gpus else "cpu")
    try:
        chosen = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device: {name!r} is not a device; use 'cpu', 'cuda' or 'cuda:1'") from None
    if chosen.type not in ("cpu", "cuda"):
        raise ConfigError(f"device: {name!r} cannot be trained on; use 'cpu', 'cuda' or 'cuda:1'")
    if chosen.type == "cpu":
        return chosen
    if chosen.index is None:
        chosen = torch.device("cuda", local_rank)
    elif launched:
        raise ConfigError(
            f"device: under torchrun every process would train on {name}; use device=cuda, "
            "which gives each process a GPU of its own"
        )
    if chosen.index >= n_gpus:
        raise ConfigError(f"device: {chosen} was asked for, but {n_gpus} GPUs are here")
    return chosen


def rank() -> int:
    """Return this process's number, 0 for a single one."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def from_main(value: T) -> T:
    """Return the value of process 0 in every process: all must take the same decisions.

    Args:
        value: anything that can be pickled; only that of process 0 counts.
    """
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, group=_control, device=torch.device("cpu"))
    return box[0]


def barrier() -> None:
    """Wait for the other processes."""
    if dist.is_initialized():
        dist.all_reduce(torch.zeros(1), group=_control)


def mean(values: torch.Tensor) -> torch.Tensor:
    """Return the mean of a tensor over all processes."""
    if dist.is_initialized():
        dist.all_reduce(values, group=_control if values.device.type == "cpu" else None)
        values = values / dist.get_world_size()
    return values


def any_true(flag: bool) -> bool:
    """Tell whether the flag is set in any process: all must leave the loop at the same step."""
    if not dist.is_initialized():
        return flag
    value = torch.tensor(float(flag))
    dist.all_reduce(value, op=dist.ReduceOp.MAX, group=_control)
    return bool(value.item())


def launched_rank() -> int:
    """Return the number torchrun gave this process, also after the group has been left."""
    return int(os.environ.get("RANK", "0"))
