"""Run the fast predictions engine on a folder of embeddings: one result file a seed, written when it is complete.

python -m hear_audiomamba.evaluate.predictions embeddings/hear_audiomamba/esc50-v2.0.0-full --seeds 42,43 --out results
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

import torch

from ...errors import AudioMambaError
from ...io.files import write_json
from ..child import exit_with_parent, tell_progress
from .engine import Engine
from .protocol import GRID_POINTS, GRIDS, KIT_SEED, PRECISIONS


def main() -> int:
    """Read the arguments, run the seeds, and return the exit status."""
    parser = argparse.ArgumentParser(
        "hear_audiomamba.evaluate.predictions", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folder", type=Path, help="embeddings of one task, from HEAR's embeddings runner")
    parser.add_argument("--out", type=Path, required=True, help="folder for seed-<N>.json")
    parser.add_argument("--seeds", default=str(KIT_SEED), help="comma-separated; 42 is the kit's own")
    parser.add_argument("--grid", choices=GRIDS, default="default")
    parser.add_argument("--grid-points", type=int, default=GRID_POINTS)
    parser.add_argument("--grid-seed", default=str(KIT_SEED), help='of the choice of points, or "seed"')
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="of matrix products in training and validation",
    )
    parser.add_argument(
        "--seeds-together", type=int, help="seeds trained at once (CPU: one a thread; GPU: all)"
    )
    args = parser.parse_args()
    exit_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    seeds = [int(s) for s in args.seeds.split(",")]
    together = args.seeds_together
    if together is None:
        together = len(seeds) if torch.device(args.device).type != "cpu" else 1
    try:
        engine = Engine(
            args.folder,
            grid=args.grid,
            grid_points=args.grid_points,
            grid_seed=None if args.grid_seed == "seed" else int(args.grid_seed),
            device=args.device,
            threads=args.threads,
            precision=args.precision,
        )
        for start in range(0, len(seeds), together):
            began = time.perf_counter()
            group = seeds[start : start + together]

            def progress(done: int, of: int, before: int = start // together) -> None:
                tell_progress(before * of + done, of * -(-len(seeds) // together), "models")

            for seed, report in engine.run(group, progress=progress).items():
                report["seconds"] = (time.perf_counter() - began) / len(group)
                write_json(args.out / f"seed-{seed}.json", report)
    except AudioMambaError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
