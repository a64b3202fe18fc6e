"""Weights by name: where the manifest's files come from, and how they are checked."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, DataError, DownloadError, FirstUseWarning, OutputError, did_you_mean
from ..io.download import cache_folder, download
from ..io.files import read_json, sha256_of, write_json
from ..io.locks import locked
from .bundled import bundled_path
from .convert import read_checkpoint
from .hub import hub_file, revision_of
from .manifest import manifest

LOCK_FILE = "weights-lock.json"
_ELSEWHERE = "set HEAR_AUDIOMAMBA_CACHE to a folder that can be written"
_DOWNLOAD_SECONDS = 6 * 3600.0  # longest wait for another process that downloads the same file


def known_weights(variant: str, tag: str | None = None) -> Path | None:
    """Return the local file of weights the manifest knows, downloaded if need be.

    A file whose hash the manifest does not give is trusted at its first use: it is read by the restricted
    reader, its SHA-256 goes into the lock file (`lock_file()`), and a different file under the same name is
    refused from then on.

    Args:
        variant: full name of a variant.
        tag: which of its weights; None takes the variant's default.

    Returns:
        The file, its hash checked; None when no tag was asked for and the variant has no default.

    Raises:
        CheckpointError: the tag is not known, the file can only be had by hand, the hash is wrong, or the
            file cannot be had now.

    Warns:
        FirstUseWarning: once, when a hash is recorded.
    """
    listing = manifest()
    wanted = tag or listing["defaults"].get(variant)
    if wanted is None:
        return None
    name = f"{variant}.{wanted}"
    entry = listing["weights"].get(name)
    if entry is None:
        tags = [key.split(".", 1)[1] for key in listing["weights"] if key.split(".", 1)[0] == variant]
        raise CheckpointError(
            f"no weights {wanted!r} for {variant}; {did_you_mean(wanted, tags) if tags else 'known: none'}"
        )
    if entry.get("file"):
        path = bundled_path("weights") / entry["file"]
        if not path.is_file():
            raise CheckpointError(
                f"the bundled weights {name} are not in this installation: {path.name} is missing"
            )
        return _checked(name, path, entry["sha256"], "the manifest")
    if entry.get("by_hand"):
        raise CheckpointError(f"{name}: {entry['by_hand']}; then pass the file's path to load_model")
    record = _records().get(name, {})
    path = _fetched(name, entry, record)
    if entry.get("sha256"):
        return _checked(name, path, entry["sha256"], "the manifest")
    if record:
        return _checked(name, path, record["sha256"], f"that of its first use, in {lock_file()}")
    _trust(name, path)
    return path


def lock_file() -> Path:
    """Return where the hashes of weights trusted at first use are kept."""
    return cache_folder() / LOCK_FILE


def _records() -> dict[str, Any]:
    path = lock_file()
    return read_json(path) if path.exists() else {}


def _fetched(name: str, entry: Mapping[str, Any], record: Mapping[str, Any]) -> Path:
    if hub := entry.get("hub"):
        return hub_file(hub["repo"], hub["file"], hub.get("revision") or record.get("revision"))
    target = cache_folder() / "weights" / f"{name}{Path(entry['url']).suffix}"
    if target.is_file():
        return target
    try:
        # Two processes would write into one partial file.
        with locked(target.with_suffix(".lock"), "another process downloads it", wait=_DOWNLOAD_SECONDS):
            if not target.is_file():
                download(entry["url"], target, size=entry.get("bytes"), sha256=entry.get("sha256"))
    except OutputError as error:
        raise CheckpointError(f"{name}: {error}; {_ELSEWHERE}") from None
    except (DownloadError, DataError) as error:
        raise CheckpointError(f"{name}: {error}") from None
    return target


def _checked(name: str, path: Path, sha256: str, whose: str) -> Path:
    found = sha256_of(path)
    if found != sha256:
        raise CheckpointError(
            f"{path.name} ({name}): SHA-256 {found[:12]}… differs from {sha256[:12]}…, {whose}; "
            "the file is damaged or was changed"
        )
    return path


def _trust(name: str, path: Path) -> None:
    """Read a file that was never seen before by the restricted reader, and record what it is."""
    read_checkpoint(path)
    record = {"sha256": sha256_of(path), "bytes": path.stat().st_size, "revision": revision_of(path)}
    try:
        with locked(lock_file().with_suffix(".lock"), "another process writes the lock file", wait=60.0):
            write_json(lock_file(), {**_records(), name: record})
    except OutputError as error:
        raise CheckpointError(f"{name}: its hash cannot be recorded: {error}; {_ELSEWHERE}") from None
    warnings.warn(
        f"{name}: first use; its SHA-256 {record['sha256']} is now on record in {lock_file()}, "
        "and another file under this name will be refused",
        FirstUseWarning,
        stacklevel=3,
    )
