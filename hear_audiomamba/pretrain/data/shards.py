"""Webdataset tars: found, fetched when they are URLs, and indexed so that any clip can be read at once.

An index makes tars as good as files: crops come in any order, so a resumed run continues exactly where
it was, with any number of workers, which a stream that is read from front to back cannot do.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...io.download import cache_folder, download
from ...io.locks import locked
from ...io.tars import TarMember, tar_members

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MAX_NOTE_BYTES = 16 << 20
_FETCH_SECONDS = 24 * 3600.0


def expand_shards(pattern: str, cache: str | None) -> list[Path]:
    """Return the local tars a pattern stands for.

    Args:
        pattern: a tar, a folder of tars, a glob, with or without `{000..031}`, or URLs
            (`https://…/shards-{000..031}.tar`), which are fetched once into `cache`.
        cache: folder for fetched shards; None takes one in `cache_folder()`.

    Raises:
        DataError: nothing there.
        DownloadError: a shard cannot be fetched; what has arrived of it is kept.
    """
    patterns = _braces(pattern)
    if pattern.startswith(("http://", "https://")):
        folder = Path(cache).expanduser() if cache else cache_folder() / "shards"
        return [_fetched(url, folder) for url in patterns]
    if Path(pattern).expanduser().is_dir():
        patterns = [os.path.join(os.path.expanduser(pattern), "*.tar")]
    shards = sorted({Path(p) for text in patterns for p in glob.glob(os.path.expanduser(text))})
    if not shards:
        raise DataError(f"data.path: no tars match {pattern}")
    return shards


def index_shards(
    shards: Sequence[Path], suffixes: tuple[str, ...]
) -> tuple[list[TarMember], list[dict[str, Any]]]:
    """Return the clips of some tars, and what the `.json` member of the same name says of each.

    Raises:
        DataError: a tar is damaged; names it.
    """
    members, extras = [], []
    for shard in shards:
        notes: dict[str, dict[str, Any]] = {}
        found: list[TarMember] = []
        for member in tar_members(shard):
            stem, suffix = os.path.splitext(member.name)
            if suffix.lower() in suffixes:
                found.append(member)
            elif suffix in (".json", ".cls", ".txt"):
                _note(notes, stem, suffix, member)
        members += found
        extras += [notes.get(os.path.splitext(member.name)[0], {}) for member in found]
    return members, extras


def _note(notes: dict[str, dict[str, Any]], stem: str, suffix: str, member: TarMember) -> None:
    """Add what a text member says of the clip of the same name."""
    where = f"{member.archive}/{member.name}"
    if member.size > _MAX_NOTE_BYTES:
        raise DataError(f"{where}: {member.size} bytes, expected at most {_MAX_NOTE_BYTES}")
    try:
        if suffix == ".json":
            said = json.loads(member.read())
            notes[stem] = said if isinstance(said, dict) else {}
        else:
            notes.setdefault(stem, {}).setdefault("labels", member.read().decode("utf-8").strip())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: cannot be read: {error}") from None


def _braces(pattern: str) -> list[str]:
    parts = _BRACES.split(pattern)
    fixed, ranges = parts[::3], zip(parts[1::3], parts[2::3])
    numbers = [[f"{i:0{len(low)}d}" for i in range(int(low), int(high) + 1)] for low, high in ranges]
    return [
        "".join(itertools.chain.from_iterable(itertools.zip_longest(fixed, choice, fillvalue="")))
        for choice in itertools.product(*numbers)
    ]


def _fetched(url: str, folder: Path) -> Path:
    """Return the local copy of a shard."""
    target = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{url.rsplit('/', 1)[-1]}"
    if target.is_file():
        return target
    # The processes of a run all ask for it at once.
    with locked(f"{target}.lock", f"{url}: another process is fetching it", wait=_FETCH_SECONDS):
        return target if target.is_file() else download(url, target)
