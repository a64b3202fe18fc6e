"""Time and memory over sequence length: a tiny bidirectional Mamba encoder and a tiny Transformer, on the CPU.

    python benchmarks/sequence_length.py [--json results.json] [--plot docs/figures/sequence_length.png]
    python benchmarks/sequence_length.py --lengths 16384 22000 --sides mamba --json results.json
    python benchmarks/sequence_length.py --render --json results.json --plot figure.png

The claim of the SSAMBA paper (Shams et al., arXiv 2405.11831), repeated with attention both
written out and fused. Blocks only, batch 1, float32, inference: SSAMBA-tiny's 24 bidirectional blocks of
width 192 against SSAST-tiny's 12 Transformer blocks of width 192 with 3 heads. Every point runs in a
process of its own; time is the fastest of up to seven runs, memory the peak resident size above what the
process held before. With `--clock cpu` and one thread the time is what the process itself computed, which
is the one to trust while the machine does other work. Points are added to the JSON file
as they are measured, so a run can be cut into several.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from timing import machine, write
from torch import Tensor, nn

from hear_audiomamba.modules.mamba import MambaBlock
from hear_audiomamba.modules.transformer import Attention, TransformerBlock

WIDTH, HEADS, DEPTHS = 192, 3, {"mamba": 24, "naive": 12, "fused": 12}
NAMES = {
    "mamba": "Mamba, bidirectional",
    "fused": "Transformer, fused attention",
    "naive": "Transformer, naive attention",
}
COLOURS = {"mamba": "#1b6ca8", "fused": "#c25b12", "naive": "#6b6b6b"}
LENGTHS = [1024, 2048, 4096, 8192, 16384, 22000]
OUT_OF_MEMORY, OUT_OF_TIME = "out of memory limit", "out of time limit"


class NaiveAttention(Attention):
    """Attention with its L × L matrix written out, as in code older than fused kernels."""

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.num_heads, width // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = F.softmax(q * (width // self.num_heads) ** -0.5 @ k.transpose(-2, -1), dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, length, width))


def build(side: str) -> tuple[nn.ModuleList, Callable[[Tensor], Tensor]]:
    """Return the blocks of one side and the function that runs them."""
    torch.manual_seed(0)
    if side == "mamba":
        blocks = nn.ModuleList(MambaBlock(WIDTH, "rms", bidirectional="v2") for _ in range(DEPTHS[side]))

        def run(stream: Tensor) -> Tensor:
            for block in blocks:
                stream = block(stream)
            return stream

        return blocks, run
    blocks = nn.ModuleList(TransformerBlock(WIDTH, HEADS) for _ in range(DEPTHS[side]))
    if side == "naive":
        for block in blocks:
            naive = NaiveAttention(WIDTH, HEADS)
            naive.load_state_dict(block.attn.state_dict())
            block.attn = naive
    return blocks, nn.Sequential(*blocks)


def resident(what: str) -> int:
    """Return a line of the kernel's account of this process, in bytes: VmRSS is now, VmHWM the most so far."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(rf"{what}:\s+(\d+) kB", status)[1]) * 1024


def measure(side: str, length: int, args: argparse.Namespace) -> dict:
    """Measure one point in this process: as many runs as fit in `args.seconds`, at least one."""
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    blocks, run = build(side)
    with torch.inference_mode():
        run(torch.randn(1, 256, WIDTH))
        x = torch.randn(1, length, WIDTH)
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the most so far is now what is
        resource.setrlimit(resource.RLIMIT_DATA, (before + int(args.memory_gib * 2**30),) * 2)
        times: list[float] = []
        try:
            while not times or (len(times) < 7 and sum(times) < args.seconds):
                start = clock()
                run(x)
                times.append(clock() - start)
        except (RuntimeError, MemoryError) as error:
            if "memory" not in str(error):
                raise
            return {"failed": OUT_OF_MEMORY}
    return {
        # The fastest, for sides in processes of their own cannot take turns against what else the machine does.
        "seconds": min(times),
        "runs": len(times),
        "memory": resident("VmHWM") - before,
        "parameters": sum(p.numel() for p in blocks.parameters()),
    }


def measure_apart(side: str, length: int, args: argparse.Namespace) -> dict:
    """Measure one point in a process of its own, which is ended when it takes too long."""
    command = [sys.executable, __file__, "--point", side, str(length), "--threads", str(args.threads)]
    command += ["--clock", args.clock, "--seconds", str(args.seconds), "--memory-gib", str(args.memory_gib)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=args.time_limit)
    except subprocess.TimeoutExpired:
        return {"side": side, "length": length, "failed": OUT_OF_TIME}
    if done.returncode:
        raise SystemExit(done.stderr)
    return {"side": side, "length": length, **json.loads(done.stdout)}


def check_agreement() -> None:
    """Assert that naive and fused attention are the same function."""
    with torch.inference_mode():
        x = torch.randn(1, 300, WIDTH)
        torch.testing.assert_close(build("naive")[1](x), build("fused")[1](x), rtol=1e-4, atol=1e-4)


