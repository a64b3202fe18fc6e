"""How far a run is, on standard error."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING

from ..errors import counted

if TYPE_CHECKING:
    from ..archive.progress import Progress

_REDRAWS_A_SECOND = 5
_SECONDS_A_LINE = 60.0


class ProgressLine:
    """Shows the state of a run on standard error: files, hours of audio, × real time, time left.

    On a terminal it is one line that is drawn again and again; elsewhere, as in the log of a batch job,
    a line a minute. Files that cannot be read are shown immediately in both cases.

    Args:
        quiet: show only files that cannot be read.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._on_terminal = sys.stderr.isatty()
        self._drawn = False
        self._shown_at = time.monotonic()

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *error: object) -> None:
        self._clear()

    def update(self, progress: Progress) -> None:
        """Show where a run is."""
        if progress.error:
            self._clear()
            # A file's name may hold a line break.
            print("hear-audiomamba: error:", *progress.error.splitlines(), file=sys.stderr, flush=True)
        self.say(describe(progress))

    def say(self, text: str) -> None:
        """Show some words, unless others have been shown a moment ago."""
        every = 1 / _REDRAWS_A_SECOND if self._on_terminal else _SECONDS_A_LINE
        now = time.monotonic()
        if self._quiet or now - self._shown_at < every:
            return
        self._shown_at = now
        if self._on_terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{text[:width]:{width}}", end="", file=sys.stderr, flush=True)
            self._drawn = True
        else:
            print(f"hear-audiomamba: {text}", file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self._drawn:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{'':{width}}\r", end="", file=sys.stderr, flush=True)
            self._drawn = False


def describe(progress: Progress) -> str:
    """Return the state of a run in words."""
    text = (
        f"{progress.n_done}/{counted(progress.n_sources, 'file')}, {length(progress.audio_seconds)} of audio, "
        f"{progress.times_real_time:.0f} × real time"
    )
    left = progress.seconds_left
    return text if left is None else f"{text}, {length(left)} left"


def length(seconds: float) -> str:
    """Return a length of time in the unit that suits it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.2f} h"
