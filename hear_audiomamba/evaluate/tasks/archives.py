"""Where HEAR's task archives are: the Zenodo record, another web address, or a folder."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...io.download import download, fetch_json
from ...io.files import replacing

RECORD = "https://zenodo.org/api/records/5887964"
LATER_RECORD = "https://zenodo.org/api/records/6332517"
"""A later version of the same data set, looked at for archives that the first one lacks."""
_PAGE = re.compile(r"(https?://[^/]+)/records?/(\d+)/?$")
_API = re.compile(r"https?://.+/api/records/\d+/?$")


def archive_name(task: str) -> str:
    """Return the name of a task's archive."""
    return f"hear2021-{task}-48000.tar.gz"


@dataclass(frozen=True)
class Archive:
    """One file that can be had.

    Args:
        name: of the file.
        place: address or path.
        size: bytes, where known.
        md5: hexadecimal, where known.
    """

    name: str
    place: str
    size: int | None = None
    md5: str | None = None

    def fetch(self, folder: Path, progress: Callable[[int, int | None], None] | None = None) -> Path:
        """Get the file into a folder, continuing with what an earlier call left.

        Raises:
            DownloadError: it cannot be had, or is not what the source says it is.
            DataError: there is no such file in the source's folder.
        """
        target = folder / self.name
        if self.place.startswith(("http://", "https://")):
            done = target.is_file() and self.md5 is None and self.size in (None, target.stat().st_size)
            if not done:
                download(self.place, target, size=self.size, md5=self.md5, progress=progress)
        elif not Path(self.place).is_file():
            raise DataError(f"{self.place}: no such file")
        elif not target.exists():
            with replacing(target) as partial:
                shutil.copyfile(self.place, partial)
        return target


class Source:
    """A place that archives come from.

    Args:
        where: address of a Zenodo record (its page or its API), of a web folder that holds the archives, or a local
            folder; None for HEAR's own record.
    """

    def __init__(self, where: str | None = None) -> None:
        self.where = where or RECORD
        if page := _PAGE.fullmatch(self.where):
            self.where = f"{page[1]}/api/records/{page[2]}"
        self._listing: dict[str, Archive] | None = None

    def find(self, name: str) -> Archive:
        """Return the archive of a name.

        Raises:
            DataError: the source does not have it.
            DownloadError: the source cannot be reached.
        """
        if not self.where.startswith(("http://", "https://")):
            path = Path(self.where) / name
            if not path.is_file():
                raise DataError(f"{self.where} holds no {name}")
            return Archive(name, str(path), path.stat().st_size)
        if not _API.fullmatch(self.where):
            return Archive(name, f"{self.where.rstrip('/')}/{name}")
        if self._listing is None:
            self._listing = _files_of(self.where)
        found = self._listing.get(name)
        if found is None and self.where == RECORD:
            found = _files_of(LATER_RECORD).get(name)
        if found is None:
            raise DataError(
                f"{self.where} has no file {name}; --from names another record, address or folder"
            )
        return found


def _files_of(record: str) -> dict[str, Archive]:
    answer = fetch_json(record)
    try:
        return {entry["key"]: _archive(entry) for entry in answer["files"]}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{record}: the answer is not that of a Zenodo record: {error!r}") from None


def _archive(entry: dict[str, Any]) -> Archive:
    kind, _, digest = str(entry["checksum"]).partition(":")
    return Archive(
        entry["key"], entry["links"]["self"], int(entry["size"]), digest if kind == "md5" else None
    )
