"""Exported models in onnxruntime beside PyTorch: speed, file size, and what eight bits change.

    python benchmarks/exported.py [--threads 1] [--json results.json] [--rounds 5] [--batch 4] [--models NAME …]

Each family's tiny size embeds clips as long as its window, in turn by PyTorch with the compiled scan, by
onnxruntime in float32, and by onnxruntime with weights in eight bits. Processor time, one thread. Weights are
random and every block is computed (`models.py`). The exported files give embeddings only, no classes. The float32
file must agree with PyTorch to 1e-4 of the largest value; of the other one the cosine is given.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from models import whole_model
from timing import ratio, spread, take_turns, write

from hear_audiomamba.adapters.eight_bits import quantise
from hear_audiomamba.adapters.export import export_onnx
from hear_audiomamba.embedding.embedder import AudioEmbedder
from hear_audiomamba.io.process import keep_freed_memory
from hear_audiomamba.onnx_runtime import OnnxEmbedder

MODELS = ("ssam_tiny", "ssamba_tiny", "aum_tiny", "ssast_tiny", "hiermamba_tiny")
AGREEMENT = 1e-4  # of the largest value, float32


def exported(
    model: AudioEmbedder, seconds: float, threads: int, folder: Path
) -> dict[str, tuple[OnnxEmbedder, float]]:
    """Return the exported model in float32 and in eight bits, each with the size of its file in MB."""
    plain = export_onnx(model, folder / "onnx.onnx", seconds=seconds)
    files = {"onnx": plain, "int8": quantise(plain, folder / "int8.onnx")}
    return {
        side: (OnnxEmbedder(path, threads=threads), path.stat().st_size / 1e6) for side, path in files.items()
    }


def cosine(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the least cosine of rows of two matrices."""
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((found * expected).sum(1) / norms).min())


def speed_row(name: str, batch: int, threads: int, rounds: int) -> dict[str, Any]:
    """Measure one family."""
    model = whole_model(name)
    seconds = model.config.window_seconds
    clips = torch.rand(batch, round(seconds * model.sample_rate), generator=torch.Generator().manual_seed(0))
    clips = clips - 0.5
    with tempfile.TemporaryDirectory() as folder:
        files = exported(model, seconds, threads, Path(folder))
        assert not any(session.classes for session, _ in files.values())
        expected = model.scene(clips).numpy()
        plain, eight = (files[side][0].scene(clips.numpy()) for side in ("onnx", "int8"))
        gap = float(np.abs(plain - expected).max() / np.abs(expected).max())
        assert gap < AGREEMENT, f"{name}: onnxruntime differs by {gap:.1e}"
        sides = {"pytorch": functools.partial(model.scene, clips)}
        for side, (session, _) in files.items():
            sides[side] = functools.partial(session.scene, clips.numpy())
        times = take_turns(sides, rounds=rounds, clock=time.process_time)
    audio = batch * seconds
    return {
        "model": name, "classes": False, "batch": batch, "seconds_of_a_clip": seconds, "gap": gap,
        "int8_cosine": cosine(eight, expected), "megabytes": {side: size for side, (_, size) in files.items()},
        "seconds": times,
        "realtime": {side: audio / statistics.median(values) for side, values in times.items()},
        "pytorch_vs_onnx": ratio(times["onnx"], times["pytorch"]),
        "int8_vs_onnx": ratio(times["onnx"], times["int8"]),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="NAME")
    parser.add_argument("--json")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    keep_freed_memory()
    torch.set_num_threads(args.threads)
    found: dict[str, Any] = {"onnxruntime": onnxruntime.__version__, "clock": "cpu"}
    print("| model | PyTorch, × real time | ONNX | ONNX, 8 bits | PyTorch is × faster | MB | MB, 8 bits |")
    print("|---|---|---|---|---|---|---|")
    found["rows"] = []
    for name in args.models:
        row = speed_row(name, args.batch, args.threads, args.rounds)
        found["rows"].append(row)
        rates, sizes = row["realtime"], row["megabytes"]
        print(
            f"| {name} | {rates['pytorch']:.0f} | {rates['onnx']:.0f} | {rates['int8']:.0f} "
            f"| {spread(row['pytorch_vs_onnx'], 1)} | {sizes['onnx']:.0f} | {sizes['int8']:.0f} |",
            flush=True,
        )
        write(args.json, found)


if __name__ == "__main__":
    main()
