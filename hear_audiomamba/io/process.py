"""How a program of ours uses memory and processors: settings for the command line, not for libraries."""

from __future__ import annotations

import ctypes
import os
import sys

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
