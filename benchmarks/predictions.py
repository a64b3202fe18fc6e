"""The fast predictions engine against HEAR's predictions runner: same embeddings, same machine, turn by turn.

    python benchmarks/predictions.py EMBEDDINGS/TASK… [--grid default] [--seeds 3] [--precisions float32 bfloat16]
        [--json results.json]

Each seed is one whole run of the protocol (grid search, folds, test). Every side is a process that has imported
everything before the clock starts; the kit runs with one thread, which is its fastest, the engine with --threads.
Times are of the wall and of the processor: on a machine with other work only the latter can be compared. The scores
of all sides are tabled with the kit's 95 % t-interval over its seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

KIT, PRECISIONS = "kit", ("float32", "bfloat16")


def side_kit(folder: Path, seed: int, grid: str, points: int, grid_seed: int) -> dict:
    """One run of HEAR's predictions runner in this process, in a folder of its own."""
    from heareval.predictions.runner import runner

    from hear_audiomamba.evaluate.heartools import use_seed

    use_seed(seed, grid_seed)
    work = Path(tempfile.mkdtemp())
    task = work / folder.name
    task.mkdir()
    left_behind = ("prediction", "test.predicted-scores.json")
    for file in folder.iterdir():
        if (
            file.is_file()
            and not file.name.startswith(left_behind)
            and not file.name.endswith(".predictions.pkl")
        ):
            (task / file.name).symlink_to(file)
    os.chdir(work)
    runner.callback(task_dirs=[folder.name], grid=grid, grid_points=points, gpus=None)
    return json.loads((task / "test.predicted-scores.json").read_text())


def side_fast(precision: str, folder: Path, seed: int, grid: str, points: int, grid_seed: int) -> dict:
    """One run of the fast engine in this process."""
    from hear_audiomamba.evaluate.predictions.engine import Engine

    engine = Engine(folder, grid=grid, grid_points=points, grid_seed=grid_seed, precision=precision)
    return engine.run([seed])[seed]


def serve(side: str) -> None:
    """Read runs from standard input, do them, and write their results to the descriptor that is kept for them."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    run = side_kit if side == KIT else partial(side_fast, side)
    if side == KIT:
        import heareval.predictions.runner  # noqa: F401  # the import is not part of a run
    else:
        import hear_audiomamba.evaluate.predictions.engine  # noqa: F401
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        request = json.loads(line)
        request["folder"] = Path(request["folder"])
        wall, processor = time.perf_counter(), time.process_time()
        report = run(**request)
        answer = {
            "wall": time.perf_counter() - wall,
            "processor": time.process_time() - processor,
            "report": report,
        }
        answers.write(json.dumps(answer, default=str) + "\n")
        answers.flush()


def start(side: str, threads: int, log: Path) -> subprocess.Popen[str]:
    """Start the process of one side and wait until it has imported everything."""
    from hear_audiomamba.evaluate.child import KEEP_MEMORY
    from hear_audiomamba.evaluate.heartools import heareval_python

    python = heareval_python() if side == KIT else sys.executable
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    if side != KIT:
        environment.update(KEEP_MEMORY)
    process = subprocess.Popen(
        [str(python), "-W", "ignore", __file__, "--side", side],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log.open("w", encoding="utf-8"),
        text=True,
    )
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        sys.exit(f"the {side} side did not start; see {log}")
    return process


def ask(process: subprocess.Popen[str], request: dict) -> dict:
    """Have a side do one run."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        sys.exit("a side ended early; see its log in the temporary folder")
    return json.loads(line)


def task_rows(folder: Path, sides: dict[str, subprocess.Popen[str]], args: argparse.Namespace) -> list[dict]:
    """Run all seeds of a task on all sides in turn; return a row for each precision of the engine."""
    from hear_audiomamba.evaluate.board.aggregate import t_interval

    metadata = json.loads((folder / "task_metadata.json").read_text())
    name = f"test_{metadata['evaluation'][0]}"
    runs: dict[str, list[dict]] = {side: [] for side in sides}
    for seed in range(42, 42 + args.seeds):
        request = {
            "folder": str(folder),
            "seed": seed,
            "grid": args.grid,
            "points": args.points,
            "grid_seed": 42,
        }
        for side, process in sides.items():
            answer = ask(process, request)
            report = answer["report"]
            scores = report["aggregated_scores"] if "aggregated_scores" in report else report["test"]
            score = float(scores[f"{name}_mean" if "aggregated_scores" in report else name])
            runs[side].append(
                {"seed": seed, "wall": answer["wall"], "processor": answer["processor"], "score": score}
            )
    estimates = {side: t_interval([r["score"] for r in runs[side]]) for side in sides}
    half = estimates[KIT].half_width
    rows = []
    for side in list(sides)[1:]:
        row = {
            "task": folder.name,
            "score": name,
            "precision": side,
            "runs": {s: runs[s] for s in (KIT, side)},
        }
        for clock in ("wall", "processor"):
            pairs = [k[clock] / f[clock] for k, f in zip(runs[KIT], runs[side], strict=True)]
            row[f"{clock}_ratio"] = {"median": statistics.median(pairs), "min": min(pairs), "max": max(pairs)}
        row["means"] = {s: estimates[s].mean for s in (KIT, side)}
        row["half_widths"] = {s: estimates[s].half_width for s in (KIT, side)}
        row["in_kit_interval"] = (
            None if half is None else abs(estimates[side].mean - estimates[KIT].mean) <= half
        )
        rows.append(row)
    return rows


def shown(row: dict) -> str:
    """Return one line of the Markdown table."""
    sides = (KIT, row["precision"])
    cells = [row["task"], row["score"].removeprefix("test_"), row["precision"]]
    for side in sides:
        half = row["half_widths"][side]
        cells.append(f"{100 * row['means'][side]:.1f}" + (f" ± {100 * half:.1f}" if half is not None else ""))
    cells.append({True: "yes", False: "no", None: "–"}[row["in_kit_interval"]])
    for side in sides:
        clocks = [statistics.median(r[c] for r in row["runs"][side]) for c in ("wall", "processor")]
        cells.append(" / ".join(f"{value:.1f}" for value in clocks))
    cells += [f"{row[f'{c}_ratio']['median']:.1f}" for c in ("wall", "processor")]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "folders", nargs="*", type=Path, help="folders of HEAR's embeddings runner, one a task"
    )
    parser.add_argument("--grid", default="default")
    parser.add_argument("--points", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the fast engine")
    parser.add_argument(
        "--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS, help="of the engine"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=(KIT, *PRECISIONS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        return serve(args.side)
    from timing import write

    logs = Path(tempfile.mkdtemp())
    sides = {
        side: start(side, 1 if side == KIT else args.threads, logs / f"{side}.log")
        for side in (KIT, *args.precisions)
    }
    print(
        "| task | score | precision | kit | fast | within the kit's interval | kit s | fast s | ratio "
        "| processor ratio |"
    )
    print("| --- | --- | --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |")
    rows: list[dict] = []
    for folder in args.folders:
        found = task_rows(folder.resolve(), sides, args)
        rows += found
        print("\n".join(map(shown, found)), flush=True)
        write(
            args.json, {"grid": args.grid, "points": args.points, "fast_threads": args.threads, "tasks": rows}
        )
    for process in sides.values():
        process.stdin.close()
        process.wait()


if __name__ == "__main__":
    main()
