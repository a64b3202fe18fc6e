"""Matrix products with weights, on the faster of the two libraries that PyTorch's CPU build carries.

`F.linear` in float32 goes to MKL, which on processors of other makers than Intel takes a code path for
older instruction sets: 90 GFLOP/s a core on a Zen 5 where oneDNN's AVX-512 path reaches 210 (see
docs/performance.md). Lower precisions go to oneDNN by themselves, which lays the weights out again for each
call; here inference keeps them as they are wanted.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .eager import records_gradients, watched
from .prepared import prepared


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `x @ weight.T + bias`, like `torch.nn.functional.linear`, gradients included.

    Args:
        x: `(…, in)`.
        weight: `(out, in)`.
        bias: `(out,)` or None.

    Returns:
        `(…, out)` in x's dtype.
    """
    if (
        x.dtype != weight.dtype
        or x.device.type != "cpu"
        or torch.is_autocast_enabled("cpu")
        or watched(x, weight, bias)
    ):
        return F.linear(x, weight, bias)
    recorded = records_gradients(x, weight, bias)
    if x.dtype == torch.bfloat16 and not recorded and isinstance(weight, nn.Parameter) and _packs_weights():
        return _onednn(x, prepared(_packed, weight), bias)
    if x.dtype == torch.float32 and onednn_is_faster():
        if not recorded:
            return _onednn(x, weight, bias)
        product: Tensor = _OneDnnLinear.apply(x, weight, bias)  # type: ignore[no-untyped-call]  # torch's
        return product
    return F.linear(x, weight, bias)


class _OneDnnLinear(torch.autograd.Function):
    """The three products of a linear layer and its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _onednn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        # Rows with gaps (slices of a wider tensor), transposed, would fall to oneDNN's reference code.
        rows = grad.reshape(-1, grad.shape[-1]).contiguous()
        inputs = x.reshape(-1, x.shape[-1]).contiguous()
        grad_x = linear(grad, weight.t()) if needs_x else None
        grad_weight = linear(rows.t(), inputs.t()) if needs_weight else None
        return grad_x, grad_weight, rows.sum(0) if needs_bias else None


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


def _packed(weight: Tensor) -> Tensor:
    """Return a weight in the layout that oneDNN's products read."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
    return packed


@functools.cache
def onednn_is_faster() -> bool:
    """Whether this processor is one MKL does not serve well and oneDNN's operator works in this PyTorch."""
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():
        return False
    if not torch.backends.mkl.is_available() or _is_intel():
        return False
    return _gives_the_same(lambda weight: weight, torch.float32)


@functools.cache
def _packs_weights() -> bool:
    """Whether this PyTorch can prepare bfloat16 weights in advance, and the processor multiplies them."""
    if not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    return _gives_the_same(_packed, torch.bfloat16)


def _gives_the_same(layout: Callable[[Tensor], Tensor], dtype: torch.dtype) -> bool:
    """Try the internal operators, which other releases may lack or change, on numbers without rounding."""
    x, weight, bias = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(4, 3), torch.arange(4.0)
    x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
    try:
        return torch.equal(_onednn(x, layout(weight), bias), F.linear(x, weight, bias))
    except (AttributeError, RuntimeError):
        return False


def _is_intel() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text("utf-8", "replace") if cpuinfo.is_file() else platform.processor()
    return "GenuineIntel" in text
