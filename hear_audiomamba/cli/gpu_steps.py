"""The steps of the GPU report. Each runs in a process of its own, since a GPU error ends the process it is in.

`python -m hear_audiomamba.cli.gpu_steps NAME RESULT.json --device cuda [--toy]`
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..embedding.embedder import AudioEmbedder
from ..errors import AudioMambaError
from ..io.files import write_json
from ..ops import BACKENDS, causal_conv1d, selective_scan
from .gpu_measure import Place, training_step, whole_model

Row = dict[str, Any]
CHECKOUT = Path(__file__).resolve().parents[2]
# Of results to the same model's on the CPU in float32, which the tests hold to the published tensors.
LIMITS = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}
FAMILIES = ("ssam_tiny", "ssamba_tiny", "hiermamba_tiny", "aum_tiny", "ssast_tiny")


def kernel_tests(place: Place) -> list[Row]:
    """(a) The tests of the operators, which run their GPU kernels where there is a GPU."""
    tests = CHECKOUT / "tests" / "ops"
    if not tests.is_dir():
        return [{"skipped": "the tests are in a checkout only; run the report from one"}]
    chosen = [str(tests / "test_linear.py")] if place.toy else [str(tests)]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, encoding="utf-8", errors="replace")
    lines = done.stdout.strip().splitlines()
    if done.returncode:
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        raise RuntimeError("; ".join(failed) or done.stderr.strip() or "pytest failed")
    return [{"tests": str(Path(chosen[0]).relative_to(CHECKOUT)), "result": "all passed"}]


def values(place: Place) -> list[Row]:
    """(b) Embeddings of every family in every precision, against the CPU in float32."""
    rows = []
    audio = torch.rand(2, 16000 if place.toy else 160000) - 0.5
    for name in FAMILIES[: 1 if place.toy else None]:
        exact = whole_model(name, "cpu").scene(audio)
        for precision in LIMITS if place.on_gpu else ("float32", "bfloat16"):
            found = whole_model(name, place.device, precision=precision).scene(audio).cpu()
            gap = ((found - exact).norm() / exact.norm()).item()
            rows.append({"model": name, "precision": precision, "gap": gap, "limit": LIMITS[precision]})
            if not gap < LIMITS[precision]:
                raise RuntimeError(
                    f"{name} in {precision} is off by {gap:.1e}, allowed {LIMITS[precision]:.0e}"
                )
    return rows


def operators(place: Place) -> list[Row]:
    """(c) Scan and convolution on each backend, forward and with gradients, against the memory's rate."""
    shapes = [("SSAM-tiny, 2 s", 1, 24, 64, 8)] if place.toy else [
        ("SSAM-tiny, 2 s", 256, 251, 576, 24), ("SSAMBA-tiny, 10 s", 64, 513, 384, 16),
        ("one clip of 22,000 tokens", 1, 22000, 384, 16),
    ]  # fmt: skip
    dtype = torch.bfloat16 if place.on_gpu else torch.float32
    big = torch.zeros(2**20 if place.toy else 2**28, device=place.device)
    copy_rate = 2 * big.nbytes / place.seconds(big.clone)
    rows = []
    for name, batch, length, channels, states in shapes:
        u, delta, z = torch.randn(3, batch, length, channels, device=place.device, dtype=dtype)
        b, c = torch.randn(2, batch, length, states, device=place.device, dtype=dtype)
        a = -torch.arange(1.0, states + 1, device=place.device).repeat(channels, 1)
        d, taps = torch.ones(channels, device=place.device), torch.randn(channels, 4, device=place.device)
        scan = functools.partial(selective_scan, delta_softplus=True)
        calls: dict[str, tuple[list[Tensor], Callable[..., Tensor]]] = {
            "scan": ([u, delta, a, b, c, d, z, d], scan),
            "convolution": ([u, taps, d], causal_conv1d),
        }
        for operator, (tensors, call) in calls.items():
            leaves = [t.clone().requires_grad_() for t in tensors]
            moved = sum(t.nbytes for t in tensors) + u.nbytes
            for backend in (x for x in BACKENDS if x != "reference"):
                try:
                    forward = place.seconds(functools.partial(call, *tensors, backend=backend))
                except AudioMambaError:
                    continue

                def step(b: str = backend, f: Callable[..., Tensor] = call, t: list[Tensor] = leaves) -> None:
                    y = f(*t, backend=b)
                    torch.autograd.grad(y, t, torch.ones_like(y))

                row = {"operator": operator, "layer": name, "backend": backend, "forward_ms": 1e3 * forward}
                row |= {
                    "training_ms": 1e3 * place.seconds(step),
                    "of_memory_bound": forward * copy_rate / moved,
                }
                rows.append(row | {"training_bytes": place.peak_bytes(step)})
    return rows


