"""Child processes of a study: started with a log, ended with their parent."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import DataError, OutputError
from ..io.files import read_json, write_json

EXIT_VARIABLE = "AUDIOMAMBA_EXIT_WITH_PARENT"
PROGRESS_VARIABLE = "AUDIOMAMBA_PROGRESS_FILE"
_PROGRESS_SECONDS = 1.0
_LEAST_FREE = 2**16

# Steps of training allocate and free the same few megabytes over and over. By default the C library hands such blocks
# back to the system each time and the next step pays for fresh pages: 30 % of the time of small models.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**26),
}


def exit_with_parent() -> None:
    """End this process when its parent is gone, if the parent asked for it.

    A study that is killed cannot end its children; without this they would continue for hours.
    """
    if os.environ.get(EXIT_VARIABLE) != "1":
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


_told = 0.0


def tell_progress(done: int, of: int, unit: str) -> None:
    """Say how far this process is, in the file that its parent named, at most once a second.

    Args:
        done: how many are done.
        of: how many there are.
        unit: what is counted, in the plural.
    """
    global _told
    path = os.environ.get(PROGRESS_VARIABLE)
    if path and (done == of or time.monotonic() - _told >= _PROGRESS_SECONDS):
        _told = time.monotonic()
        with suppress(OutputError):  # on a full disk, what was computed for hours matters more than this
            write_json(path, {"done": done, "of": of, "unit": unit})


def read_progress(path: Path) -> tuple[int, int, str] | None:
    """Return what `tell_progress` last said (done, of, unit), or None before it said anything."""
    try:
        said = read_json(path)
        return int(said["done"]), int(said["of"]), str(said["unit"])
    except (DataError, KeyError, ValueError, TypeError):
        return None


class Children:
    """The processes that a study has running, so that they can be ended together."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._ended = False

    def run(
        self, command: Sequence[str], *, log: Path, cwd: Path, env: Mapping[str, str], threads: int
    ) -> int:
        """Run a command to its end.

        Args:
            command: program and arguments.
            log: file that takes its output.
            cwd: working folder.
            env: variables besides those of this process.
            threads: CPU threads it may use.

        Returns:
            Its exit status; -SIGTERM when the study was ended.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        values = {**os.environ, "OMP_NUM_THREADS": str(threads), EXIT_VARIABLE: "1", **env}
        with log.open("ab") as output:
            with self._lock:
                if self._ended:
                    return -signal.SIGTERM
                process = subprocess.Popen(
                    command,
                    cwd=cwd,
                    env=values,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                self._running.add(process)
            try:
                return process.wait()
            finally:
                with self._lock:
                    self._running.discard(process)

    @property
    def ended(self) -> bool:
        """Whether `end` was called."""
        return self._ended

    def end(self) -> None:
        """End all running processes, and let no new one start."""
        with self._lock:
            self._ended = True
            for process in self._running:
                os.killpg(process.pid, signal.SIGTERM)


def log_tail(log: Path) -> str:
    """Return the last line of a log that says something, or that the disk is full, for a message."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
    except OSError:
        return "no log"
    said = [line.strip() for line in lines if line.strip()]
    if said:
        return said[-1][:300]
    # A full disk takes neither what the process made nor its word on why it ended.
    full = shutil.disk_usage(log.parent).free < _LEAST_FREE
    return f"no space left on the disk of {log.parent}" if full else "the log is empty"
