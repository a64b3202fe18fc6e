"""Files from the web: resumed where they stopped, checked, and in place only when complete."""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import DownloadError, one_line
from .files import sha256_of, sync, write_text

logger = logging.getLogger(__name__)

BLOCK = 1 << 20
ATTEMPTS = 5
TIMEOUT_SECONDS = 60
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "HEAR_AUDIOMAMBA_OFFLINE")
_FINAL = frozenset((400, 401, 403, 404, 405, 410))  # asking again would not help
_TRUE = ("1", "true", "yes", "on")


class _Restart(Exception):
    """What is on disk does not belong to what the server has now."""


def is_offline() -> bool:
    """Tell whether the user has forbidden the network, by one of `OFFLINE_VARIABLES`."""
    return any(os.environ.get(name, "").lower() in _TRUE for name in OFFLINE_VARIABLES)


def cache_folder() -> Path:
    """Return the folder for what is downloaded: `HEAR_AUDIOMAMBA_CACHE`, else the system's place for caches."""
    if chosen := os.environ.get("HEAR_AUDIOMAMBA_CACHE"):
        return Path(chosen).expanduser()
    if os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "hear_audiomamba"


def fetch_json(url: str) -> Any:
    """Return what a web address answers as JSON.

    Raises:
        DownloadError: it cannot be reached, or the answer is not JSON.
    """
    _check_online(url)
    try:
        with urllib.request.urlopen(_request(url), timeout=TIMEOUT_SECONDS) as answer:
            return json.load(answer)
    except ValueError as error:
        raise DownloadError(f"{url}: the answer is not JSON: {error}") from None
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"{url}: {_reason(error)}") from None


def download(
    url: str,
    target: str | os.PathLike[str],
    *,
    size: int | None = None,
    md5: str | None = None,
    sha256: str | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    pause_seconds: float = 1.0,
) -> Path:
    """Download a file. A broken transfer continues where it stopped, also in a later call.

    Proxies are taken from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.

    Args:
        url: http or https address.
        target: where to; folders are made. What is there already is kept if it has the right checksum.
        size: expected length in bytes, where it is known.
        md5: expected MD5, hexadecimal, where it is known.
        sha256: expected SHA-256, hexadecimal, where it is known.
        progress: called with the bytes there so far and those in all (None where the server does not say).
        pause_seconds: wait before the second try; doubled before each one after that.

    Returns:
        `target`.

    Raises:
        DownloadError: the network is forbidden or fails, the disk is full, or the file is not what was expected.
            What has arrived is kept for the next call, unless it is wrong.
    """
    target = Path(target)
    if target.is_file() and (md5 or sha256) and _mismatch(target, size, md5, sha256) is None:
        return target
    _check_online(url)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DownloadError(f"{target.parent}: cannot be made: {error.strerror or error}") from None
    key = hashlib.sha256(url.encode()).hexdigest()[:12]
    part = target.parent / f".{key}.part"
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(pause_seconds * 2 ** (attempt - 1))
        try:
            _transfer(url, part, size, progress)
            break
        except _Restart:
            _discard(part)
        except urllib.error.HTTPError as error:
            if error.code in _FINAL or attempt == ATTEMPTS - 1:
                raise DownloadError(f"{url}: {_reason(error)}") from None
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            if attempt == ATTEMPTS - 1:
                raise DownloadError(f"{url}: {_reason(error)}; {_kept(part)}") from None
        except OSError as error:
            raise DownloadError(f"{target}: {error.strerror or error}; {_kept(part)}") from None
        logger.info("%s: trying again", url)
    else:
        raise DownloadError(f"{url}: the file changed on the server during {ATTEMPTS} tries")
    if wrong := _mismatch(part, size, md5, sha256):
        _discard(part)
        raise DownloadError(f"{url}: {wrong}; the download was deleted")
    sync(part)
    part.replace(target)
    _discard(part)
    return target


def _transfer(
    url: str, part: Path, size: int | None, progress: Callable[[int, int | None], None] | None
) -> None:
    """Get what is missing of `part`; raises whatever the network raises."""
    have = part.stat().st_size if part.is_file() else 0
    validator = _read_validator(part) if have else None
    if have and size is not None and have >= size:
        if have > size:
            raise _Restart
        return
    request = _request(url)
    if have:
        request.add_header("Range", f"bytes={have}-")
        if validator:  # the server sends all of it when it is another file by now
            request.add_header("If-Range", validator)
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            raise _Restart from None
        raise
    with answer:
        goes_on = answer.status == http.client.PARTIAL_CONTENT
        if goes_on and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise _Restart
        start = have if goes_on else 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length is not None and length.isdigit() else size
        if not goes_on:
            found = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
            write_text(_validator_file(part), "" if found.startswith("W/") else found)
        there = start
        with part.open("ab" if goes_on else "wb") as file:
            while block := answer.read(BLOCK):
                file.write(block)
                there += len(block)
                if progress is not None:
                    progress(there, total)
        if total is not None and there < total:
            raise ConnectionError(f"the connection ended after {there} of {total} bytes")


def _mismatch(file: Path, size: int | None, md5: str | None, sha256: str | None) -> str | None:
    """Say how a file differs from what was expected; None where it does not."""
    if size is not None and file.stat().st_size != size:
        return f"{file.stat().st_size} bytes arrived, {size} were expected"
    for name, wanted, measure in (("MD5", md5, _md5_of), ("SHA-256", sha256, sha256_of)):
        if wanted is not None and (found := measure(file)) != wanted.lower():
            return f"its {name} is {found[:12]}…, expected {wanted[:12].lower()}…"
    return None


def _md5_of(file: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as opened:
        while block := opened.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _check_online(url: str) -> None:
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"{url}: expected an address that begins with http:// or https://")
    if is_offline():
        raise DownloadError(f"{url}: the network is switched off by {' or '.join(OFFLINE_VARIABLES)}")


def _request(url: str) -> urllib.request.Request:
    # Some servers refuse Python's own name; a compressed answer could not be resumed.
    return urllib.request.Request(
        url, headers={"User-Agent": "hear_audiomamba", "Accept-Encoding": "identity"}
    )


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"cannot be reached: {error.reason}"
    return one_line(error)


def _validator_file(part: Path) -> Path:
    return part.with_suffix(".etag")


def _read_validator(part: Path) -> str | None:
    try:
        return _validator_file(part).read_text(encoding="utf-8") or None
    except OSError:
        return None


def _kept(part: Path) -> str:
    size = part.stat().st_size if part.is_file() else 0
    return f"{size} bytes are kept, the same call continues from there" if size else "nothing has arrived yet"


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator_file(part).unlink(missing_ok=True)