def embedding(place: Place) -> list[Row]:
    """(d) Clips of 2 s a second: sizes and batches, compiled and with CUDA graphs, and SSAST."""
    sizes = ("tiny",) if place.toy else ("tiny", "small", "base")
    batches = (1,) if place.toy else (1, 8, 64, 512)
    precision = "bfloat16" if place.on_gpu else "float32"
    rows = []
    for size in sizes:
        for family in ("ssam", "ssast"):
            for way in ("eager", "compiled", "CUDA graphs") if place.on_gpu else ("eager",):
                name = f"{family}_{size}"
                model = whole_model(name, place.device, precision=precision, max_batch_windows=max(batches))
                if way != "eager":
                    model.encoder.compile(mode="reduce-overhead" if way == "CUDA graphs" else None)
                for batch in batches:
                    audio = torch.rand(batch, 32000, device=place.device) - 0.5
                    seconds = place.seconds(functools.partial(model.scene, audio))
                    row = {"model": name, "way": way, "batch": batch, "precision": precision}
                    rows.append(row | {"ms": 1e3 * seconds, "real_time": 2 * batch / seconds})
    return rows


def pretraining(place: Place) -> list[Row]:
    """(e) A pretraining step of SSAM-tiny, and its memory."""
    rows = []
    for batch in (2,) if place.toy else (64, 256):
        encoder = whole_model("ssam_tiny", place.device).encoder.train()
        step = training_step(place, encoder, batch)
        seconds = place.seconds(step)
        row = {"model": "ssam_tiny", "clips": batch, "ms": 1e3 * seconds, "clips_a_second": batch / seconds}
        rows.append(row | {"peak_bytes": place.peak_bytes(step)})
    return rows


def predictions(place: Place) -> list[Row]:
    """(f) The predictions engine on one task's embeddings, which AUDIOMAMBA_REPORT_TASK names."""
    folder = os.environ.get("AUDIOMAMBA_REPORT_TASK")
    if not folder:
        return [{"skipped": "no embeddings of a task given; name a folder with --task-embeddings"}]
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "hear_audiomamba.evaluate.predictions", folder, "--out", out]
        command += ["--device", place.device, "--grid", "fast" if place.toy else "default"]
        command += ["--grid-points", "1"] if place.toy else []
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["the engine failed"])[-1])
        seconds = time.perf_counter() - started
        report = json.loads(next(Path(out).glob("seed-*.json")).read_text(encoding="utf-8"))
    rows: list[Row] = [{"engine": "ours", "seconds": seconds, "device": place.device}]
    rows[0] |= {key: value for key, value in report.items() if isinstance(value, (int, float))}
    kit = CHECKOUT / "benchmarks" / "predictions.py"
    rows.append(
        {"engine": "HEAR's kit", "how": f"python {kit.relative_to(CHECKOUT)} {folder} compares on the CPU"}
    )
    return rows


def processes(place: Place) -> list[Row]:
    """(g) The same step under DDP, over NCCL with one process and with one for each GPU."""
    counts = sorted({1, torch.cuda.device_count()}) if place.on_gpu else (2,)
    rows = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder) / "ddp.json"
            command = [
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--standalone",
                f"--nproc-per-node={count}",
            ]
            command += ["-m", "hear_audiomamba.cli.gpu_steps", "one-of-many", str(result)]
            command += ["--device", place.device] + ["--toy"] * place.toy
            done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
            if done.returncode:
                raise RuntimeError(
                    f"{count} processes: {(done.stderr.strip().splitlines() or ['failed'])[-1]}"
                )
            rows.append({"processes": count, **json.loads(result.read_text(encoding="utf-8"))})
    return rows


