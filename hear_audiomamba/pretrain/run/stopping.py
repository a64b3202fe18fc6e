"""When a run stops before its last step: a signal of the system, the end of its time, or another process."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator

from ...io.process import end_signals
from . import distributed


class StopRequest:
    """Whether a run is to stop after its current step, and why.

    Args:
        max_seconds: from now on; None for as long as it takes.

    Attributes:
        reason: what asked for it; None as long as nothing did.
    """

    def __init__(self, max_seconds: float | None) -> None:
        self.reason: str | None = None
        self._ends = None if max_seconds is None else time.monotonic() + max_seconds

    def asked(self) -> bool:
        """Tell whether to stop, the same in every process."""
        if self._ends is not None and time.monotonic() >= self._ends:
            self.reason = self.reason or "run.max_seconds"
        if distributed.any_true(self.reason is not None):
            self.reason = self.reason or "another process was stopped"
        return self.reason is not None

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Take SIGINT, SIGTERM and SIGHUP as requests, within the context, unless they are ignored."""
        before = {}
        with contextlib.suppress(ValueError):  # not in the main thread, where signals do not arrive
            for number in (signal.SIGINT, *end_signals()):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    before[number] = signal.signal(number, self._take)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take(self, number: int, frame: object) -> None:
        if self.reason is not None:
            raise KeyboardInterrupt  # asked twice: at once
        self.reason = signal.Signals(number).name
