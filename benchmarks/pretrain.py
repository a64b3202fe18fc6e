"""Pretraining speed: a step of SSAM against the same step on the sequential scan and against SSAST.

    python benchmarks/pretrain.py [--threads 1] [--batch 8] [--size tiny] [--rounds 5] [--json results.json]

A step is what the training loop does with a batch of 2 s crops (251 tokens): masks, forward pass, loss,
backward pass, AdamW. All sides have the same batch and masks and take turns; the sequential scan is how
the published code runs without its CUDA kernels, and must give the same loss. On the CPU the processor's
time is counted, of all threads together, so that what else the machine does tells less. Peak memory is
that of a fresh process which takes three steps, above what it held before the first.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from timing import ratio, spread, write

from hear_audiomamba.models.families import build_modules
from hear_audiomamba.models.registry import find_variant
from hear_audiomamba.modules.compute import set_backend
from hear_audiomamba.pretrain.config import OptimConfig, PretrainConfig
from hear_audiomamba.pretrain.objectives.objectives import MaskedReconstruction
from hear_audiomamba.pretrain.run.optim import build_optimizer

SLOW = "ssam, sequential scan"
# side: model family, backend of the scan (None: the fastest at hand), autocast
SIDES = {
    "ssam": ("ssam", None, None),
    "ssam, bfloat16": ("ssam", None, torch.bfloat16),
    SLOW: ("ssam", "reference", None),
    "ssast": ("ssast", None, None),
    "ssast, bfloat16": ("ssast", None, torch.bfloat16),
}


def make_step(side: str, size: str, batch: int, device: str) -> Callable[[], float]:
    """Return a function that does one training step of a side and returns its loss."""
    family, backend, dtype = SIDES[side]
    torch.manual_seed(0)
    _, encoder = build_modules(find_variant(f"{family}_{size}_200_16x4").config)
    objective = MaskedReconstruction(encoder, PretrainConfig())
    objective.to(device).train()
    set_backend(objective, backend)
    optimizer = build_optimizer(objective, OptimConfig(lr=1e-5))
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(batch, 200, 80, generator=generator).to(device)
    mask = (torch.rand(batch, 250, generator=generator).argsort(dim=1) < 125).to(device)

    def step() -> float:
        autocast = torch.autocast(device, dtype) if dtype else contextlib.nullcontext()
        with autocast:
            loss = objective(features, {"mask": mask})["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def peak_memory(side: str, size: str, batch: int, device: str) -> float:
    """Return the MB that three steps add, in this process."""
    step = make_step(side, size, batch, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        # The high-water mark starts again from here.
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        before = resident("VmRSS")
    for _ in range(3 if side != SLOW else 1):
        step()
    if device == "cuda":
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    return resident("VmHWM") - before


def resident(field: str) -> float:
    """Return this process's memory in MB: what it holds now ("VmRSS") or held at most ("VmHWM")."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1e3
    raise RuntimeError(f"/proc/self/status has no {field}")


def timed(step: Callable[[], float], device: str) -> tuple[float, float]:
    """Return a step's seconds (of the processor, or of the clock for a GPU) and its loss."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    loss = step()
    return clock() - start, loss


def memory_in_child(side: str, args: argparse.Namespace) -> float:
    """Return `peak_memory` as a fresh process measures it."""
    words = [sys.executable, __file__, "--memory-of", side, "--size", args.size, "--batch", str(args.batch)]
    words += ["--threads", str(args.threads), "--device", args.device]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", default="tiny", choices=["tiny", "small", "base"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--json")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    if args.memory_of:
        print(json.dumps(peak_memory(args.memory_of, args.size, args.batch, args.device)))
        return
    steps = {side: make_step(side, args.size, args.batch, args.device) for side in SIDES}
    losses, times = {}, {side: [] for side in SIDES}
    for number in range(args.rounds + 1):
        for side, step in steps.items():
            seconds, loss = timed(step, args.device)
            losses.setdefault(side, loss)
            if number:  # the first round warms up
                times[side].append(seconds)
    gap = abs(losses["ssam"] - losses[SLOW])
    assert gap < 1e-5, f"the two scans give losses {gap:.2e} apart"
    print("| step | clips a second (of one core, on the CPU) | peak memory, MB | speed, × ssast |")
    print("|---|---|---|---|")
    rows = []
    for side in SIDES:
        speed = args.batch / statistics.median(times[side])
        memory = memory_in_child(side, args)
        against = ratio(times["ssast"], times[side])
        print(f"| {side} | {speed:.2f} | {memory:.0f} | {spread(against, 2)} |", flush=True)
        rows.append({"side": side, "clips_per_second": speed, "peak_mb": memory, "vs_ssast": against})
    against = ratio(times[SLOW], times["ssam"])
    print(f"\nssam against its own step on the sequential scan: {spread(against, 1)} times as fast")
    settings = {"size": args.size, "batch": args.batch, "tokens": 251}
    write(args.json, {**settings, "rows": rows, "vs_sequential": against})


if __name__ == "__main__":
    main()
