"""Timing on a GPU with its own events, and the ceilings a kernel is measured against."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

import torch
import triton
import triton.language as tl

SIDE_BY_SIDE = 64 * 2**20  # bytes written between runs, so that none finds its inputs in the cache


def need_gpu() -> None:
    """End the program in one line where there is no GPU."""
    if not torch.cuda.is_available():
        raise SystemExit("no GPU: this benchmark needs a CUDA or ROCm device")


def event_times(
    sides: Mapping[str, Callable[[], Any]], rounds: int = 20, warmup: int = 3
) -> dict[str, list[float]]:
    """Time functions turn by turn by events on the GPU.

    Returns:
        name → seconds of each round.
    """
    flush = torch.empty(SIDE_BY_SIDE, dtype=torch.int8, device="cuda")
    for _ in range(warmup):
        for function in sides.values():
            function()
    marks: dict[str, list] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, function in sides.items():
            flush.zero_()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            function()
            end.record()
            marks[name].append((start, end))
    torch.cuda.synchronize()
    return {name: [a.elapsed_time(b) / 1e3 for a, b in pairs] for name, pairs in marks.items()}


def median_time(function: Callable[[], Any], rounds: int = 20) -> float:
    """Return a function's median time in seconds."""
    return statistics.median(event_times({"it": function}, rounds)["it"])


@triton.jit
def _exponentials(out, TIMES: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a = tl.load(out + at)
    b = a - 0.25
    c = a - 0.5
    d = a - 0.75
    for _ in range(TIMES):
        a = tl.exp2(-a)
        b = tl.exp2(-b)
        c = tl.exp2(-c)
        d = tl.exp2(-d)
    tl.store(out + at, a + b + c + d)


def exponential_rate() -> float:
    """Return how many exponentials a second the GPU's special-function units compute."""
    times, block, programs = 2048, 128, 8192
    out = torch.rand(block * programs, device="cuda")
    seconds = median_time(lambda: _exponentials[(programs,)](out, times, block, num_warps=4), 10)
    return 4 * times * block * programs / seconds


def copy_rate() -> float:
    """Return the bytes a second of a large copy, read and written bytes both counted."""
    source = torch.rand(2**29, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / median_time(lambda: target.copy_(source), 10)


def matmul_rate(dtype: torch.dtype, rows: int = 65536, size: int = 1152) -> float:
    """Return the operations a second of matrix products as wide as a small Mamba block's."""
    a, b = (torch.randn(shape, device="cuda", dtype=dtype) for shape in ((rows, size), (size, size)))
    return 2 * rows * size * size / median_time(lambda: a @ b)
