"""What the verbs on HEAR tasks have in common: their options, and lines that say how far they are."""

from __future__ import annotations

import argparse
import time
from pathlib import Path


def add_folder(parser: argparse.ArgumentParser) -> None:
    """Add the folder of the tasks and the sample rates."""
    parser.add_argument(
        "--tasks-dir", type=Path, default=Path("tasks"), help="folder of the tasks (default: tasks)"
    )
    parser.add_argument(
        "--rates", nargs="+", type=int, default=[16000], metavar="HZ", help="sample rates (default: 16000)"
    )


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Add how many processes resample."""
    parser.add_argument("--jobs", type=_at_least_one, default=1, help="processes that resample (default: 1)")


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: at least one process is needed")
    return number


class StepProgress:
    """Writes a line on each step, and one a few seconds on how far it is."""

    def __init__(self, every: float = 10.0) -> None:
        self.every, self.last = every, time.monotonic()

    def say(self, line: str) -> None:
        """Write a line."""
        print(line, flush=True)
        self.last = time.monotonic()

    def tell(self, what: str, done: int, of: int | None) -> None:
        """Say how far a step is, but not too often."""
        if time.monotonic() - self.last >= self.every:
            self.say(f"  {what}: {done:,}{f' of {of:,} ({100 * done / of:.0f} %)' if of else ''}")
