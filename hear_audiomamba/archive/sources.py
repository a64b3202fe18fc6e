"""What is to be embedded: files, folders, globs, manifests and tar archives as one ordered list."""

from __future__ import annotations

import glob
import hashlib
import os
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import DataError, counted
from ..io.audio import MEDIA_EXTENSIONS, readable_extensions
from ..io.decoders import INSTALL
from ..io.manifest import MANIFEST_EXTENSIONS, read_manifest
from ..io.names import several_paths
from ..io.tars import tar_members

# Most file systems take 255 bytes, and results get ".npz" behind theirs.
_LONGEST_NAME = 255 - len(".npz")
_NOT_ON_WINDOWS = frozenset('<>:"|?*\\')
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{i}" for port in ("COM", "LPT") for i in range(1, 10))}


@dataclass(frozen=True)
class Source:
    """One stretch of audio that gets its own embedding, or its own row of segments.

    Attributes:
        path: the file, or the tar archive that holds it.
        name: relative name of the result, unique within a run; "/" between folders.
        start: where the stretch begins, seconds.
        duration: its length, seconds; None for all the rest.
        member: name inside the tar archive, else None.
        offset: byte of the archive where the member's data begins.
        size: bytes of the file or member; with `mtime_ns` it tells whether the input has changed.
        mtime_ns: time of the last change, nanoseconds.
        fault: why it cannot be read, where that was seen while searching; None to find out.
    """

    path: str
    name: str
    start: float = 0.0
    duration: float | None = None
    member: str | None = None
    offset: int = 0
    size: int = 0
    mtime_ns: int = 0
    fault: str | None = None

    @property
    def label(self) -> str:
        """The path as users know it: `archive.tar/member` for tar members; always valid Unicode."""
        path = self.path.replace(os.sep, "/")
        text = f"{path}/{self.member}" if self.member else path
        return os.fsencode(text).decode("utf-8", "backslashreplace")

    @property
    def key(self) -> tuple[str, str | None, float, float | None]:
        """What makes this source the same one in another run."""
        return self.path, self.member, self.start, self.duration

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults, fit for JSON."""
        return {k: v for k, v in asdict(self).items() if v not in (None, 0, 0.0)}


def find_sources(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Source]:
    """List what a command line names, in a fixed order.

    Args:
        paths: one or more: audio files (any ending), folders (searched through for audio endings), glob patterns,
            manifests (.csv, .jsonl, .parquet; see `read_manifest`), tar archives (.tar).

    Returns:
        Sources with unique names: a folder's files keep their place below it; where several folders are
        given each keeps its own name in front; names that are still equal get a short hash of their folder.
        A file that does not exist, a sub-folder that cannot be searched and the damaged end of a tar
        archive stay in the list, so that they are reported with what else cannot be read.

    Warns:
        UserWarning: folders or archives hold audio or video files that only the second decoder reads, and it
            is not installed; says how many.

    Raises:
        DataError: nothing is found, or a manifest cannot be read.
        InputError: `paths` are no paths.
    """
    given = [text for path in several_paths(paths, "paths") for text in _expand(path)]
    prefixed = len([text for text in given if os.path.isdir(text)]) > 1
    found: list[Source] = []
    passed_over: Counter[str] = Counter()
    for text in given:
        suffix = Path(text).suffix.lower()
        if os.path.isdir(text):
            found += _folder(text, prefixed, passed_over)
        elif suffix in MANIFEST_EXTENSIONS:
            found += [stated(Source(e.path, e.name, e.start, e.duration)) for e in read_manifest(text)]
        elif suffix == ".tar":
            found += _tar(text, passed_over)
        else:
            found.append(stated(Source(text, os.path.basename(text))))
    unique = list({source.key: source for source in found}.values())
    if unique and all(source.fault for source in unique):
        raise DataError(f"{unique[0].label}: {unique[0].fault}")
    if not unique:
        raise DataError(
            f"no audio files in {', '.join(given)}; "
            + (_advice(passed_over) or f"folders are searched for {', '.join(sorted(readable_extensions()))}")
        )
    if passed_over:
        warnings.warn(_advice(passed_over), stacklevel=2)
    return unique_names(unique)


def _advice(passed_over: Counter[str]) -> str:
    """Return the message about files that were passed over, by their endings, and how to have them read."""
    if not passed_over:
        return ""
    endings = ", ".join(f"{n} {ending}" for ending, n in sorted(passed_over.items()))
    files = counted(passed_over.total(), "audio or video file was", "audio or video files were")
    return f"{files} passed over ({endings}); to read them: {INSTALL}"


def _is_audio(name: str, passed_over: Counter[str]) -> bool:
    """Tell by its ending whether a file is to be read; count it if only the second decoder would read it."""
    ending = os.path.splitext(name)[1].lower()
    if ending in readable_extensions():
        return True
    if ending in MEDIA_EXTENSIONS:
        passed_over[ending] += 1
    return False


def unique_names(sources: list[Source], taken: frozenset[str] = frozenset()) -> list[Source]:
    """Make the names unique, whatever the order of the sources, and different from those taken."""
    cleaned = [replace(source, name=_safe_name(source)) for source in sources]
    counts = Counter(_as_one(source.name) for source in cleaned)
    taken = frozenset(map(_as_one, taken))
    return [
        replace(source, name=_with_hash(source))
        if counts[_as_one(source.name)] > 1 or _as_one(source.name) in taken
        else source
        for source in cleaned
    ]


def _as_one(name: str) -> str:
    """The same for names that some file systems (macOS, Windows) take for one: a.wav and A.wav, and é as one
    or as two characters."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _expand(text: str) -> list[str]:
    if os.path.lexists(text) or not glob.has_magic(text):
        return [text]
    matches = sorted(glob.glob(text, recursive=True))
    if not matches:
        raise DataError(f"{text}: no file matches")
    return matches


