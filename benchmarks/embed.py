"""Embedding speed: SSAM against the published code's CPU path and against SSAST with fused attention.

    python benchmarks/embed.py [--threads 2] [--json results.json] [--sizes tiny base] [--rounds 5]

Each table row is one size, batch and window length; all sides embed the same audio in turn. "published"
is our model on the sequential reference scan, which is how the authors' code runs without a GPU. The
bound is the time its matrix products and its scan would take at the rates measured in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import warnings

import torch
from timing import matmul_rate, ratio, take_turns, write
from torch.utils.flop_counter import FlopCounterMode

from hear_audiomamba import load_model
from hear_audiomamba.ops import selective_scan

CASES = [(1, 2.0), (8, 2.0), (1, 10.0), (1, 50.0)]  # batch, window seconds: 251, 251, 1,251 and 6,251 tokens


def scan_rate(d_inner: int, d_state: int, length: int, batch: int) -> float:
    """Return state updates a second of the fastest scan, measured on one layer's shape."""
    u, delta, z = (torch.randn(batch, length, d_inner) for _ in range(3))
    a = -torch.rand(d_inner, d_state) * 8
    b, c = torch.randn(batch, length, d_state), torch.randn(batch, length, d_state)
    d = torch.randn(d_inner)

    def scan():
        with torch.no_grad():
            selective_scan(u, delta, a, b, c, d, z, d, True)

    seconds = statistics.median(take_turns({"scan": scan}, rounds=9, warmup=2)["scan"])
    return batch * length * d_inner * d_state / seconds


def bound(model, audio, seconds_of_scan_updates: float, matmul: float) -> float:
    """Return the least seconds a forward pass needs: matrix products and scan, nothing else."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.scene(audio)
    return counter.get_total_flops() / matmul + seconds_of_scan_updates


def case(size: str, batch: int, seconds: float, rounds: int, matmul: float) -> dict:
    """Measure one row of the table."""
    options = {"window_seconds": seconds, "device": "cpu"}
    ours = load_model(variant=f"ssam_{size}", **options)
    published = load_model(variant=f"ssam_{size}", backend="reference", **options)
    transformer = load_model(variant=f"ssast_{size}", **options)
    audio = torch.rand(batch, round(seconds * 16000)) - 0.5
    gap = (ours.scene(audio) - published.scene(audio)).norm() / published.scene(audio).norm()
    assert gap < 1e-4, f"the two scans disagree: {gap:.2e}"
    times = take_turns({"ours": lambda: ours.scene(audio), "ssast": lambda: transformer.scene(audio)}, rounds)
    slow_rounds = 3 if seconds <= 10 else 1
    times |= take_turns({"published": lambda: published.scene(audio)}, slow_rounds, warmup=0)
    encoder = ours.encoder
    tokens = 1 + round(seconds * 25) * encoder.n_freq
    inner = encoder.config.expand * encoder.embed_dim
    updates = batch * tokens * inner * encoder.config.d_state * encoder.depth
    least = bound(ours, audio, updates / scan_rate(inner, encoder.config.d_state, tokens, batch), matmul)
    median = {name: statistics.median(values) for name, values in times.items()}
    return {
        "size": size, "batch": batch, "tokens": tokens,
        "realtime": {name: batch * seconds / value for name, value in median.items()},
        "vs_published": ratio(times["published"], times["ours"]),
        "vs_ssast": ratio(times["ssast"], times["ours"]),
        "of_bound": median["ours"] / least,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json")
    parser.add_argument("--sizes", nargs="+", default=["tiny", "base"], choices=["tiny", "small", "base"])
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    matmul = matmul_rate()
    print(f"matrix products: {matmul / 1e9:.0f} GFLOP/s, {args.threads} threads")
    print(
        "| model | batch | tokens | × real time | vs published code | vs SSAST, fused attention | × its bound |"
    )
    print("|---|---|---|---|---|---|---|")
    rows = []
    for size in args.sizes:
        for batch, seconds in CASES if size == "tiny" else CASES[:2]:
            row = case(size, batch, seconds, args.rounds, matmul)
            rows.append(row)
            slow, other = row["vs_published"], row["vs_ssast"]
            print(
                f"| ssam_{size} | {batch} | {row['tokens']:,} | {row['realtime']['ours']:.0f} "
                f"| {slow['median']:.1f} ({slow['min']:.1f}–{slow['max']:.1f}) "
                f"| {other['median']:.2f} ({other['min']:.2f}–{other['max']:.2f}) | {row['of_bound']:.2f} |",
                flush=True,
            )
    write(args.json, {"matmul_flops": matmul, "rows": rows})


if __name__ == "__main__":
    main()
