"""What a program of ours asks of the system: settings for the command line, not for libraries."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import DataError

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h
_LARGEST = 2**31 - 1


# Of GNU's OpenMP, and of LLVM's and Intel's. A few microseconds of spinning bridge the gaps inside a layer.
_WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}


def wait_passively() -> None:
    """Let threads that wait for one another sleep; call it before torch is imported.

    By default they spin for milliseconds, and take the processor from the very threads they wait for where
    other programs want it too: a busy machine then embeds ten times slower than it could
    (`benchmarks/busy.py`). Variables that are set already are left alone.
    """
    if not any(name in os.environ for name in _WAITING):
        os.environ.update(_WAITING)


def waits_passively() -> bool:
    """Tell whether OpenMP was told, by `wait_passively` or by the user, that waiting threads shall sleep."""
    passive = os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive"
    return passive or os.environ.get("KMP_BLOCKTIME") == "0"


def keep_freed_memory() -> bool:
    """Make the C library's allocator reuse large blocks; for programs, not for libraries.

    A forward pass frees and allocates megabytes for every operator. By default glibc returns such blocks
    to the system, which clears each page again when it comes back: up to half of the time of embedding
    on a CPU. The process then holds on to the most memory it ever used. The command line calls this;
    an environment variable does the same for other programs: `MALLOC_TRIM_THRESHOLD_=2000000000
    MALLOC_MMAP_THRESHOLD_=1000000000`.

    Returns:
        Whether the allocator took it: only glibc has these settings.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = {_M_MMAP_THRESHOLD: 2**30, _M_TRIM_THRESHOLD: _LARGEST, _M_TOP_PAD: 64 * 2**20}
    return all([mallopt(key, value) for key, value in settings.items()])


def end_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that ask a program to end: of a batch system, and of a terminal that is closed."""
    names = ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP
    return tuple(signal.Signals[name] for name in names if name in signal.Signals.__members__)


@contextmanager
def ending_as_interrupted() -> Iterator[None]:
    """Let the signals that end a program do what Ctrl-C does, so that what is finished is kept.

    A signal that is ignored, as `nohup` has it, or that the program around this one handles, is left alone.
    Outside the main thread, where signals do not arrive, nothing is changed.
    """
    changed = []
    try:
        for number in end_signals():
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, signal.default_int_handler)
                changed.append(number)
    except ValueError:  # not in the main thread
        pass
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def check_working_folder() -> None:
    """Refuse to work in a folder that was deleted: relative paths lead nowhere, and oneMKL ends the process.

    Raises:
        DataError: it is not there.
    """
    try:
        os.getcwd()
    except FileNotFoundError:
        raise DataError("the working folder was deleted; change to one that exists, with cd") from None


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error of Python or torch says that memory, or room for a thread's stack, was refused."""
    # torch raises plain RuntimeErrors on the CPU; its OutOfMemoryError of GPUs says "out of memory" too.
    said = ("out of memory", "can't allocate memory", "cannot allocate memory", "can't start new thread")
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in said)