def one_of_many(place: Place) -> Row:
    """Take part in a step under DDP, and return what it took."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    rank = int(os.environ.get("LOCAL_RANK", "0"))
    here = place._replace(device=f"cuda:{rank}") if place.on_gpu else place
    if place.on_gpu:
        torch.cuda.set_device(rank)
    dist.init_process_group("nccl" if place.on_gpu else "gloo")
    try:
        encoder = whole_model("ssam_tiny", here.device).encoder.train()
        # The head and the mask token take no part in this encoder's own forward pass.
        wrapped = DistributedDataParallel(encoder, find_unused_parameters=True)
        batch = 2 if place.toy else 64
        seconds = here.seconds(training_step(here, wrapped, batch))
        total = batch * dist.get_world_size() / seconds
        return {"backend": dist.get_backend(), "ms": 1e3 * seconds, "clips_a_second": total}
    finally:
        dist.destroy_process_group()


def long_sequences(place: Place) -> list[Row]:
    """(h) SSAMBA-tiny's blocks against SSAST-tiny's on up to 22,000 tokens: time and memory."""
    rows = []
    dtype = torch.bfloat16 if place.on_gpu else torch.float32
    mamba = whole_model("ssamba_tiny", place.device, precision=str(dtype).removeprefix("torch.")).encoder
    attention = whole_model("ssast_tiny", place.device, precision=str(dtype).removeprefix("torch.")).encoder
    for tokens in (64,) if place.toy else (1024, 4096, 22000):
        x = torch.randn(1, tokens, 192, device=place.device)
        row: Row = {"tokens": tokens}
        for name, encoder in (("mamba", mamba), ("attention", attention)):

            def run(e: Any = encoder, x: Tensor = x) -> None:
                with torch.inference_mode():
                    e.encode(x)

            row |= {f"{name}_ms": 1e3 * place.seconds(run), f"{name}_bytes": place.peak_bytes(run)}
        rows.append(row | {"attention_over_mamba": row["attention_ms"] / row["mamba_ms"]})
    return rows


class _LittleMemory(AudioEmbedder):
    """A model that says it is out of memory above two windows, for a rehearsal without a GPU."""

    def encode_windows(self, windows: Tensor) -> Tensor:
        if len(windows) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (rehearsed)")
        return super().encode_windows(windows)


def out_of_memory(place: Place) -> list[Row]:
    """(i) A batch that does not fit is halved until it does, and gives the same embeddings."""
    from ..archive.encode import WindowEncoder

    model = whole_model("ssam_tiny", place.device, AudioEmbedder if place.on_gpu else _LittleMemory)
    budget = 8 if place.toy else 4096
    windows = torch.randn(budget, 200, 80)
    delivered: list[Any] = []
    if place.on_gpu:
        torch.cuda.set_per_process_memory_fraction(0.05)
    with WindowEncoder(model, budget=budget) as encoder, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        encoder.encode(windows, [50] * budget, delivered.extend)
        encoder.finish()
    halvings = [str(w.message) for w in said if "out of memory" in str(w.message)]
    if len(delivered) != budget or not halvings:
        raise RuntimeError(
            f"{len(delivered)} of {budget} windows came back, {len(halvings)} halvings were said"
        )
    return [{"windows": budget, "delivered": len(delivered), "said": halvings[0]}]


STEPS: dict[str, Callable[[Place], list[Row]]] = {
    "kernel-tests": kernel_tests,
    "values": values,
    "operators": operators,
    "embedding": embedding,
    "pretraining": pretraining,
    "predictions": predictions,
    "processes": processes,
    "long-sequences": long_sequences,
    "out-of-memory": out_of_memory,
}


def main() -> int:
    """Run one step and write its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=[*STEPS, "one-of-many"])
    parser.add_argument("result", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--toy", action="store_true")
    args = parser.parse_args()
    place = Place(args.device, args.toy)
    if args.step == "one-of-many":
        found = one_of_many(place)
        if int(os.environ.get("RANK", "0")) == 0:
            write_json(args.result, found)
        return 0
    write_json(args.result, {"rows": STEPS[args.step](place)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
