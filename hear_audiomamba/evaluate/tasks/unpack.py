"""Unpacking a task's archive: its own regular files only, never outside the folder that is meant."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path, PurePosixPath

from ...errors import DataError, OutputError

_MARKER = ".unpacked"


def unpack(archive: Path, task: str, folder: Path, most_bytes: int) -> None:
    """Unpack one task into a folder; one that is complete already is left as it is.

    Args:
        archive: tar file with `tasks/<task>/…`, or `<task>/…`.
        task: its id.
        folder: that takes what is below `<task>/`; made again unless it is complete.
        most_bytes: more than this is refused: no task is that large.

    Raises:
        DataError: the archive is damaged, holds another task, links, names that lead outside, or too much.
        OutputError: the disk is full.
    """
    if (folder / _MARKER).exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    left = most_bytes
    try:
        with tarfile.open(archive, "r:*") as opened:
            for member in opened:
                if member.isdir():
                    continue
                target = folder / _inside(member, task, archive)
                left -= member.size
                if left < 0:
                    raise DataError(
                        f"{archive.name}: unpacks to more than {most_bytes / 1e9:.1f} GB, refused"
                    )
                target.parent.mkdir(parents=True, exist_ok=True)
                content = opened.extractfile(member)
                assert content is not None  # a regular file has content
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file, 1 << 20)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive}: damaged: {error}") from None
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise DataError(f"{archive}: damaged: {error}") from None
        raise OutputError.of(folder, error) from None
    if not (folder / "task_metadata.json").is_file():
        raise DataError(f"{archive.name}: holds no {task}/task_metadata.json")
    (folder / _MARKER).touch()


def forget_marker(folder: Path) -> None:
    """Remove what `unpack` left in a folder for itself."""
    (folder / _MARKER).unlink(missing_ok=True)


def _inside(member: tarfile.TarInfo, task: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(member.name)
    parts = [part for part in path.parts if part != "."]
    if not member.isfile() or path.is_absolute() or ".." in parts:
        raise DataError(
            f"{archive.name}: refused {member.name!r}: only plain files inside the task are unpacked"
        )
    if parts and parts[0] == "tasks":
        parts = parts[1:]
    if len(parts) < 2 or parts[0] != task:
        raise DataError(f"{archive.name}: {member.name!r} is no part of {task}")
    return PurePosixPath(*parts[1:])
