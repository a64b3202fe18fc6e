"""How the modules of an encoder compute: the precision of their matrix products, the backend of their scans."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..ops import BACKENDS
from ..ops.mixer import mixes_in
from .mamba_mixer import MambaMixer, StepSize
from .ss2d import SS2D

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def cast_products(module: nn.Module, dtype: torch.dtype) -> None:
    """Put the matrix products and convolutions of a module into a precision, in place.

    Norms, positions, the state matrices and the bias of the step sizes stay float32: the residual stream
    grows beyond float16, and a rounded step size would change the decay of every state.

    Raises:
        ConfigError: the type is not one of `PRECISIONS`.
    """
    if dtype not in PRECISIONS.values():
        kind = str(dtype).removeprefix("torch.")
        raise ConfigError(f"models do not compute in {kind}; their precisions are {', '.join(PRECISIONS)}")
    for part in _products(module):
        part.weight.data = part.weight.data.to(dtype)
        if part.bias is not None and not isinstance(part, StepSize):
            part.bias.data = part.bias.data.to(dtype)


def fastest_precision(
    module: nn.Module, device: torch.device, backend: str | None = None
) -> Literal["bfloat16", "float32"]:
    """Return the fastest precision that was measured to keep embeddings and scores (docs/performance.md).

    Args:
        module: the encoder.
        device: where it computes.
        backend: of its scans; None chooses by machine.

    Returns:
        "bfloat16" for encoders of Mamba mixers on CPUs with AMX, whose kernels compute whole mixers in it; else
        "float32".

    Raises:
        BackendError: the backend is not known, or cannot run there.
    """
    has_mixers = any(isinstance(part, MambaMixer) for part in module.modules())
    return "bfloat16" if has_mixers and mixes_in(torch.bfloat16, device, backend) else "float32"


def precision_of(module: nn.Module) -> str:
    """Return the precision that `cast_products` gave a module."""
    dtype = next((part.weight.dtype for part in _products(module)), torch.float32)
    return next(name for name, known in PRECISIONS.items() if known == dtype)


def keep_types(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return what moves tensors as `function` does, and leaves their types as they are."""

    def moved(tensor: Tensor) -> Tensor:
        result = function(tensor)
        return result if result.dtype == tensor.dtype else tensor.to(result.device)

    return moved


def type_asked_for(function: Callable[[Tensor], Tensor]) -> torch.dtype | None:
    """Return the type that `function`, which `nn.Module._apply` is given, casts to; None if it only moves."""
    results = {
        function(torch.empty(0, dtype=dtype, device="cpu")).dtype for dtype in (torch.float32, torch.bfloat16)
    }
    return results.pop() if len(results) == 1 else None


def set_backend(module: nn.Module, backend: str | None) -> None:
    """Let all scans and convolutions of a module run on one backend; None chooses by machine.

    Raises:
        ConfigError: there is no backend of that name.
    """
    if backend not in (None, *BACKENDS):
        raise ConfigError(f"backend: {backend!r} is not one of {', '.join(map(repr, (None, *BACKENDS)))}")
    for part in module.modules():
        if isinstance(part, (MambaMixer, SS2D)):
            part.backend = backend


def _products(module: nn.Module) -> Iterator[nn.Linear | nn.Conv1d | nn.Conv2d]:
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            yield part
