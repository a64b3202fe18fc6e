"""Locks that one process holds at a time, on any file system."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import DataError, OutputError
from .files import UNFINISHED, make_folder

_CANNOT_LOCK = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


@contextmanager
def locked(path: str | Path, busy: str, *, wait: float = 0.0) -> Iterator[None]:
    """Hold a lock that only one process can hold at a time, and that ends with its process.

    On a file system without locks (some network drives) a marker file takes the lock's place. It is
    removed at the end; after a crash on another machine the error says to delete it.

    Args:
        path: the lock's file; its folder is made. It may stay behind, which does no harm.
        busy: what the error says when another process holds the lock.
        wait: seconds to wait for another process to end before that is an error.

    Raises:
        DataError: another process holds the lock.
        OutputError: the file cannot be made.
    """
    import filelock

    folder = Path(path).parent
    make_folder(folder, of=path)
    try:
        lock: filelock.BaseFileLock
        if _has_locks(folder):
            lock = filelock.FileLock(path, timeout=wait, thread_local=False)
        else:
            marker = f"{os.fspath(path)}.held"
            busy = f"{busy} (if no process does, delete {marker})"
            lock = filelock.SoftFileLock(marker, timeout=wait, thread_local=False)
        lock.acquire()
    except filelock.Timeout:
        raise DataError(busy) from None
    except OSError as error:
        raise OutputError.of(path, error) from None
    try:
        yield
    finally:
        lock.release()


def _has_locks(folder: Path) -> bool:
    """Return whether a folder's file system has locks, from a file that nobody else can hold."""
    # A lock of filelock cannot tell. Where there are none, versions before 3.21 say that another process holds it, and
    # some later ones put a marker in its place that the next process removes.
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    path = folder / f"{UNFINISHED}{secrets.token_hex(6)}"
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _CANNOT_LOCK:
            raise
        return False
    finally:
        os.close(handle)
        with suppress(OSError):
            path.unlink(missing_ok=True)
    return True
