"""Random operator inputs, and the measure by which two results are compared."""

from __future__ import annotations

import torch
from torch import Tensor

from hear_audiomamba.ops import selective_scan

RMS_LIMIT = 1e-5  # the design's promise for float32 on a CPU, values and gradients


def scan_inputs(
    batch: int,
    length: int,
    channels: int,
    states: int,
    groups: int = 1,
    *,
    optional: bool = True,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return scan arguments with sizes as in trained models; `optional` adds those that may be left out."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    inputs = {
        "u": normal(batch, length, channels),
        "delta": normal(batch, length, channels) - 2,
        "A": -torch.exp(normal(channels, states)),
        "B": normal(batch, length, groups, states),
        "C": normal(batch, length, groups, states),
    }
    if optional:
        inputs |= {
            "D": normal(channels),
            "z": normal(batch, length, channels),
            "delta_bias": 0.1 * normal(channels),
            "initial_state": normal(batch, channels, states),
        }
    return inputs


def map_inputs(
    batch: int, height: int, width: int, channels: int, states: int, seed: int = 0
) -> dict[str, Tensor]:
    """Return arguments of the four-direction scan."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    positions = height * width
    return {
        "u": normal(batch, positions, channels),
        "delta": normal(batch, positions, 4, channels) - 2,
        "A": -torch.exp(normal(4 * channels, states)),
        "B": normal(batch, positions, 4, states),
        "C": normal(batch, positions, 4, states),
        "D": normal(4 * channels),
        "delta_bias": 0.1 * normal(4 * channels),
    }


def with_gradients(function, inputs: dict[str, Tensor], dtype: torch.dtype | None = None) -> list[Tensor]:
    """Return what `function(**inputs)` gives, and the gradients of a fixed mix of it for every input."""
    inputs = {k: v.detach().to(dtype or v.dtype).requires_grad_() for k, v in inputs.items()}
    outputs = function(**inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    loss = sum(
        (out * torch.arange(out.numel()).double().cos().to(out.dtype).view_as(out)).sum() for out in outputs
    )
    return [*outputs, *torch.autograd.grad(loss, list(inputs.values()))]


def reference_scan(inputs: dict[str, Tensor], **options) -> list[Tensor]:
    """Return results and gradients of the sequential reference in float64."""
    return with_gradients(
        lambda **k: selective_scan(**k, **options, return_last_state=True, backend="reference"),
        inputs,
        torch.float64,
    )


def assert_close(actual: list[Tensor], expected: list[Tensor], limit: float = RMS_LIMIT) -> None:
    """Assert that each tensor is finite and within a root-mean-square ratio of the expected one."""
    for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
        assert a.shape == e.shape
        assert torch.isfinite(a).all(), f"tensor {i} is not finite"
        if e.numel() == 0:
            continue
        ratio = ((a.double() - e).pow(2).mean().sqrt() / e.pow(2).mean().sqrt().clamp_min(1e-30)).item()
        assert ratio <= limit, f"tensor {i}: rms ratio {ratio:.2e} > {limit:.0e}"
