"""`hear-audiomamba bench`: what the scan and the models do on this machine."""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import AudioMambaError
from .options import add_precision_option, tell_precision, use_threads

DEFAULT_MODELS = ("ssam_tiny", "ssast_tiny")
LAYER = {"batch": 8, "length": 251, "channels": 576, "states": 24}  # ssam_tiny, eight windows of 2 s


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models", nargs="*", default=DEFAULT_MODELS, metavar="NAME", help="none: only the scan"
    )
    parser.add_argument("--batch", type=int, default=8, help="clips of 2 s embedded at once (default 8)")
    parser.add_argument("--device", default="cpu")
    add_precision_option(parser.add_argument)
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's own choice)")
    parser.add_argument(
        "--rounds", type=int, default=7, help="measured runs of each line; the median is shown"
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")
    report = parser.add_argument_group(
        "GPU report", "tests, values and speed on a GPU, step by step, resumable"
    )
    report.add_argument("--gpu", action="store_true", help="write the report instead of the tables")
    report.add_argument("--report", type=Path, default=Path("gpu_report"), metavar="DIR", help="its folder")
    report.add_argument(
        "--cpu-rehearsal", action="store_true", help="run its steps on the CPU at small sizes"
    )
    report.add_argument("--task-embeddings", type=Path, metavar="DIR",
        help="embeddings of a HEAR task, for the predictions engine")  # fmt: skip
    report.add_argument("--steps", nargs="+", default=(), metavar="STEP", help="only these steps")


def run(args: argparse.Namespace) -> int:
    if args.gpu:
        from .gpu_report import write_report

        status = write_report(args.report, args.cpu_rehearsal, args.task_embeddings, args.steps)
        print(f"{args.report / 'report.md'}{'' if status == 0 else ': not every step succeeded'}")
        return status
    import torch

    from ..models.devices import find_device

    find_device(args.device)
    use_threads(args.threads)
    warnings.simplefilter("ignore")
    result = {
        "machine": {
            "device": _device_name(args.device),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
        "kernel": _kernel(),
        "scans": _scans(args.device, args.rounds),
        "models": [_model(name, args) for name in args.models],
    }
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        _show(result)
    return 0


def _kernel() -> str:
    """Return which build of the compiled CPU kernel runs, or why none does."""
    from ..ops import native

    try:
        return native.isa()
    except AudioMambaError as error:
        return str(error)


def _seconds(function: Callable[[], Any], device: str, rounds: int) -> float:
    """Return the median seconds of a call, after one that is not counted."""
    import torch

    times = []
    for counted in range(rounds + 1):
        start = time.perf_counter()
        function()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        if counted:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def _scans(device: str, rounds: int) -> list[dict[str, Any]]:
    """Measure one layer's scan on every backend that runs here, forward and with gradients."""
    import torch

    from ..ops import BACKENDS, selective_scan

    batch, length, channels, states = LAYER.values()
    inputs = [
        torch.randn(batch, length, channels),
        torch.randn(batch, length, channels) / 2 - 3,
        -torch.arange(1.0, states + 1).repeat(channels, 1),
        torch.randn(batch, length, states),
        torch.randn(batch, length, states),
        torch.randn(channels),
        torch.randn(batch, length, channels),
        torch.randn(channels) / 10,
    ]
    inputs = [t.to(device) for t in inputs]
    leaves = [t.clone().requires_grad_() for t in inputs]

    def scan(tensors: list[torch.Tensor], backend: str) -> torch.Tensor:
        u, delta, a, b, c, d, z, bias = tensors
        return selective_scan(u, delta, a, b, c, d, z, bias, delta_softplus=True, backend=backend)

    def training(backend: str) -> None:
        y = scan(leaves, backend)
        torch.autograd.grad(y, leaves, torch.ones_like(y))

    rows = []
    for backend in BACKENDS:
        repeat = 1 if backend == "reference" else rounds
        try:
            forward = _seconds(functools.partial(scan, inputs, backend), device, repeat)
            both = _seconds(functools.partial(training, backend), device, repeat)
        except AudioMambaError:
            continue
        updates = batch * length * channels * states
        rows.append(
            {"backend": backend, "forward_ms": 1e3 * forward, "training_ms": 1e3 * both}
            | {"ns_per_update": 1e9 * forward / updates}
        )
    return rows


def _model(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Measure how many seconds of audio a model embeds in a second."""
    import torch

    from ..hear import load_model

    model = load_model(variant=name, device=args.device, precision=args.precision)
    tell_precision(args.precision, model)
    audio = torch.rand(args.batch, 2 * model.sample_rate, device=args.device) - 0.5
    seconds = _seconds(lambda: model.scene(audio), args.device, args.rounds)
    return {"model": name, "batch": args.batch, "ms": 1e3 * seconds, "real_time": 2 * args.batch / seconds}


def _device_name(device: str) -> str:
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        import platform

        return platform.processor() or platform.machine()


def _show(result: dict[str, Any]) -> None:
    from .console import console, table

    screen = console()
    machine = result["machine"]
    screen.print(f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}")
    screen.print(f"compiled CPU kernel: {result['kernel']}\n")
    shape = ", ".join(f"{name} {size}" for name, size in LAYER.items())
    slowest = max((row["forward_ms"] for row in result["scans"]), default=0)
    slowest_training = max((row["training_ms"] for row in result["scans"]), default=0)
    numbers = ("forward", "", "forward + backward", "", "a state update")
    scans = table("backend", *numbers, right=numbers, title=f"selective scan: {shape}")
    for row in result["scans"]:
        scans.add_row(
            row["backend"],
            f"{row['forward_ms']:.2f} ms",
            f"{slowest / row['forward_ms']:.1f} ×",
            f"{row['training_ms']:.2f} ms",
            f"{slowest_training / row['training_ms']:.1f} ×",
            f"{row['ns_per_update']:.3f} ns",
        )
    screen.print(scans)
    if not result["models"]:
        return
    sizes = ("batch", "time", "audio a second")
    models = table("model", *sizes, right=sizes, title="\nembedding clips of 2 s")
    for row in result["models"]:
        models.add_row(row["model"], str(row["batch"]), f"{row['ms']:.1f} ms", f"{row['real_time']:.0f} s")
    screen.print(models)
