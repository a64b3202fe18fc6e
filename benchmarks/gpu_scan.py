"""The scan and the convolution on a GPU: our Triton kernels, mamba-ssm's where installed, and the bound.

    python benchmarks/gpu_scan.py [--json results.json] [--dtype bfloat16]
    python benchmarks/gpu_scan.py --sweep

The bound of a scan is the larger of two times, at rates measured in the same run: its exponentials through
the special-function units (one a state update forwards; the training step needs two more, for the states
computed again), and its tensors through memory once. "mamba-ssm" is called as the package calls it, from
channel-last data and back; "its kernel alone" starts from data already laid out as it wants.
With --sweep our kernels are timed for other numbers of tokens and channels a program.
"""

from __future__ import annotations

import argparse
import functools
import statistics

import torch
from gpu_timing import copy_rate, event_times, exponential_rate, median_time, need_gpu
from timing import write

from hear_audiomamba.ops import causal_conv1d, selective_scan

# Name, batch, tokens, channels, states: a layer of each model at full batch, and one long clip.
SHAPES = [
    ("SSAM-tiny, 2 s", 256, 251, 576, 24),
    ("SSAMBA-tiny, 10 s", 64, 513, 384, 16),
    ("SSAM-tiny, 50 s", 8, 6251, 576, 24),
    ("one clip of 22,000 tokens", 1, 22000, 384, 16),
    ("one clip of 2 s", 1, 251, 576, 24),
]
INPUTS = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")


def make(batch: int, length: int, channels: int, states: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return a Mamba layer's inputs of the scan, as views the way the layer makes them."""
    torch.manual_seed(0)
    xz = torch.randn(batch, length, 2 * channels, device="cuda", dtype=dtype)
    weights = torch.randn(batch, length, 12 + 2 * states, device="cuda", dtype=dtype)
    full = {"device": "cuda", "dtype": torch.float32}
    return {
        "u": xz[..., :channels],
        "delta": torch.randn(batch, length, channels, device="cuda", dtype=dtype),
        "A": -torch.arange(1.0, states + 1, **full).repeat(channels, 1),
        "B": weights[..., 12 : 12 + states],
        "C": weights[..., 12 + states :],
        "D": torch.ones(channels, **full),
        "z": xz[..., channels:],
        "delta_bias": torch.rand(channels, **full) * 4 - 7,
    }


def runs(inputs: dict[str, torch.Tensor], scan) -> dict[str, object]:
    """Return the forward pass and the training step of a scan as functions."""
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in inputs.items()}

    def forward():
        with torch.no_grad():
            return scan(**inputs)

    def step():
        y = scan(**leaves)
        return torch.autograd.grad(y, list(leaves.values()), grad_outputs=torch.ones_like(y))

    return {"forward": forward, "step": step}


@functools.cache
def mamba_scan():
    """Return mamba-ssm's own scan, or None, said once, where it is not installed."""
    try:
        from hear_audiomamba.ops.selective_scan import mamba_ssm
    except ImportError as error:
        print(f"mamba-ssm is left out: {error}")
        return None
    return mamba_ssm._scan


def check(dtype: torch.dtype) -> None:
    """Assert that the kernels agree with the reference, values and gradients, before they are timed."""
    inputs = make(2, 67, 72, 24, torch.float32)

    def gradients(backend: str, kind: torch.dtype) -> list[torch.Tensor]:
        given = {n: t.to(kind) for n, t in inputs.items()}
        scan = lambda **k: selective_scan(**k, delta_softplus=True, backend=backend)  # noqa: E731
        return [scan(**given), *runs(given, scan)["step"]()]

    for name, ours, truth in zip(
        ("y", *INPUTS), gradients("triton", torch.float32), gradients("reference", torch.float64)
    ):
        error = ((ours.double() - truth).norm() / truth.norm()).item()
        assert error < 1e-5, f"{name}: off by {error:.2e}"


def bounds(
    shape: tuple[int, int, int, int], dtype: torch.dtype, copy: float, exponentials: float
) -> dict[str, float]:
    """Return the least seconds of a forward pass and of a training step."""
    batch, length, channels, states = shape
    size = torch.finfo(dtype).bits // 8
    updates = batch * length * channels * states
    row, weights = batch * length * channels * size, 2 * batch * length * states * size
    read_and_written = {"forward": 4 * row + weights, "step": 4 * row + weights + 7 * row + 2 * weights}
    needed = {"forward": updates, "step": 3 * updates}
    return {k: max(read_and_written[k] / copy, needed[k] / exponentials) for k in needed}


