"""Embedding speed on a GPU: SSAM-tiny at batch 256 in bfloat16, from waveforms on the GPU to scene embeddings.

    python benchmarks/gpu_embed.py [--json results.json] [--sizes tiny base] [--batch 256]

Sides: our kernels, the same with the encoder compiled by torch.compile, and SSAST of the same size with fused
attention. The bound is the model's matrix products at the rate measured in this run for products as wide as a
block's, plus one exponential a state update at the rate of the special-function units; the share that each
stage takes is printed beside it.
"""

from __future__ import annotations

import argparse
import statistics
import warnings

import torch
from gpu_timing import event_times, exponential_rate, matmul_rate, median_time, need_gpu
from timing import ratio, write

from hear_audiomamba import load_model
from hear_audiomamba.models.flops import count_flops

SECONDS = 2.0


def row(size: str, batch: int, precision: str, rates: dict[str, float], compile_too: bool) -> dict:
    """Measure one size."""
    options = {"device": "cuda", "precision": precision, "max_batch_windows": batch}
    ours = load_model(variant=f"ssam_{size}", **options)
    transformer = load_model(variant=f"ssast_{size}", **options)
    audio = torch.rand(batch, round(SECONDS * ours.sample_rate), device="cuda") - 0.5
    sides = {"ours": lambda: ours.scene(audio), "ssast": lambda: transformer.scene(audio)}
    truth = load_model(variant=f"ssam_{size}", device="cuda", backend="reference").scene(audio[:2])
    gap = ((ours.scene(audio[:2]) - truth).norm() / truth.norm()).item()
    assert gap < (1e-4 if precision == "float32" else 3e-2), f"off the float32 reference by {gap:.2e}"
    if compile_too:
        compiled = load_model(variant=f"ssam_{size}", **options)
        compiled.encoder.compile()
        sides["compiled"] = lambda: compiled.scene(audio)
    with torch.no_grad():
        times = event_times(sides)
        spectrogram = median_time(lambda: ours.features(audio))
    config, encoder = ours.config, ours.encoder
    tokens = 1 + round(SECONDS * 25) * encoder.n_freq
    updates = (
        batch * tokens * encoder.config.expand * encoder.embed_dim * encoder.config.d_state * encoder.depth
    )
    products = batch * count_flops(config, SECONDS).products
    least = products / rates["matmul"] + updates / rates["exponentials"]
    median = {name: statistics.median(values) for name, values in times.items()}
    fastest = min(median[name] for name in ("ours", "compiled") if name in median)
    return {
        "size": size, "batch": batch, "precision": precision, "seconds": median, "spectrogram": spectrogram,
        "realtime": {name: batch * SECONDS / value for name, value in median.items()},
        "vs_ssast": ratio(times["ssast"], times["ours"]), "of_bound": fastest / least, "gap": gap,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json")
    parser.add_argument("--sizes", nargs="+", default=["tiny", "base"], choices=["tiny", "small", "base"])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--precision", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--no-compile", action="store_true")
    args = parser.parse_args()
    need_gpu()
    warnings.simplefilter("ignore")
    rates = {"matmul": matmul_rate(getattr(torch, args.precision)), "exponentials": exponential_rate()}
    print(
        f"{torch.cuda.get_device_name()}: matrix products {rates['matmul'] / 1e12:.0f} TFLOP/s, {args.precision}"
    )
    print("| model | batch | × real time | compiled | SSAST | vs SSAST | × bound | spectrogram's share |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    for size in args.sizes:
        rows.append(found := row(size, args.batch, args.precision, rates, not args.no_compile))
        real = {name: f"{value:,.0f}" for name, value in found["realtime"].items()}
        print(
            f"| ssam_{size} | {args.batch} | {real['ours']} | {real.get('compiled', '–')} | {real['ssast']} "
            f"| {found['vs_ssast']['median']:.2f} | {found['of_bound']:.2f} "
            f"| {found['spectrogram'] / found['seconds']['ours']:.0%} |",
            flush=True,
        )
    write(args.json, {"rates": rates, "rows": rows})


if __name__ == "__main__":
    main()
