"""Files and folders that appear under their names only when they are complete; JSON and hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import DataError, OutputError
from .names import path_of, valid_text

# What is not complete yet begins with this; `remove_unfinished` knows it by that.
UNFINISHED = ".writing-"
_LONGEST_ENDING = 16
# Some network and FUSE file systems cannot be asked to write a file or folder out at once.
_CANNOT_SYNC = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF}
# Folders cannot be opened on Windows, and not always on FUSE.
_CANNOT_SYNC_FOLDERS = _CANNOT_SYNC | {errno.EACCES, errno.EPERM, errno.EISDIR, errno.EROFS}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def make_folder(path: str | Path, *, of: str | Path | None = None) -> None:
    """Make a folder and those above it, where they are not there.

    Args:
        path: the folder.
        of: what is to be written in it, which an error then names; by default the folder itself.

    Raises:
        OutputError: it cannot be made; a file in the place of one of them is named.
    """
    path = Path(path)
    refuse_blocked(path, of=of)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError.of(of or path, error) from None


def refuse_blocked(path: str | Path, *, of: str | Path | None = None) -> None:
    """Refuse the path of a folder to be, where a file stands in its place or in that of a folder above it.

    Raises:
        OutputError: names the file.
    """
    path = Path(path)
    for place in (path, *path.parents):
        # os.path and not pathlib, which fails below a file on some versions.
        if os.path.lexists(place) and not os.path.isdir(place):
            raise OutputError.of(of or path, NotADirectoryError(errno.ENOTDIR, f"{place} is not a folder"))


@contextmanager
def replacing(path: str | Path, *, within: Path | None = None) -> Iterator[Path]:
    """Give a name to write a file to, and move it to `path` when the block ends without an error.

    Readers of `path` see the old content or the new one, never a part. If the block or this process ends
    early, nothing of the new content stays under `path`.

    Args:
        path: the file; its folder is made. A device such as /dev/null is written to directly.
        within: where the file lies until then, a folder of the same file system; by default that of `path`.

    Yields:
        A path with the same ending, for any library to write to.

    Raises:
        OutputError: the file cannot be written: no folder, no permission, no space.
    """
    path = Path(path_of(os.fspath(path)))
    if path.is_dir():  # known before the work whose result it would be
        with _naming(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if path.exists() and not path.is_file():
        with _naming(path):
            yield path
        return
    ending = path.suffix if len(os.fsencode(path.suffix)) <= _LONGEST_ENDING else ""
    # Its name owes nothing to the file's, which may be as long as the file system allows.
    partial = (within or path.parent) / f"{UNFINISHED}{secrets.token_hex(6)}{ending}"
    with _naming(path, partial):
        make_folder(path.parent, of=path)
        # Made by `open` and not `mkstemp`, so that the user's umask decides who may read it.
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        mode = partial.stat().st_mode
        try:
            yield partial
            _set_mode(partial, mode)
            sync(partial)
            os.replace(partial, path)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """Give a new folder to fill, and move it to `path` when the block ends without an error.

    Args:
        path: the folder; one that is there is replaced as a whole.

    Yields:
        The folder to fill, beside `path`.

    Raises:
        OutputError: it cannot be written.
    """
    path = Path(path)
    partial = path.parent / f"{UNFINISHED}{secrets.token_hex(6)}"
    with _naming(path, partial):
        make_folder(path.parent, of=path)
        partial.mkdir()
        mode = partial.stat().st_mode & 0o666
        try:
            yield partial
            for folder, _, names in os.walk(partial):
                for name in names:
                    _set_mode(Path(folder, name), mode)
                    sync(Path(folder, name))
                sync_folder(folder)
            _move_folder(partial, path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        sync_folder(path.parent)


def refuse_full(folder: Path) -> None:
    """Refuse a folder whose disk, or whose share of it, has no room for a megabyte.

    Raises:
        OutputError: names the folder.
    """
    trial = folder / f"{UNFINISHED}{secrets.token_hex(6)}"
    with _naming(folder, trial):
        try:
            trial.write_bytes(bytes(2**20))
            sync(trial)
        finally:
            trial.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Delete what killed processes left incomplete in a folder that no one else writes to."""
    for left in folder.glob(f"{UNFINISHED}*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def write_text(path: str | Path, text: str, *, within: Path | None = None) -> None:
    """Write a UTF-8 text file as a whole, its line ends as given; see `replacing` and `valid_text`."""
    with replacing(path, within=within) as partial:
        partial.write_bytes(valid_text(text).encode("utf-8"))


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write a mapping as strict JSON; NaN and infinities become the strings "nan", "inf", "-inf"."""
    write_text(path, json.dumps(strict_json(value), indent=1, allow_nan=False) + "\n")


def strict_json(value: Any) -> Any:
    """Return a value with what JSON has no number for as strings: "nan", "inf", "-inf"."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): strict_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict_json(item) for item in value]
    return value


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        DataError: the file is missing, cut short, or no object; the message names it.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sync(path: str | Path) -> None:
    """Have a file's content on disk before continuing, where the file system can do that."""
    with _opened(path) as handle:
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in _CANNOT_SYNC:
                raise


def sync_all(paths: Iterable[str | Path]) -> None:
    """Have many files on disk before continuing."""
    held = list(paths)
    # Many at once: the file system then writes its own journal once for several of them.
    try:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(sync, held))
    except RuntimeError:  # the system allows no more threads
        for path in held:
            sync(path)


def sync_folder(path: str | Path) -> None:
    """Have a folder's names on disk before continuing, where the file system can do that."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC_FOLDERS:
            raise


@contextmanager
def _naming(path: Path, partial: Path | None = None) -> Iterator[None]:
    """Say which file was being written when the system refuses, and not what it was called until then."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        own = {os.fspath(p) for p in (path, path.parent, partial) if p is not None}
        if error.errno in _NO_ROOM or {error.filename, error.filename2} & own:
            raise OutputError.of(path, error) from None
        raise


def _set_mode(path: Path, mode: int) -> None:
    """Let others read what a library wrote, as the umask has it: safetensors makes its files private."""
    if stat.S_IMODE(path.stat().st_mode) != stat.S_IMODE(mode):
        with suppress(OSError):  # network drives that know no modes
            path.chmod(stat.S_IMODE(mode))


@contextmanager
def _opened(path: str | Path) -> Iterator[int]:
    flags = os.O_RDWR | getattr(os, "O_BINARY", 0)  # Windows writes out only what is open for writing
    try:
        handle = os.open(path, flags)
    except PermissionError:  # a file made read-only
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        yield handle
    finally:
        os.close(handle)


def _move_folder(partial: Path, path: Path) -> None:
    if not path.exists():
        os.replace(partial, path)
        return
    # A folder cannot be replaced in one step; the old one is whole under another name until then.
    old = path.parent / f"{UNFINISHED}{secrets.token_hex(6)}"
    os.replace(path, old)
    try:
        os.replace(partial, path)
    except OSError:
        os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)
