"""Decoding in processes of their own: in order, a bounded stretch ahead, and safe from crashes.

A decoder is a plain interpreter that runs this module; parent and decoder talk through its standard input
and output. A message is a line of JSON and, for a block, its samples behind it: nothing that a decoder
sends is ever run, whatever a hostile file may have made of it. No descriptors are passed on and nothing is
forked, so that it works the same on every system.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import AudioReadError, one_line
from ..io.cores import available_cores
from ..io.decoders import load_libraries
from .decode import Block, DecodeSettings, decode_source
from .sources import Source

# How far each process runs ahead of the model: sources asked for, and decoded blocks kept here.
SOURCES_AHEAD = 16
BLOCKS_AHEAD = 24


class Failure(str):
    """Why a source cannot be embedded: stands in place of its remaining blocks."""


def decode_all(
    sources: Iterable[Source], settings: DecodeSettings, n_workers: int
) -> Generator[tuple[Source, Iterator[Block | Failure]], None, None]:
    """Decode sources in their order.

    Args:
        sources: what to decode; taken from the iterable only a little ahead of need.
        settings: how.
        n_workers: decoding processes; 0 decodes here, while the caller waits.

    Yields:
        Each source with its blocks. A failure ends a source's blocks; the sources after it continue, also
        when the decoder crashed. Blocks not consumed are skipped. Where the system lets no process start, all
        is decoded here, with a warning.
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
    # On the CPU the model needs the cores itself, and one process decodes faster than it can embed.
    return 1 if device_type == "cpu" else max(1, min(16, available_cores() - 1))


def _decode_here(source: Source, settings: DecodeSettings) -> Iterator[Block | Failure]:
    try:
        yield from decode_source(source, settings)
    except AudioReadError as error:
        yield Failure(error)


class _Worker:
    """One decoding process, and the thread that empties the pipe from it."""

    def __init__(self, settings: DecodeSettings) -> None:
        self._settings = settings
        self._asked: deque[Source] = deque()
        self._process: _Process | None = None
        self._start()

    def ask(self, source: Source) -> None:
        self._asked.append(source)
        if self._process is not None:
            self._process.send({"source": asdict(source)})

    def blocks(self) -> Iterator[Block | Failure]:
        """The blocks of the source asked for first."""
        while self._process is not None:
            message = self._process.ready.get()
            if isinstance(message, Block):
                yield message
                continue
            if message is _Sign.UP:
                self._process.is_up = True
                continue
            if message is _Sign.DIED and not self._process.is_up:  # that is no file's fault
                self._decode_here_from_now_on(self._process.how_it_died())
                break
            source = self._asked.popleft()
            if message is _Sign.DIED:
                yield Failure(f"{source.label}: the decoder died on it ({self._process.how_it_died()})")
                self.stop()
                self._start()
            elif isinstance(message, Failure):
                yield message
            return
        yield from _decode_here(self._asked.popleft(), self._settings)

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def _start(self) -> None:
        try:
            self._process = _Process(self._settings)
        except (OSError, RuntimeError) as error:  # too many processes, or threads
            self._decode_here_from_now_on(one_line(error))
            return
        for source in self._asked:
            self._process.send({"source": asdict(source)})

    def _decode_here_from_now_on(self, reason: str) -> None:
        self.stop()
        self._process = None
        warnings.warn(f"no decoding process can start ({reason}); decoding in this one", stacklevel=2)


