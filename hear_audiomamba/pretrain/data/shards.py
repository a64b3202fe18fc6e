"""Webdataset tars: found, fetched when they are URLs, and indexed so that any clip can be read at once.

An index makes tars as good as files: crops come in any order, so a resumed run goes on exactly where
it was, with any number of workers, which a stream that is read from front to back cannot do.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import json
import os
import re
import shutil
import tarfile
import tempfile
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_URL = re.compile(r"^(https?|file|s3|gs)://")


@dataclass(frozen=True)
class TarMember:
    """Where a clip lies in a tar: bytes `offset` to `offset + size` of the shard."""

    shard: Path
    name: str
    offset: int
    size: int

    def read(self) -> bytes:
        """Return the member's bytes."""
        with open(self.shard, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def expand_shards(pattern: str, cache: str | None) -> list[Path]:
    """Return the local tars a pattern stands for.

    Args:
        pattern: a tar, a folder of tars, a glob, with or without `{000..031}`, or URLs
            (`https://…/shards-{000..031}.tar`), which are fetched once into `cache`.
        cache: folder for fetched shards; None takes one under the user's cache folder.

    Raises:
        DataError: nothing there, or a shard cannot be fetched.
    """
    patterns = _braces(pattern)
    if _URL.match(pattern):
        folder = Path(cache).expanduser() if cache else _default_cache()
        return [_fetch(url, folder) for url in patterns]
    if Path(pattern).expanduser().is_dir():
        patterns = [os.path.join(os.path.expanduser(pattern), "*.tar")]
    shards = sorted({Path(p) for text in patterns for p in glob.glob(os.path.expanduser(text))})
    if not shards:
        raise DataError(f"data.path: no tars match {pattern}")
    return shards


def index_shards(shards: Sequence[Path], suffixes: tuple[str, ...]) -> tuple[list[TarMember], list[dict]]:
    """Return the clips of some tars, and what the `.json` member of the same name says of each.

    Raises:
        DataError: a tar is damaged; names it.
    """
    members, extras = [], []
    for shard in shards:
        notes: dict[str, dict] = {}
        found: list[TarMember] = []
        try:
            with tarfile.open(shard) as tar:
                for info in tar:
                    stem, suffix = os.path.splitext(info.name)
                    if not info.isfile():
                        continue
                    if suffix.lower() in suffixes:
                        found.append(TarMember(shard, info.name, info.offset_data, info.size))
                    elif suffix == ".json":
                        notes[stem] = json.loads(tar.extractfile(info).read())
                    elif suffix in (".cls", ".txt"):
                        text = tar.extractfile(info).read().decode("utf-8").strip()
                        notes.setdefault(stem, {}).setdefault("labels", text)
        except (tarfile.TarError, OSError, ValueError) as error:
            raise DataError(f"{shard}: not a readable tar: {error}") from None
        members += found
        for member in found:
            note = notes.get(os.path.splitext(member.name)[0], {})
            extras.append(note if isinstance(note, dict) else {})
    return members, extras


def _braces(pattern: str) -> list[str]:
    parts = _BRACES.split(pattern)
    fixed, ranges = parts[::3], zip(parts[1::3], parts[2::3])
    numbers = [[f"{i:0{len(low)}d}" for i in range(int(low), int(high) + 1)] for low, high in ranges]
    return [
        "".join(itertools.chain.from_iterable(itertools.zip_longest(fixed, choice, fillvalue="")))
        for choice in itertools.product(*numbers)
    ]


def _default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "hear_audiomamba" / "shards"


def _fetch(url: str, folder: Path) -> Path:
    """Return the local copy of a shard; it appears under its name only when it is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{url.rsplit('/', 1)[-1]}"
    if target.is_file():
        return target
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file, urllib.request.urlopen(url, timeout=60) as answer:
            shutil.copyfileobj(answer, file, 1 << 20)
        os.replace(temporary, target)
    except (OSError, ValueError) as error:
        Path(temporary).unlink(missing_ok=True)
        raise DataError(f"{url}: cannot be fetched: {error}") from None
    return target