def scan_row(name: str, shape: tuple, dtype: torch.dtype, copy: float, exponentials: float) -> dict:
    """Measure one row of the table."""
    inputs = make(*shape, dtype)
    sides = {"triton": (inputs, lambda **k: selective_scan(**k, delta_softplus=True, backend="triton"))}
    if mamba_scan():
        sides["mamba_ssm"] = (
            inputs,
            lambda **k: selective_scan(**k, delta_softplus=True, backend="mamba_ssm"),
        )
        laid_out = {n: t.transpose(1, 2).contiguous() if t.ndim == 3 else t for n, t in inputs.items()}
        sides["mamba_kernel"] = (laid_out, lambda **k: mamba_scan()(**k, delta_softplus=True))
    row = {"name": name, "shape": shape, "bound": bounds(shape, dtype, copy, exponentials)}
    for kind in ("forward", "step"):
        functions = {side: runs(given, scan)[kind] for side, (given, scan) in sides.items()}
        times = event_times(functions)
        row[kind] = {side: statistics.median(values) for side, values in times.items()}
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    runs(*sides["triton"])["step"]()
    row["step_memory"] = torch.cuda.max_memory_allocated() - before
    return row


def conv_row(dtype: torch.dtype, copy: float) -> dict:
    """Measure the convolution of one SSAM-tiny layer against its bytes."""
    x = make(256, 251, 576, 24, dtype)["u"]
    weight, bias = torch.randn(576, 4, device="cuda"), torch.randn(576, device="cuda")

    def forward():
        with torch.no_grad():
            causal_conv1d(x, weight, bias, backend="triton")

    leaves = [t.detach().requires_grad_() for t in (x, weight, bias)]
    grad = torch.ones_like(x)

    def step():
        torch.autograd.grad(causal_conv1d(*leaves, backend="triton"), leaves, grad_outputs=grad)

    size = x.numel() * x.element_size()
    times = event_times({"forward": forward, "step": step})
    median = {name: statistics.median(values) for name, values in times.items()}
    return {"seconds": median, "of_bound": {"forward": median["forward"] * copy / (2 * size),
                                            "step": median["step"] * copy / (5 * size)}}  # fmt: skip


def sweep(dtype: torch.dtype) -> None:
    """Print forward and training-step times for other shapes of program."""
    from hear_audiomamba.ops.selective_scan import triton as backend

    print("| TILE | BLOCK | SEGMENT | forward, ms | training step, ms |\n|---|---|---|---|---|")
    inputs = make(*SHAPES[0][1:], dtype)
    for tile in (4, 8, 16):
        for block in (32, 64, 128):
            for segment in (32, 64, 128):
                backend.TILE, backend.BLOCK, backend.SEGMENT = tile, block, segment
                both = runs(inputs, lambda **k: selective_scan(**k, delta_softplus=True, backend="triton"))
                cells = [f"{median_time(function, 10) * 1e3:.3f}" for function in both.values()]
                print(f"| {tile} | {block} | {segment} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--sweep", action="store_true")
    args = parser.parse_args()
    need_gpu()
    mamba_scan()
    dtype = getattr(torch, args.dtype)
    check(dtype)
    if args.sweep:
        sweep(dtype)
        return
    copy, exponentials = copy_rate(), exponential_rate()
    print(
        f"{torch.cuda.get_device_name()}: copy {copy / 1e12:.2f} TB/s, {exponentials / 1e12:.2f} T exponentials/s"
    )
    columns = "ms | × bound | vs mamba-ssm | vs its kernel alone"
    print(f"| layer | forward, {columns} | training step, {columns} |")
    print("|---" * 9 + "|")
    rows = []
    for name, *shape in SHAPES:
        row = scan_row(name, tuple(shape), dtype, copy, exponentials)
        rows.append(row)
        cells = [f"{name}, {args.dtype}"]
        for kind in ("forward", "step"):
            ours = row[kind]["triton"]
            cells += [f"{ours * 1e3:.3f}", f"{ours / row['bound'][kind]:.2f}"]
            cells += [
                f"{row[kind][s] / ours:.2f}" if s in row[kind] else "–" for s in ("mamba_ssm", "mamba_kernel")
            ]
        print("| " + " | ".join(cells) + " |", flush=True)
    conv = conv_row(dtype, copy)
    for kind, seconds in conv["seconds"].items():
        of_bound = conv["of_bound"][kind]
        print(f"convolution, SSAM-tiny layer, {kind}: {seconds * 1e3:.3f} ms, {of_bound:.2f} × its bytes")
    write(
        args.json,
        {"copy": copy, "exponentials": exponentials, "dtype": args.dtype, "rows": rows, "conv": conv},
    )


if __name__ == "__main__":
    main()
