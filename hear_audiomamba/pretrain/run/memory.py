"""What one clip tells before the first step: which parameters learn, and how many clips fit into memory at once."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import ConfigError, counted
from ..config import PretrainConfig
from ..data.batches import collate
from .build import Parts
from .distributed import from_main, world_size
from .evaluation import Forward, on_device

# A CPU is as fast with few clips at a time as with many; a GPU wants all it can take.
CPU_BYTES = 2 << 30
GPU_SHARE = 0.6
# The backward pass needs room beside what the forward pass keeps: gradients, a kernel's own buffers.
_ROOM = 1.3


def clips_of_process(config: PretrainConfig) -> int:
    """Return how many clips of a step each process takes.

    Raises:
        ConfigError: they cannot be shared evenly, or `optim.micro_batch` does not divide them.
    """
    batch, world, micro = config.optim.batch, world_size(), config.optim.micro_batch
    if batch % world:
        raise ConfigError(
            f"optim.batch: {counted(batch, 'clip')} cannot be shared evenly by {world} processes"
        )
    share = batch // world
    if micro is not None and share % min(micro, share):
        raise ConfigError(f"optim.micro_batch: {micro} does not divide a process's {share} clips of a step")
    return share


def choose_micro_batch(config: PretrainConfig, parts: Parts, forward: Forward, before: int | None) -> int:
    """Return the clips of a micro-batch, the same in every process.

    Args:
        config: of the run.
        parts: model and data; the model lies on the device.
        forward: from a batch to its losses.
        before: the choice of the run that is resumed; the order of a sum depends on it.

    Returns:
        `optim.micro_batch` where it is set; or else the largest divisor of a process's clips of a step
        whose activations fit: into 2 GiB on a CPU, into 60 % of the memory of a GPU. At least 1.

    Raises:
        ConfigError: see `clips_of_process`.
        DataError: no clip can be read.
    """
    share = clips_of_process(config)
    if config.optim.micro_batch is not None:
        return min(config.optim.micro_batch, share)
    if before is not None and share % before == 0:
        return before
    room = float(CPU_BYTES)
    if forward.device.type == "cuda":
        room = GPU_SHARE * torch.cuda.get_device_properties(forward.device).total_memory
    fitting = room / (_ROOM * bytes_per_clip(parts, forward))
    return from_main(max(n for n in range(1, share + 1) if share % n == 0 and n <= max(1.0, fitting)))


def bytes_per_clip(parts: Parts, forward: Forward) -> int:
    """Return how much a forward pass of one clip keeps for the backward pass, in bytes."""
    batch = collate([parts.train[0]])
    objective = parts.objective
    own = {t.untyped_storage().data_ptr() for t in (*objective.parameters(), *objective.buffers())}
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    was_training = objective.training
    objective.eval()  # statistics of batch norms stay as they are
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        losses = forward(on_device(batch, forward.device), objective)
    objective.train(was_training)
    del losses
    return max(1, sum(kept.values()))


def freeze_unused(parts: Parts, forward: Forward) -> None:
    """Freeze parameters that a step gives no gradient: blocks that are not run, heads that nothing reads.

    Distributed training would wait for their gradients.
    """
    objective = parts.objective
    was_training = objective.training
    objective.eval()
    batch = collate([parts.train[0]])
    torch.autograd.backward(forward(on_device(batch, forward.device), objective)["loss"])
    for parameter in objective.parameters():
        if parameter.grad is None:
            parameter.requires_grad_(False)
        parameter.grad = None
    objective.train(was_training)
