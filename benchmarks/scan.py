"""Selective scan: every backend against the sequential reference, forward and with gradients, in one run.

    python benchmarks/scan.py [--threads 2] [--rounds 9] [--json results.json] [--device cpu]

Each row is one layer's shape. The sides take turns; before any is timed its output and its gradients are
compared with the reference in float64. A "state update" is one step of one of the batch · L · D · N states.
On a machine that is busy with other work, count processor time on one thread: --threads 1 --cpu-time.
With --isa the compiled kernel's instruction sets are compared with one another instead.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from timing import ratio, spread, take_turns, write
from torch import Tensor

from hear_audiomamba.errors import BackendError
from hear_audiomamba.ops import native, selective_scan

# name, batch, L, D, N
SHAPES = [
    ("SSAM tiny, 2 s", 8, 251, 576, 24),
    ("SSAM tiny, 10 s", 1, 1251, 576, 24),
    ("SSAM tiny, 50 s", 1, 6251, 576, 24),
    ("SSAM base, 2 s", 1, 251, 2304, 24),
    ("SSAMBA tiny, 10 s", 1, 513, 384, 16),
    ("one state", 4, 1024, 384, 1),
]
NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
LIMIT = 1e-5  # RMS ratio to float64


def inputs_of(batch: int, length: int, channels: int, states: int, device: str) -> list[Tensor]:
    """Return scan arguments with the sizes of a trained layer, in the order of the operator."""
    tensors = (
        torch.randn(batch, length, channels), 0.5 * torch.randn(batch, length, channels) - 3,
        -torch.arange(1.0, states + 1).repeat(channels, 1),
        torch.randn(batch, length, states), torch.randn(batch, length, states),
        torch.randn(channels), torch.randn(batch, length, channels), 0.1 * torch.randn(channels),
    )  # fmt: skip
    return [t.to(device) for t in tensors]


def forward(inputs: list[Tensor], backend: str | None) -> Tensor:
    """Run one scan without gradients."""
    with torch.no_grad():
        return selective_scan(*inputs, delta_softplus=True, backend=backend).sum()


def training(inputs: list[Tensor], backend: str | None) -> list[Tensor]:
    """Run one scan and the gradients of its inputs."""
    leaves = [t.detach().requires_grad_() for t in inputs]
    y = selective_scan(*leaves, delta_softplus=True, backend=backend)
    return [y, *torch.autograd.grad(y, leaves, torch.ones_like(y))]


def worst_gap(actual: list[Tensor], exact: list[Tensor]) -> float:
    """Return the largest RMS ratio of the output and the gradients to the exact ones."""
    gaps = [((a.double() - e).pow(2).mean() / e.pow(2).mean()).sqrt().item() for a, e in zip(actual, exact)]
    assert max(gaps) < LIMIT, f"a backend disagrees with the reference: {max(gaps):.1e}"
    return max(gaps)


def row(name: str, shape: tuple[int, ...], device: str, rounds: int, clock: Callable[[], float]) -> dict:
    """Measure one shape: the default backend, the chunked PyTorch one, and the reference."""
    inputs = inputs_of(*shape, device)
    updates = shape[0] * shape[1] * shape[2] * shape[3]
    small = [t[:1, :300] if t.ndim == 3 else t for t in inputs]
    exact = training([t.double() for t in small], "torch")
    sides: dict[str, str | None] = {"ours": None, "torch": "torch"}
    gaps = {side: worst_gap(training(small, backend), exact) for side, backend in sides.items()}

    def measure(work) -> dict[str, list[float]]:
        def run(backend):
            work(inputs, backend)
            if device != "cpu":
                torch.cuda.synchronize()

        functions = {s: lambda b=b: run(b) for s, b in (sides | {"reference": "reference"}).items()}
        return take_turns(functions, rounds, 2, clock, few={"reference": 5})

    result = {"name": name, "shape": shape, "gap": gaps}
    for label, work in (("forward", forward), ("training", training)):
        times = measure(work)
        result[label] = {
            "milliseconds": {side: 1000 * statistics.median(t) for side, t in times.items()},
            "ns_per_update": 1e9 * statistics.median(times["ours"]) / updates,
            "vs_reference": ratio(times["reference"], times["ours"]),
            "vs_torch": ratio(times["torch"], times["ours"]),
        }
    return result


def isa_rows(rounds: int, clock: Callable[[], float]) -> list[dict]:
    """Measure the compiled kernel's instruction sets on the first shape, turn by turn."""
    _, *shape = SHAPES[0]
    inputs = inputs_of(*shape, "cpu")
    names = []
    for name in ("avx512", "avx2", "portable"):
        try:
            native.choose_isa(name)
            names.append(name)
        except BackendError:
            continue

    def with_isa(name: str, work) -> None:
        native.choose_isa(name)
        work(inputs, "cpu")

    exact = training([t.double() for t in inputs], "torch")
    for name in names:
        native.choose_isa(name)
        worst_gap(training(inputs, "cpu"), exact)
    rows = []
    for label, work in (("forward", forward), ("training", training)):
        times = take_turns({n: lambda n=n, work=work: with_isa(n, work) for n in names}, rounds, 1, clock)
        rows += [{"pass": label, "isa": n, "milliseconds": 1000 * statistics.median(times[n])} for n in names]
    native.choose_isa(None)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shapes", type=int, default=len(SHAPES), help="only the first so many shapes")
    parser.add_argument("--isa", action="store_true", help="compare instruction sets instead")
    parser.add_argument("--cpu-time", action="store_true", help="count processor time; use with --threads 1")
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    clock = time.process_time if args.cpu_time else time.perf_counter
    if args.isa:
        rows = isa_rows(args.rounds, clock)
        print("| pass | instruction set | ms |\n|---|---|---|")
        for r in rows:
            print(f"| {r['pass']} | {r['isa']} | {r['milliseconds']:.2f} |")
        write(args.json, {"isa": rows})
        return

    print("| layer | batch, L, D, N | pass | ms | ns an update | × the reference | × chunked PyTorch |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for name, *shape in SHAPES[: args.shapes]:
        found = row(name, tuple(shape), args.device, args.rounds, clock)
        rows.append(found)
        for label in ("forward", "training"):
            r = found[label]
            print(
                f"| {name} | {', '.join(map(str, shape))} | {label} | {r['milliseconds']['ours']:.2f} "
                f"| {r['ns_per_update']:.3f} | {spread(r['vs_reference'], 1)} | {spread(r['vs_torch'], 1)} |",
                flush=True,
            )
    print(
        f"\nworst RMS ratio to float64, outputs and gradients: {max(max(r['gap'].values()) for r in rows):.1e}"
    )
    write(args.json, {"scans": rows})


if __name__ == "__main__":
    main()