class _Process:
    """A decoder that runs.

    Attributes:
        ready: what it has sent.
        is_up: it has said that it can decode.

    Raises:
        OSError, RuntimeError: the system lets no process or thread start.
    """

    def __init__(self, settings: DecodeSettings) -> None:
        # A plain interpreter and not multiprocessing: that forks torch's threads and locks in whatever
        # state they are, or runs the user's main script a second time.
        roots = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        if not sys.executable:  # a program that embeds Python
            raise OSError("this program knows of no Python interpreter")
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            env={**_NO_THREADS, **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, roots))},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the MP3 decoder writes warnings there
            **_APART,
        )  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        self.send(asdict(settings))
        self.ready: queue.Queue[Message] = queue.Queue(BLOCKS_AHEAD)
        self.is_up = False
        self._stopping = threading.Event()
        args = (self._output, self.ready, self._stopping)
        self._thread = threading.Thread(target=_collect, args=args, name="decoded blocks", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._end()
            raise

    def send(self, message: dict[str, Any]) -> None:
        with suppress(OSError):  # it died; `blocks` will find that and start another
            _write(self._input, message)

    def how_it_died(self) -> str:
        code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit status {code}"

    def stop(self) -> None:
        self._stopping.set()
        self._process.terminate()
        self._process.wait()
        # The process's death ends the thread's reading; closing the pipe while it reads would fail.
        self._thread.join()
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._input, self._output):
            with suppress(OSError):  # what was not sent yet has nowhere to go
                pipe.close()


# Decoding needs no threads of the libraries that are imported beside.
_NO_THREADS = {"OPENBLAS_NUM_THREADS": "1"}
# An interrupt at the terminal is the parent's to handle.
_APART: dict[str, Any] = {"start_new_session": True}
if sys.platform == "win32":
    _APART = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}


class _Sign(Enum):
    """What is told of a decoder, besides blocks and failures."""

    UP = "it can decode"
    END = "the source is complete"
    DIED = "it died"


Message = Block | Failure | _Sign


def _collect(pipe: IO[bytes], ready: queue.Queue[Message], stopping: threading.Event) -> None:
    while True:
        try:
            message = _receive(pipe)
        except (EOFError, OSError, ValueError, KeyError, TypeError):
            message = _Sign.DIED
        while not stopping.is_set():
            try:
                ready.put(message, timeout=0.5)
                break
            except queue.Full:
                continue
        if stopping.is_set() or message is _Sign.DIED:
            return


def _receive(pipe: IO[bytes]) -> Message:
    held = _read(pipe)
    if "failure" in held:
        return Failure(held["failure"])
    if "up" in held:
        return _Sign.UP
    if "end" in held:
        return _Sign.END
    samples = np.empty(int(held["samples"]), np.float32)
    if pipe.readinto(samples) != samples.nbytes:  # type: ignore[attr-defined]  # a BufferedReader
        raise EOFError
    return Block(samples, int(held["start"]), bool(held["last"]), str(held["missing"]))


def _write(pipe: IO[bytes], message: dict[str, Any], content: bytes = b"") -> None:
    pipe.write(json.dumps(message).encode() + b"\n" + content)
    pipe.flush()


def _read(pipe: IO[bytes]) -> dict[str, Any]:
    line = pipe.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    held = json.loads(line)
    if not isinstance(held, dict):
        raise ValueError("not a message")
    return held


def serve(asked: IO[bytes], answers: IO[bytes]) -> None:
    """Do a decoder's work: sources in, blocks out, an end behind each source.

    Args:
        asked: settings, then sources.
        answers: first that it is up, then blocks, failures and ends.
    """
    with suppress(EOFError, OSError):  # the parent is gone or stops
        settings = DecodeSettings(**_read(asked))
        load_libraries()
        _write(answers, {"up": True})
        while True:
            source = Source(**_read(asked)["source"])
            try:
                for message in _decode_here(source, settings):
                    if isinstance(message, Failure):
                        _write(answers, {"failure": str(message)})
                        break
                    facts = message._asdict() | {"samples": len(message.samples)}
                    _write(answers, facts, np.ascontiguousarray(message.samples, np.float32).tobytes())
                else:
                    _write(answers, {"end": True})
            except (EOFError, OSError):
                raise
            except Exception as error:  # a decoder outlives any file
                _write(answers, {"failure": f"{source.label}: {type(error).__name__}: {error}"})


def main() -> None:
    """Serve on standard input and output; what libraries print goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