def _folder(top: str, prefixed: bool, passed_over: Counter[str]) -> Iterator[Source]:
    root = Path(top)
    prefix = os.path.basename(os.path.abspath(top)) if prefixed else ""
    seen = set()
    closed: list[OSError] = []
    for folder, subfolders, files in os.walk(top, followlinks=True, onerror=closed.append):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back up
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for file in sorted(files):
            if not file.startswith(".") and _is_audio(file, passed_over):
                path = os.path.join(folder, file)
                name = PurePosixPath(prefix, Path(path).relative_to(root).as_posix())
                yield stated(Source(path, str(name)))
    for error in sorted(closed, key=lambda error: os.fsencode(error.filename)):
        path = os.fsdecode(error.filename)
        name = PurePosixPath(prefix, Path(path).relative_to(root).as_posix())
        yield Source(path, str(name), fault=f"the folder cannot be searched: {error.strerror}")


def _tar(path: str, passed_over: Counter[str]) -> Iterator[Source]:
    """The audio members of an uncompressed tar archive, in its order."""
    mtime_ns = _status(path)[1]
    stem = Path(path).name
    try:
        for member in tar_members(path):
            if _is_audio(member.name, passed_over):
                yield Source(
                    path, f"{stem}/{member.name.lstrip('/')}", member=member.name, offset=member.offset,
                    size=member.size, mtime_ns=mtime_ns,
                )  # fmt: skip
    except DataError as error:
        reason = str(error).removeprefix(f"{path}: ")
        yield Source(path, stem, mtime_ns=mtime_ns, fault=reason)


def _status(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # reported when it is read
        return 0, 0
    return status.st_size, status.st_mtime_ns


def stated(source: Source) -> Source:
    """Return a source with the size and time of its file as they are now."""
    size, mtime_ns = _status(source.path)
    return replace(source, size=size, mtime_ns=mtime_ns)


def _safe_name(source: Source) -> str:
    """A relative name that stays inside the output folder and that file systems can store."""
    text = os.fsencode(source.name).decode("utf-8", "backslashreplace").replace("\0", "")
    if os.name == "nt":
        text = windows_name(text)
    parts = [part for part in PurePosixPath(text).parts if part not in ("/", "..", ".")]
    *folders, name = parts or ["audio"]
    made = "/".join([*map(_shortened, folders), _shortened(name, source)])
    return os.fsdecode(made.encode("utf-8"))  # where names are not UTF-8, the same bytes as where they are


def windows_name(text: str) -> str:
    """Return a name without what Windows gives a meaning of its own: drives, backslashes, devices, dots at an end."""
    parts = []
    for part in "".join("_" if c in _NOT_ON_WINDOWS or c < " " else c for c in text).split("/"):
        part = part if part in (".", "..") else part.rstrip(". ")
        device = part.partition(".")[0].rstrip().upper() in _DEVICES
        parts.append(f"_{part}" if device else part)
    return "/".join(parts)


def _shortened(part: str, source: Source | None = None) -> str:
    """A part of a name cut to what file systems take, with a hash in place of what is cut off."""
    if len(part.encode()) <= _LONGEST_NAME:
        return part
    place = part if source is None else _place(source)
    stem, ending = os.path.splitext(part)
    ending = ending if len(ending.encode()) <= 16 else ""
    room = _LONGEST_NAME - len(ending.encode()) - 9
    return stem.encode()[:room].decode("utf-8", "ignore") + f"~{_digest(place)}{ending}"


def _with_hash(source: Source) -> str:
    path = PurePosixPath(source.name)
    name = f"{path.stem}~{_digest(_place(source))}{path.suffix}"
    return str(path.with_name(_shortened(name, source)))


def _place(source: Source) -> str:
    return f"{os.path.abspath(source.path)}\0{source.member}\0{source.start}\0{source.duration}"


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:8]
