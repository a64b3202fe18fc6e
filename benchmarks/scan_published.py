"""The scan against the published code's CPU path, forward and with gradients, at SSAM-tiny's shape.

    python benchmarks/scan_published.py [--threads 2] [--keep-memory] [--json results.json]

`--keep-memory` lets both sides reuse large blocks of memory (`hear_audiomamba.io.process`), which helps the
published path most: it makes `(B, D, L, N)` tensors.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from published import published_scan
from timing import ratio, take_turns, write

from hear_audiomamba.io.process import keep_freed_memory
from hear_audiomamba.ops import selective_scan

LENGTH, CHANNELS, STATES = 251, 576, 24


def case(batch: int) -> list[dict]:
    """Measure one batch size; the two sides must agree to 1e-3 at outputs of order ten."""
    torch.manual_seed(0)
    u, delta, z = (torch.randn(batch, LENGTH, CHANNELS) for _ in range(3))
    rates = -torch.rand(CHANNELS, STATES) * 8 - 0.1
    b, c = torch.randn(batch, LENGTH, STATES), torch.randn(batch, LENGTH, STATES)
    skip, bias = torch.randn(CHANNELS), torch.randn(CHANNELS)
    last = [u, delta - 2, rates, b, c, skip, z, bias]
    first = [t.transpose(1, 2).contiguous() if t.ndim == 3 else t.clone() for t in last]
    rows = []
    with torch.no_grad():
        gap = (selective_scan(*last, True) - published_scan(*first).transpose(1, 2)).abs().max().item()
        assert gap < 1e-3, f"the two scans disagree by {gap:.1e}"
        sides = {"ours": lambda: selective_scan(*last, True), "published": lambda: published_scan(*first)}
        rows.append(_row("forward", batch, take_turns(sides, 7, 2)))
    for tensor in last + first:
        tensor.requires_grad_()
    sides = {
        "ours": lambda: selective_scan(*last, True).sum().backward(),
        "published": lambda: published_scan(*first).sum().backward(),
    }
    rows.append(_row("training", batch, take_turns(sides, 5, 1)))
    return rows


def _row(kind: str, batch: int, times: dict[str, list[float]]) -> dict:
    seconds = statistics.median(times["ours"])
    return {
        "pass": kind,
        "batch": batch,
        "ms": 1e3 * seconds,
        "ns_an_update": 1e9 * seconds / (batch * LENGTH * CHANNELS * STATES),
        "vs_published": ratio(times["published"], times["ours"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep-memory", action="store_true")
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.keep_memory:
        keep_freed_memory()
    rows = [row for batch in (1, 8) for row in case(batch)]
    print("| batch | pass | ms | ns an update | × the published path |\n|---|---|---|---|---|")
    for row in rows:
        pairs = row["vs_published"]
        spread = f"{pairs['median']:.0f} ({pairs['min']:.0f}–{pairs['max']:.0f})"
        print(f"| {row['batch']} | {row['pass']} | {row['ms']:.2f} | {row['ns_an_update']:.3f} | {spread} |")
    write(args.json, {"keep_memory": args.keep_memory, "rows": rows})


if __name__ == "__main__":
    main()