def table(points: list[dict]) -> str:
    """Return the results as a markdown table."""
    found = {(p["side"], p["length"]): p for p in points}
    lines = [
        "| tokens | " + " | ".join(f"{NAMES[side]}: s | MiB" for side in NAMES) + " | fused ÷ Mamba |",
        "|---" * (2 + 2 * len(NAMES)) + "|",
    ]
    for length in sorted({p["length"] for p in points}):
        cells = [f"{length:,}"]
        for side in NAMES:
            point = found.get((side, length), {"failed": "not run"})
            if "failed" in point:
                cells += [point["failed"], "–"]
            else:
                cells += [f"{point['seconds']:.3g}", f"{point['memory'] / 2**20:,.0f}"]
        both = [found.get((side, length), {}).get("seconds") for side in ("fused", "mamba")]
        cells.append(f"{both[0] / both[1]:.2f}" if all(both) else "–")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(points: list[dict], path: Path, title: str) -> None:
    """Draw time and memory over length, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    what = [("seconds", 1, "seconds a forward pass"), ("memory", 2**20, "peak memory, MiB")]
    for axis, (key, unit, label) in zip(axes, what):
        for side, name in NAMES.items():
            own = sorted((p for p in points if p["side"] == side), key=lambda p: p["length"])
            done = [p for p in own if key in p]
            if not done:
                continue
            lengths, values = [p["length"] for p in done], [p[key] / unit for p in done]
            axis.plot(lengths, values, marker="o", ms=5, lw=2, color=COLOURS[side], label=name)
            lost = [p for p in own if "failed" in p]
            if lost:
                reason = "\n".join(f"{p['length']:,}: {p['failed']}" for p in lost)
                place = {"xytext": (-9, 5), "ha": "right"} if key == "seconds" else {"xytext": (9, -6)}
                axis.annotate(
                    reason, (lengths[-1], values[-1]), **place, textcoords="offset points", fontsize=8,
                    color=COLOURS[side],
                )  # fmt: skip
        axis.set(xscale="log", yscale="log", xlabel="tokens", ylabel=label)
        ticks = sorted({p["length"] for p in points})
        axis.set_xticks(ticks, [f"{t / 1000:.0f}k" for t in ticks])
        axis.minorticks_off()
        axis.grid(True, color="#dddddd", lw=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    axes[1].legend(frameon=False, loc="lower right")
    figure.suptitle(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)


def backend_in_use() -> str:
    """Return the name of the scan's backend on this machine."""
    from hear_audiomamba.ops.backends import find_backend

    module = find_backend("selective_scan", None, torch.ones(1), 16)
    return {"chunked": "torch"}.get(name := module.__name__.rpartition(".")[2], name)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--sides", nargs="+", choices=list(NAMES), default=list(NAMES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--seconds", type=float, default=8.0, help="repeat a point for about this long")
    parser.add_argument(
        "--time-limit", type=float, default=200.0, help="seconds after which a point is given up"
    )
    parser.add_argument(
        "--memory-gib", type=float, default=10.0, help="memory after which a point is given up"
    )
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--plot", type=Path, default=None)
    parser.add_argument(
        "--render", action="store_true", help="measure nothing, show what the JSON file holds"
    )
    parser.add_argument("--point", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.point:
        side, length = args.point
        print(json.dumps(measure(side, int(length), args)))
        return

    torch.set_num_threads(args.threads)
    kept = json.loads(args.json.read_text()) if args.json and args.json.is_file() else {"points": []}
    points = {(p["side"], p["length"]): p for p in kept["points"]}
    result = kept
    if not args.render:
        check_agreement()
        result = {
            "backend": backend_in_use(), "clock": args.clock, "depths": DEPTHS, "width": WIDTH, "heads": HEADS,
            "limits": {"memory_gib": args.memory_gib, "time_limit_seconds": args.time_limit},
        }  # fmt: skip
        for length in args.lengths:
            for side in args.sides:
                points[side, length] = measure_apart(side, length, args)
                print(points[side, length], file=sys.stderr, flush=True)
                write(args.json, result | {"points": list(points.values())})
    print(table(list(points.values())))
    where = kept.get("machine") or machine()
    clock = "wall" if result["clock"] == "wall" else "processor"
    threads = "1 thread" if where["threads"] == 1 else f"{where['threads']} threads"
    about = f"{where['processor'].strip()}, {threads}, {clock} time, float32, batch 1"
    print(f"\nscan backend {result['backend']!r}; {about}; growth of time from each length to the next:")
    for side in NAMES:
        own = sorted(
            (p for (s, _), p in points.items() if s == side and "seconds" in p), key=lambda p: p["length"]
        )
        powers = [
            f"{math.log(b['seconds'] / a['seconds']) / math.log(b['length'] / a['length']):.2f}"
            for a, b in itertools.pairwise(own)
        ]
        print(f"{NAMES[side]}: L to the power of {', '.join(powers)}")
    if args.plot:
        plot(list(points.values()), args.plot, about)


if __name__ == "__main__":
    main()
