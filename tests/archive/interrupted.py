"""Runs that are killed or run out of space, each in a child of this process; `test_interrupted.py` starts it.

A child counts the calls of functions in `hear_audiomamba/archive` and stops itself at one of them, chosen by
a seed: so every run of the test stops at the same places, and they may lie anywhere.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from hear_audiomamba import load_model
from hear_audiomamba.archive import keeper, windows
from hear_audiomamba.archive.options import EmbedOptions
from hear_audiomamba.archive.run import Resources, embed_sources
from hear_audiomamba.archive.sources import find_sources
from hear_audiomamba.errors import DataError
from tests.archive.conftest import TINY, digest_tree

ENGINE = f"{os.sep}hear_audiomamba{os.sep}archive{os.sep}"


def main(archive: Path, work: Path, format: str, first_seed: int, count: int) -> dict[str, object]:
    """Return how many runs were stopped, and which of them did not end as an undisturbed run."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    # Units are taken up again in their middle: a border every two windows, put on record at once.
    model = load_model(**TINY, max_batch_windows=2)
    windows.WindowBatcher.LEAST_AHEAD, windows.WindowBatcher.BATCHES_AHEAD = 2, 1
    keeper.KEEP_SECONDS = 0.0
    sources = find_sources([archive])
    options = EmbedOptions(timestamps=True, format=format, shard_sources=9)

    def embed(out: Path) -> None:
        embed_sources(sources, model, out, options, Resources(workers=0))

    calls = Counter()
    with calls:
        embed(work / "clean")
    clean = digest_tree(work / "clean")
    killed, different, visible = 0, [], []
    for seed in range(first_seed, first_seed + count):
        out = work / f"killed-{seed}"
        stop_at = random.Random(seed).randrange(1, calls.total)
        killed += in_child(partial(Counter(stop_at, suicide).run, embed, out)) == -signal.SIGKILL
        visible += [f"{seed}: {name}" for name in shown(out) if digest_tree(out)[name] != clean.get(name)]
        in_child(partial(embed, out))
        if digest_tree(out) != clean:
            different.append(seed)
        shutil.rmtree(out)
    full, message = fill_disk(embed, work / "full", clean)
    return {"killed": killed, "different": different, "visible": visible, "full": full, "message": message}


def fill_disk(embed: Callable[[Path], None], out: Path, clean: dict[str, str]) -> tuple[bool, str]:
    """Let every file that grows beyond a few kilobytes fail, then go on with room enough."""

    def without_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))
        try:
            embed(out)
        except DataError as error:
            (out / "summary-message").write_text(str(error))
            raise

    status = in_child(without_room)
    message = (out / "summary-message").read_text()
    (out / "summary-message").unlink()
    unfinished = [name for name in shown(out) if digest_tree(out)[name] != clean.get(name)]
    in_child(lambda: embed(out))
    return status == 1 and not unfinished and digest_tree(out) == clean, message


def shown(out: Path) -> list[str]:
    """Names of results, not of the journal."""
    return [name for name in digest_tree(out) if not name.startswith(".")] if out.exists() else []


class Counter:
    """Counts the engine's calls, and at one of them acts."""

    def __init__(self, stop_at: int = -1, act: Callable[[], None] | None = None) -> None:
        self.total, self._stop_at, self._act = 0, stop_at, act

    def __enter__(self) -> Counter:
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)

    def run(self, function: Callable[[Path], None], out: Path) -> None:
        with self:
            function(out)

    def _profile(self, frame, event: str, argument: object) -> None:
        # Calls of C functions count too: what renames, writes and syncs files are such.
        if event in ("call", "c_call", "c_return") and ENGINE in frame.f_code.co_filename:
            self.total += 1
            if self.total == self._stop_at:
                self._act()


def suicide() -> None:
    """Die as the kernel's out-of-memory killer would have it."""
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(function: Callable[[], None]) -> int:
    """Run a function in a forked child; return its exit status, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function()
            status = 0
        except DataError:
            pass
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    print(
        json.dumps(
            main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
        )
    )
