"""What the launches of all Triton kernels share: can this call run, on which device, from which strides."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
import triton
from torch import Tensor

Given = TypeVar("Given", Tensor, Tensor | None)

OLDEST = (3, 3)
if tuple(int(part) for part in triton.__version__.split(".")[:2]) < OLDEST:
    # Tuples as variables of a loop, which the kernels are made of, came with this version.
    raise ImportError(f"triton {triton.__version__} is too old; the kernels need 3.3 or newer")

# Registers, not shared memory, hold everything: one warp a program, as many programs as fit. Contracting
# a·b + c to one FMA is what the recurrence is counted in; newer Tritons must be asked for it.
LAUNCH = {"num_warps": 1, "enable_fp_fusion": True}


def unsupported(u: Tensor, kernel: object) -> str | None:
    """Say why a kernel cannot take `u`, or return None when it can.

    Args:
        u: the operator's main input.
        kernel: what `triton.jit` made; in the interpreter (`TRITON_INTERPRET=1`) any device will do.
    """
    if u.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"the main input is {u.dtype}, the kernels take float32, bfloat16 or float16"
    if u.device.type != "cuda" and isinstance(kernel, triton.JITFunction):
        return f"the main input is on {u.device}, the kernels need a GPU"
    return None


def on_device(u: Tensor) -> AbstractContextManager[object]:
    """Return a context that launches on u's GPU, which need not be the current one."""
    return torch.cuda.device(u.device) if u.is_cuda else nullcontext()


def dense_rows(tensor: Given) -> Given:
    """Return a tensor whose last axis is dense: itself if it is, as a view of rows is, else a copy."""
    return tensor if tensor is None or tensor.stride(-1) == 1 else tensor.contiguous()
