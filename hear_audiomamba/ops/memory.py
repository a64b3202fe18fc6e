"""Keep freed memory in the process instead of handing it back to the system."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h
_LARGEST = 2**31 - 1


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
