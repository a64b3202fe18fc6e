"""Embedding on a machine that other programs use too: what waiting threads do to one another.

    python benchmarks/busy.py [--json results.json] [--rounds 5] [--seconds 1]

Each side is a process of its own that embeds clips of 2 s: two threads that wait as OpenMP does by default,
two that sleep while they wait, as the command line makes them, and one thread. They work in turn, first
without and then beside programs that keep every core busy; the load of the machine at the start of each
state is written down, since "idle" is only as idle as the machine is.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

SIDES = {"spinning": (2, False), "sleeping": (2, True), "one thread": (1, False)}
BATCHES = (1, 8)
SPIN = "while True: pass"


def child(threads: int, seconds: float) -> None:
    """Print, for each line read, the seconds of audio embedded in a second for each number of clips."""
    import torch
    from models import whole_model

    from hear_audiomamba.io.process import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(threads)
    model = whole_model("ssam_tiny")
    clips = {batch: torch.rand(batch, 32000) - 0.5 for batch in BATCHES}
    for _ in sys.stdin:
        rates = {}
        for batch, audio in clips.items():
            model.scene(audio)
            done, start = 0, time.perf_counter()
            while not done or time.perf_counter() - start < seconds:
                model.scene(audio)
                done += 1
            rates[str(batch)] = 2 * batch * done / (time.perf_counter() - start)
        print(json.dumps(rates), flush=True)


def start(threads: int, passive: bool, seconds: float) -> subprocess.Popen[str]:
    """Start one side's process."""
    program = "from hear_audiomamba.io.process import wait_passively; wait_passively();" if passive else ""
    program += f"import busy; busy.child({threads}, {seconds})"
    here = os.path.dirname(os.path.abspath(__file__))
    path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    unset = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")
    env = {k: v for k, v in os.environ.items() if k not in unset} | {"PYTHONPATH": path}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", program], env=env, **pipes)


def turn(side: subprocess.Popen[str]) -> dict[str, float]:
    """Let one side work once."""
    assert side.stdin and side.stdout
    side.stdin.write("\n")
    side.stdin.flush()
    return json.loads(side.stdout.readline())


def state(busy: bool, rounds: int, sides: dict[str, subprocess.Popen[str]]) -> dict:
    """Measure all sides in turn, beside programs that spin if `busy`."""
    result: dict = {"load_before": os.getloadavg()[0], "rates": {name: [] for name in sides}}
    n_others = (os.cpu_count() or 1) if busy else 0
    others = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(n_others)]
    try:
        for _ in range(rounds):
            for name, side in sides.items():
                result["rates"][name].append(turn(side))
    finally:
        for other in others:
            other.kill()
            other.wait()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--json")
    args = parser.parse_args()
    sides = {name: start(*how, args.seconds) for name, how in SIDES.items()}
    for side in sides.values():
        turn(side)
    states = {name: state(name == "busy", args.rounds, sides) for name in ("idle", "busy")}
    for side in sides.values():
        side.communicate()
    print("| threads | clips at once | × real time, idle | busy | busy ÷ idle |\n|---|---|---|---|---|")
    for side in SIDES:
        for batch in map(str, BATCHES):
            idle, busy = ([run[batch] for run in states[s]["rates"][side]] for s in ("idle", "busy"))
            medians = statistics.median(idle), statistics.median(busy)
            spread = [f"{m:.1f} ({min(v):.1f}–{max(v):.1f})" for m, v in zip(medians, (idle, busy))]
            print(f"| {side} | {batch} | {spread[0]} | {spread[1]} | {medians[1] / medians[0]:.2f} |")
    if args.json:
        from timing import write

        write(args.json, {"states": states})


if __name__ == "__main__":
    main()
