"""Decoding in processes of their own: in order, a bounded stretch ahead, and safe from crashes."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from ..errors import AudioReadError
from .decode import Block, DecodeSettings, decode_source
from .sources import Source

# How far each process runs ahead of the model: sources asked for, and decoded blocks kept here.
SOURCES_AHEAD = 16
BLOCKS_AHEAD = 24


class Failure(str):
    """Why a source cannot be embedded: stands in place of its remaining blocks."""


def decode_all(
    sources: Iterable[Source], settings: DecodeSettings, n_workers: int
) -> Iterator[tuple[Source, Iterator[Block | Failure]]]:
    """Decode sources in their order.

    Args:
        sources: what to decode; taken from the iterable only a little ahead of need.
        settings: how.
        n_workers: decoding processes; 0 decodes here, while the caller waits.

    Yields:
        Each source with its blocks. A failure ends a source's blocks; the sources behind it go on, also
        when the decoder crashed. Blocks not consumed are skipped.
    """
    if n_workers == 0:
        for source in sources:
            yield source, _decode_here(source, settings)
        return
    waiting = iter(sources)
    workers = [_Worker(settings) for _ in range(n_workers)]
    turn: deque[tuple[Source, _Worker]] = deque()
    try:
        for index, source in enumerate(islice(waiting, n_workers * SOURCES_AHEAD)):
            turn.append((source, workers[index % n_workers]))
            workers[index % n_workers].ask(source)
        while turn:
            source, worker = turn.popleft()
            blocks = worker.blocks()
            yield source, blocks
            for _ in blocks:
                pass
            for following in islice(waiting, 1):
                turn.append((following, worker))
                worker.ask(following)
    finally:
        for worker in workers:
            worker.stop()


def default_workers(device_type: str, n_sources: int) -> int:
    """Return how many decoding processes suit: none for a handful of files, else by cores and device."""
    if n_sources < 24:  # starting a process takes longer than decoding so few
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # On the CPU the model wants the cores itself, and one process decodes faster than it can embed.
    return 1 if device_type == "cpu" else max(1, min(16, cores - 1))


def _decode_here(source: Source, settings: DecodeSettings) -> Iterator[Block | Failure]:
    try:
        yield from decode_source(source, settings)
    except AudioReadError as error:
        yield Failure(error)


class _Worker:
    """One decoding process, the pipe to it, and the thread that empties the pipe."""

    def __init__(self, settings: DecodeSettings) -> None:
        self._settings = settings
        self._asked: deque[Source] = deque()
        self._start()

    def ask(self, source: Source) -> None:
        self._asked.append(source)
        self._send(source)

    def blocks(self) -> Iterator[Block | Failure]:
        """The blocks of the source asked for first."""
        while True:
            message = self._ready.get()
            if isinstance(message, Block):
                yield message
                continue
            source = self._asked.popleft()
            if isinstance(message, _Died):
                yield Failure(f"{source.label}: the decoder died on it ({self._how_it_died()})")
                self._restart()
            elif isinstance(message, Failure):
                yield message
            return

    def stop(self) -> None:
        self._stopping.set()
        self._process.terminate()
        self._process.wait()
        # The process's death ends the thread's reading; a pipe closed under its hands would fail there.
        self._thread.join()
        self._pipe.close()

    def _start(self) -> None:
        # A plain interpreter and not multiprocessing: that forks torch's threads and locks in whatever
        # state they are, or runs the user's main script a second time.
        self._pipe, far_end = Pipe()
        roots = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(far_end.fileno())],
            pass_fds=[far_end.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, roots))},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # the MP3 decoder writes its doubts there
            start_new_session=True,  # an interrupt is the parent's to handle
        )  # fmt: skip
        far_end.close()  # so that the process's death ends the pipe
        self._pipe.send(self._settings)
        self._ready: queue.Queue = queue.Queue(BLOCKS_AHEAD)
        self._stopping = threading.Event()
        args = (self._pipe, self._ready, self._stopping)
        self._thread = threading.Thread(target=_collect, args=args, name="decoded blocks", daemon=True)
        self._thread.start()

    def _restart(self) -> None:
        self.stop()
        self._start()
        for source in self._asked:
            self._send(source)

    def _send(self, source: Source) -> None:
        with suppress(OSError):  # it died; `blocks` will come upon that and start another
            self._pipe.send(source)

    def _how_it_died(self) -> str:
        code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit status {code}"


class _Died:
    """The end of the pipe."""


def _collect(pipe: Connection, ready: queue.Queue, stopping: threading.Event) -> None:
    while True:
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            message = _Died()
        while not stopping.is_set():
            try:
                ready.put(message, timeout=0.5)
                break
            except queue.Full:
                continue
        if stopping.is_set() or isinstance(message, _Died):
            return


def _serve(pipe: Connection) -> None:
    """The process's work: sources in, blocks out, None behind each source."""
    try:
        settings = pipe.recv()
        while True:
            source = pipe.recv()
            try:
                for message in _decode_here(source, settings):
                    pipe.send(message)
                if not isinstance(message, Failure):
                    pipe.send(None)
            except (EOFError, OSError):
                raise
            except Exception as error:  # a decoder outlives any file
                pipe.send(Failure(f"{source.label}: {type(error).__name__}: {error}"))
    except (EOFError, OSError):  # the parent is gone or stops
        return


if __name__ == "__main__":
    # Under the module's own name, so that what is pickled here is known there.
    from . import workers

    workers._serve(Connection(int(sys.argv[1])))
