"""Tar archives as tables of where their members lie, so that any of them can be read at once.

An index makes members as good as files: they can be read in any order and by any number of processes,
and only their bytes are read. No member is ever unpacked, so their names, which may hold `..` or begin
with `/`, lead nowhere.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from ..errors import DataError, one_line

# A header with a longer name or more attributes than this is an attack or damage.
_MAX_HEADER_BYTES = 1 << 20


@dataclass(frozen=True)
class TarMember:
    """A file inside a tar archive.

    Attributes:
        archive: the tar.
        name: of the member, as it stands there.
        offset: byte of the archive where its content begins.
        size: bytes of its content.
    """

    archive: Path
    name: str
    offset: int
    size: int

    def read(self) -> bytes:
        """Return the member's content.

        Raises:
            DataError: the archive is shorter than the member says, or cannot be read.
        """
        try:
            with open(self.archive, "rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except (OSError, MemoryError, OverflowError) as error:
            raise DataError(f"{self.archive}/{self.name}: cannot be read: {error}") from None
        if len(content) != self.size:
            raise DataError(f"{self.archive}/{self.name}: {len(content)} of {self.size} bytes are there")
        return content


def tar_members(archive: str | Path) -> Iterator[TarMember]:
    """Yield the regular files of an uncompressed tar archive, in its order.

    Links, folders and devices are passed over.

    Args:
        archive: the .tar file.

    Raises:
        DataError: it is missing, compressed, or damaged; may come after some members.
    """
    archive = Path(archive)
    last = ""
    try:
        with open(archive, "rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            source = cast(BinaryIO, _Headers(file))
            with tarfile.open(fileobj=source, mode="r:", errors="surrogateescape") as tar:
                at = -1
                while (info := tar.next()) is not None:
                    # A damaged size can lead back to the same header for ever.
                    if info.offset <= at or info.size < 0:
                        raise tarfile.ReadError("a header leads backwards")
                    at = info.offset
                    tar.members.clear()  # type: ignore[attr-defined]  # it would keep every header
                    if not info.isfile():
                        continue
                    last = info.name
                    if info.issparse():
                        raise tarfile.ReadError(
                            f"{info.name!r} is stored with holes; make the tar without -S"
                        )
                    if info.offset_data + info.size > size:
                        raise tarfile.ReadError(f"{info.name!r} is cut short")
                    yield TarMember(archive, info.name, info.offset_data, info.size)
    except FileNotFoundError:
        raise DataError(f"{archive}: no such file") from None
    except (OSError, tarfile.TarError, ValueError, OverflowError, RecursionError, EOFError) as error:
        reason = one_line(error)
        where = f" behind {last!r}" if last else ""
        raise DataError(f"{archive}: not a readable uncompressed tar archive{where}: {reason}") from None


class _Headers:
    """An archive as `tarfile` reads it, a header at a time: what asks for more at once is refused."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header says that it is {size} bytes long")
        return self._file.read(size)
