"""What bfloat16 changes: embeddings and scores of the bundled models against float32, and how much faster it is.

    PYTHONPATH=benchmarks python benchmarks/precision.py TASKS_DIR [--json results.json]

A distance is that of two scene embeddings of a clip, divided by the length of the one in float32. Scores are those of
`logistic_probe.py` on all tasks with folds. Speed is that of eight clips of 2 s, both sides in turn, processor time of
one thread.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from logistic_probe import embed_clips, read_task, score_rows, task_folders
from timing import ratio, take_turns, write

from hear_audiomamba import load_model

MODELS = ("ssam_tiny", "ssamba_tiny", "hiermamba_nano")
PRECISIONS = ("float32", "bfloat16")
LIMIT = 1e-2  # of a distance


def model_row(variant: str, folders: list[Path], rounds: int) -> dict:
    """Measure one model in both precisions."""
    models = {p: load_model(variant=variant, precision=p, device="cpu") for p in PRECISIONS}
    audio = torch.randn(8, 32_000) * 0.1
    sides = {p: lambda model=model: model.scene(audio) for p, model in models.items()}
    times = take_turns(sides, rounds, 2, time.process_time)
    scores: dict[str, dict[str, float]] = {}
    distances = []
    for folder in folders:
        task = read_task(folder)
        rows = {p: embed_clips(task.clips, model.scene) for p, model in models.items()}
        gaps = (rows["bfloat16"] - rows["float32"]).norm(dim=1) / rows["float32"].norm(dim=1)
        distances.append(gaps)
        scores[folder.name.partition("-")[0]] = {p: round(score_rows(task, rows[p]), 4) for p in PRECISIONS}
    gaps = torch.cat(distances)
    assert gaps.median() < LIMIT, f"{variant}: embeddings in bfloat16 are {gaps.median():.1e} away"
    return {
        "model": variant,
        "clips": len(gaps),
        "distance": {
            "median": float(gaps.median()),
            "p99": float(gaps.quantile(0.99)),
            "max": float(gaps.max()),
        },
        "scores": scores,
        "speed": ratio(times["float32"], times["bfloat16"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks_dir", type=Path, help="folder of unpacked HEAR tasks")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for variant in MODELS:
        found = model_row(variant, task_folders(args.tasks_dir), args.rounds)
        rows.append(found)
        gap, speed = found["distance"], found["speed"]
        print(
            f"{variant}: distance {gap['median']:.1e} (at most {gap['max']:.1e}), {speed['median']:.2f} times as fast"
        )
        for task, scores in found["scores"].items():
            print(
                f"  {task}: {scores['float32']:.3f} in float32, {scores['bfloat16']:.3f} in bfloat16",
                flush=True,
            )
        write(args.json, {"rows": rows})


if __name__ == "__main__":
    main()
