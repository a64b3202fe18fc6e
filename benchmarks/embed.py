"""Embedding speed: SSAM against the published code's CPU path and against SSAST with fused attention.

    python benchmarks/embed.py [--threads 2] [--json results.json] [--sizes tiny base] [--rounds 7]
                               [--precisions float32 bfloat16] [--no-published]
    python benchmarks/embed.py --all [--sizes tiny]

Each table row is one size, precision, batch and window length; all sides embed the same audio in turn, and
every block of every side is computed (`models.py`). A row "trained depth" is the bundled model, which runs
the blocks that are trained and no others. "published" is the same model computed as the authors' code does
without a GPU (`published.py`). The bound is the time of the four matrix products and the scan of a block, each
measured alone in the same run on that very shape, times the number of blocks.

With --all the table has every registered variant of the sizes instead, on clips of 2 s with default
windows, each in turn with the SSAST of the SSAM paper of the same size.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
import warnings

import torch
from models import whole_model
from published import published_path
from timing import ratio, spread, take_turns, write

from hear_audiomamba import list_models, load_model, model_info
from hear_audiomamba.io.process import keep_freed_memory
from hear_audiomamba.models.registry import SIZES
from hear_audiomamba.ops import linear, selective_scan

CASES = [(1, 2.0), (8, 2.0), (1, 10.0), (1, 50.0)]  # batch, window seconds: 251, 251, 1,251 and 6,251 tokens
LIMITS = {"float32": 1e-4, "bfloat16": 3e-2}  # of agreement with the published path in float32
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def bound(mixer, batch: int, tokens: int, dtype: torch.dtype, clock) -> dict[str, float]:
    """Return the least seconds of one block's products and of its scan, each measured alone."""
    inner, states = mixer.d_inner, mixer.d_state
    projected = mixer.dt_rank + 2 * states
    shapes = [(mixer.in_proj.in_features, 2 * inner), (inner, projected), (mixer.dt_rank, inner)]
    shapes.append((inner, mixer.in_proj.in_features))
    sides = {}
    for size, out in shapes:
        x = torch.randn(batch * tokens, size).to(dtype)
        weight = torch.nn.Parameter(torch.randn(out, size).to(dtype))
        sides[f"{size}-{out}"] = functools.partial(linear, x, weight)
    u, delta, z = (torch.randn(batch, tokens, inner).to(dtype) for _ in range(3))
    weights = torch.randn(batch, tokens, projected).to(dtype)
    b, c = weights[..., mixer.dt_rank : -states], weights[..., -states:]
    a, d = -torch.rand(inner, states) * 8, torch.randn(inner)
    sides["scan"] = functools.partial(selective_scan, u, delta, a, b, c, d, z, d, True)
    with torch.no_grad():
        times = take_turns(sides, rounds=9, warmup=2, clock=clock)
    median = {name: statistics.median(values) for name, values in times.items()}
    return {"products": sum(v for k, v in median.items() if k != "scan"), "scan": median["scan"]}


def case(size: str, precision: str, batch: int, seconds: float, rounds: int, published: bool, clock) -> dict:
    """Measure one row of the table."""
    options = {"window_seconds": seconds, "precision": precision}
    ours, transformer = whole_model(f"ssam_{size}", **options), whole_model(f"ssast_{size}", **options)
    exact = ours if precision == "float32" else whole_model(f"ssam_{size}", window_seconds=seconds)
    audio = torch.rand(batch, round(seconds * 16000)) - 0.5

    def slow() -> torch.Tensor:
        with published_path():
            return exact.scene(audio)

    # A minute of audio holds gigabytes of states on the published path: agreement is checked on two seconds.
    part = audio[:1, : 2 * 16000]
    with published_path():
        expected = exact.scene(part)
    gap = ((ours.scene(part) - expected).norm() / expected.norm()).item()
    assert gap < LIMITS[precision], f"the two scans disagree: {gap:.2e}"
    sides = {"ours": lambda: ours.scene(audio), "ssast": lambda: transformer.scene(audio)}
    if size == "tiny" and seconds == 2.0 and precision == "float32":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trained = load_model(variant=f"ssam_{size}", device="cpu", **options)
        sides["trained depth"] = lambda: trained.scene(audio)
    if published and precision == "float32":
        sides["published"] = slow
    times = take_turns(sides, rounds, clock=clock, few={"published": rounds if seconds <= 2 else 1})
    encoder = ours.encoder
    mixer = encoder.blocks[0].mixer
    tokens = 1 + round(seconds * 25) * encoder.n_freq
    least = bound(mixer, batch, tokens, mixer.in_proj.weight.dtype, clock)
    median = {name: statistics.median(values) for name, values in times.items()}
    return {
        "size": size, "precision": precision, "batch": batch, "tokens": tokens, "gap": gap,
        "seconds": times, "block_bound": least,
        "realtime": {name: batch * seconds / value for name, value in median.items()},
        "vs_published": ratio(times["published"], times["ours"]) if "published" in times else None,
        "vs_ssast": ratio(times["ssast"], times["ours"]),
        "of_bound": median["ours"] / (encoder.depth * sum(least.values())),
        "scan_share_of_bound": least["scan"] / sum(least.values()),
    }  # fmt: skip


def survey(name: str, size: str, rounds: int) -> dict:
    """Measure one variant in turn with the SSAST of its size, clips of 2 s one by one and in eights."""
    model, transformer = whole_model(name), whole_model(f"ssast_{size}")
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
    parser.add_argument("--precisions", nargs="+", default=["float32"], choices=sorted(LIMITS))
    parser.add_argument("--seconds", nargs="+", type=float, default=[2.0, 10.0, 50.0], help="of a window")
    parser.add_argument("--no-published", action="store_true", help="leave the slow side out")
    parser.add_argument("--keep-memory", action="store_true", help="reuse memory, as the command line does")
    parser.add_argument(
        "--clock", default="wall", choices=sorted(CLOCKS), help="cpu: a busy machine, one thread"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--all", action="store_true", help="every variant of the sizes, in one table")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.keep_memory:
        keep_freed_memory()
    if args.all:
        write(args.json, {"rows": survey_all(args.sizes, args.rounds)})
        return
    print(
        "| model | precision | clips | tokens | × real time | vs published code | vs SSAST, fused attention "
        "| × its bound | scan in the bound |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    rows = []
    for size in args.sizes:
        cases = CASES if size == "tiny" else CASES[:2]
        for batch, seconds in (c for c in cases if c[1] in args.seconds):
            for precision in args.precisions:
                published = not args.no_published
                clock = CLOCKS[args.clock]
                row = case(size, precision, batch, seconds, args.rounds, published, clock)
                rows.append(row)
                print(_line(f"ssam_{size}", row), flush=True)
                if "trained depth" in row["realtime"]:
                    trained = f"| ssam_{size}, trained depth | {precision} | {batch} | {row['tokens']:,} "
                    print(f"{trained}| {row['realtime']['trained depth']:.0f} | – | – | – | – |", flush=True)
    write(args.json, {"clock": args.clock, "keep_memory": args.keep_memory, "rows": rows})


def _line(name: str, row: dict) -> str:
    cells = [
        name,
        row["precision"],
        str(row["batch"]),
        f"{row['tokens']:,}",
        f"{row['realtime']['ours']:.0f}",
    ]
    cells.append(spread(row["vs_published"], 1) if row["vs_published"] else "–")
    cells += [spread(row["vs_ssast"], 2), f"{row['of_bound']:.2f}", f"{row['scan_share_of_bound']:.0%}"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
