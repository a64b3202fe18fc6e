"""Fair timing for the benchmarks: sides take turns, medians and ratios are reported, the machine is named."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

import hear_audiomamba
from hear_audiomamba.ops import linear


def take_turns(
    sides: Mapping[str, Callable[[], Any]],
    rounds: int = 7,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    few: Mapping[str, int] | None = None,
) -> dict[str, list[float]]:
    """Time functions turn by turn, so that a drift of the machine meets all of them alike.

    Args:
        sides: name → function.
        rounds: counted runs of each.
        warmup: runs of each before.
        clock: gives seconds; `time.process_time` on a machine busy with other work, one thread.
        few: sides that take long → in how many rounds, the first ones, they take part; without runs before.

    Returns:
        name → seconds of each round, in the same order.
    """
    few = few or {}
    for _ in range(warmup):
        for name, function in sides.items():
            if name not in few:
                function()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, function in sides.items():
            if number >= few.get(name, rounds):
                continue
            start = clock()
            function()
            times[name].append(clock() - start)
    return times


def ratio(slow: list[float], fast: list[float]) -> dict[str, float]:
    """Return how many times faster one side is, pair by pair: median, least and most, and of how many pairs."""
    pairs = [a / b for a, b in zip(slow, fast)]
    return {"median": statistics.median(pairs), "min": min(pairs), "max": max(pairs), "pairs": len(pairs)}


def spread(found: Mapping[str, float], digits: int) -> str:
    """Return a ratio as text: with the least and the most of five pairs or more, else the number of pairs."""
    text = f"{found['median']:.{digits}f}"
    if found["pairs"] < 5:
        return f"{text} ({found['pairs']:.0f} pair{'s' if found['pairs'] > 1 else ''})"
    return f"{text} ({found['min']:.{digits}f}–{found['max']:.{digits}f})"


def machine() -> dict[str, Any]:
    """Describe what a result was measured on, without naming the host."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text(encoding="utf-8").splitlines()
            if "model name" in line
        ]
        model = names[0] if names else model
    return {
        "processor": model,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "hear_audiomamba": hear_audiomamba.__version__,
    }


def write(path: str | Path | None, result: Mapping[str, Any]) -> None:
    """Write a result with the machine it is from as JSON, if a path is given."""
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps({"machine": machine(), **result}, indent=2) + "\n", encoding="utf-8")


def matmul_rate(inner: int = 192, out: int = 1152, rows: int = 2008) -> float:
    """Return our float32 matrix-product rate, in operations a second, for the shape of SSAM-tiny's layers."""
    a, b = torch.randn(rows, inner), torch.randn(out, inner)
    times = take_turns({"matmul": lambda: linear(a, b)}, rounds=15, warmup=3)["matmul"]
    return 2 * rows * inner * out / statistics.median(times)
