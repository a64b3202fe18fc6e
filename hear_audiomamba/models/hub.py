"""Files of Hugging Face repositories: from the local cache, or downloaded."""

from __future__ import annotations

import socket
import urllib.parse
import urllib.request
from pathlib import Path

from ..errors import CheckpointError
from ..io.download import is_offline


def hub_file(repo: str, file: str | None = None, revision: str | None = None) -> Path:
    """Return a file of a Hugging Face repository, from the local cache or downloaded.

    Args:
        repo: "owner/name".
        file: path inside it; by default "model.safetensors".
        revision: commit, tag or branch; by default the newest.

    Raises:
        CheckpointError: it is neither cached nor reachable (`HF_HUB_OFFLINE=1` keeps to the cache), or the
            repository does not have it.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    file = file or "model.safetensors"
    offline = is_offline()
    reachable = not offline and _reachable()
    try:
        return Path(hf_hub_download(repo, file, revision=revision, local_files_only=not reachable))
    except LocalEntryNotFoundError as error:
        # Also what the library raises when a download fails on the way, so say which it was.
        if offline:
            reason = "it is not in the local cache, and the network is switched off by HF_HUB_OFFLINE"
        elif not reachable:
            reason = "it is not in the local cache, and the hub cannot be reached from this machine"
        else:
            cause = f": {_first_line(error.__cause__)}" if error.__cause__ else ""
            reason = f"it is not in the local cache, and the hub does not answer{cause}"
    except GatedRepoError:
        reason = "its owner gives access on request only; log in with `hf auth login`"
    except RepositoryNotFoundError:
        reason = "there is no such repository, or it is private"
    except RevisionNotFoundError:
        reason = f"the repository has no revision {revision!r}"
    except EntryNotFoundError:
        reason = "the repository has no such file"
    except Exception as error:  # of HTTP, of the disk, and of whichever transport the library's version has
        reason = _first_line(error)
    raise CheckpointError(f"{repo}: cannot get {file!r}: {reason}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def revision_of(path: Path) -> str | None:
    """Return the commit that a file in the hub library's cache belongs to; None for a file elsewhere."""
    parts = path.parts[:-1]
    places = [index for index, part in enumerate(parts[:-1]) if part == "snapshots"]
    return parts[places[-1] + 1] if places else None


def _reachable() -> bool:
    """Tell whether the hub's name can be resolved: the library itself would ask for 23 seconds."""
    from huggingface_hub import constants

    place = urllib.parse.urlsplit(constants.ENDPOINT)
    if place.hostname is None or urllib.request.getproxies().get(place.scheme):
        return True  # a proxy resolves names for us
    try:
        socket.getaddrinfo(place.hostname, place.port or 443)
    except OSError:
        return False
    return True
