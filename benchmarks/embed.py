"""Embedding speed: SSAM against the published code's CPU path and against SSAST with fused attention.

    python benchmarks/embed.py [--threads 2] [--json results.json] [--sizes tiny base] [--rounds 5]
    python benchmarks/embed.py --all [--sizes tiny]

Each table row is one size, batch and window length; all sides embed the same audio in turn. "published"
is the same model computed as the authors' code does without a GPU (`published.py`). The
bound is the time its matrix products and its scan would take at the rates measured in the same run.

With --all the table has every registered variant of the sizes instead, on clips of 2 s with default
windows, each in turn with the SSAST of the SSAM paper of the same size.
"""

from __future__ import annotations

import argparse
import statistics
import warnings

import torch
from published import published_path
from timing import matmul_rate, ratio, take_turns, write

from hear_audiomamba import list_models, load_model, model_info
from hear_audiomamba.models.flops import count_flops
from hear_audiomamba.models.registry import SIZES
from hear_audiomamba.ops import selective_scan
from hear_audiomamba.ops.memory import keep_freed_memory

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


def bound(model, batch: int, seconds: float, scan_seconds: float, matmul: float) -> float:
    """Return the least seconds a forward pass needs: matrix products and scan, nothing else."""
    products = count_flops(model.config, seconds, window_seconds=seconds).products
    return batch * products / matmul + scan_seconds


def case(size: str, batch: int, seconds: float, rounds: int, matmul: float) -> dict:
    """Measure one row of the table."""
    options = {"window_seconds": seconds, "device": "cpu"}
    ours = load_model(variant=f"ssam_{size}", **options)

    def published() -> torch.Tensor:
        with published_path():
            return ours.scene(audio)

    transformer = load_model(variant=f"ssast_{size}", **options)
    audio = torch.rand(batch, round(seconds * 16000)) - 0.5
    expected = published()
    gap = (ours.scene(audio) - expected).norm() / expected.norm()
    assert gap < 1e-4, f"the two scans disagree: {gap:.2e}"
    times = take_turns({"ours": lambda: ours.scene(audio), "ssast": lambda: transformer.scene(audio)}, rounds)
    slow_rounds = 3 if seconds <= 10 else 1
    times |= take_turns({"published": published}, slow_rounds, warmup=0)
    encoder = ours.encoder
    tokens = 1 + round(seconds * 25) * encoder.n_freq
    inner = encoder.config.expand * encoder.embed_dim
    updates = batch * tokens * inner * encoder.config.d_state * encoder.depth
    scan_seconds = updates / scan_rate(inner, encoder.config.d_state, tokens, batch)
    least = bound(ours, batch, seconds, scan_seconds, matmul)
    median = {name: statistics.median(values) for name, values in times.items()}
    return {
        "size": size, "batch": batch, "tokens": tokens,
        "realtime": {name: batch * seconds / value for name, value in median.items()},
        "vs_published": ratio(times["published"], times["ours"]),
        "vs_ssast": ratio(times["ssast"], times["ours"]),
        "of_bound": median["ours"] / least,
    }  # fmt: skip


def survey(name: str, size: str, rounds: int) -> dict:
    """Measure one variant in turn with the SSAST of its size, clips of 2 s one by one and in eights."""
    model = load_model(variant=name, device="cpu")
    transformer = load_model(variant=f"ssast_{size}", device="cpu")
    row = {
        "model": name,
        "parameters": model_info(name)["encoder_parameters"],
        "k": model.scene_embedding_size,
    }
    for batch in (1, 8):
        audio = torch.rand(batch, 32000) - 0.5
        sides = {
            "ours": lambda audio=audio: model.scene(audio),
            "ssast": lambda audio=audio: transformer.scene(audio),
        }
        times = take_turns(sides, rounds)
        row[f"realtime_{batch}"] = batch * 2.0 / statistics.median(times["ours"])
        row[f"vs_ssast_{batch}"] = ratio(times["ssast"], times["ours"])
    return row


def survey_all(sizes: list[str], rounds: int) -> list[dict]:
    """Print and return the table of all variants of some sizes."""
    print(
        "| model | parameters | K | × real time, 1 clip | 8 clips | vs SSAST of its size, 1 clip | 8 clips |"
    )
    print("|---|---|---|---|---|---|---|")
    rows = []
    for name in list_models():
        size = next((size for size in SIZES if f"_{size}" in name), None)
        if size not in sizes:
            continue
        row = survey(name, size, rounds)
        rows.append(row)
        cells = [f"{row[f'realtime_{batch}']:.0f}" for batch in (1, 8)]
        for batch in (1, 8):
            other = row[f"vs_ssast_{batch}"]
            cells.append(f"{other['median']:.2f} ({other['min']:.2f}–{other['max']:.2f})")
        print(
            f"| {name} | {row['parameters'] / 1e6:.1f} M | {row['k']:,} | {' | '.join(cells)} |", flush=True
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json")
    parser.add_argument("--sizes", nargs="+", default=["tiny", "base"], choices=["tiny", "small", "base"])
    parser.add_argument("--keep-memory", action="store_true", help="reuse memory, as the command line does")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--all", action="store_true", help="every variant of the sizes, in one table")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.keep_memory:
        keep_freed_memory()
    warnings.simplefilter("ignore")
    if args.all:
        write(args.json, {"rows": survey_all(args.sizes, args.rounds)})
        return
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
