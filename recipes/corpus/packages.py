"""Debian packages as sources of sound: size, download, unpacking, and the archives inside them."""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

from hear_audiomamba.errors import DataError

from .game_archives import unpack_queen

AUDIO_SUFFIXES = frozenset(
    [
        ".wav",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".flac",
        ".aif",
        ".aiff",
        ".au",
        ".voc",
        ".g722",
        ".m4a",
        ".wma",
    ]
)
ARCHIVE_SUFFIXES = frozenset((".zip", ".pk3", ".wz"))
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")


class PackageGone(DataError):
    """A package can no longer be fetched."""


def download_size(package: str, cache: Path) -> int:
    """Return how many bytes fetching a package will take, 0 when it lies in the cache already.

    Raises:
        PackageGone: no package index here names it.
    """
    if cached_package(package, cache):
        return 0
    shown = _run(["apt-cache", "show", "--no-all-versions", _checked(package)])
    size = re.search(r"^Size: (\d+)$", shown.stdout, re.MULTILINE)
    if shown.returncode or not size:
        raise PackageGone(f"package {package} is not in this machine's package index")
    return int(size.group(1))


def cached_package(package: str, cache: Path) -> Path | None:
    """Return the newest `.deb` of a package in the cache folder, or None."""
    found = sorted(cache.glob(f"{_checked(package)}_*.deb"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


def fetch_package(package: str, cache: Path) -> Path:
    """Download a package into the cache with apt-get, unless it is there.

    Returns:
        The `.deb` file.

    Raises:
        PackageGone: apt-get does not find it or cannot fetch it.
    """
    found = cached_package(package, cache)
    if found:
        return found
    # A download that breaks off must not leave half a .deb under the final name: fetch beside it, then move.
    partial = cache / f".fetch-{package}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        done = _run(["apt-get", "download", _checked(package)], cwd=partial)
        files = list(partial.glob("*.deb"))
        if done.returncode or not files:
            reason = next((line for line in done.stderr.splitlines() if line.startswith("E:")), "not fetched")
            raise PackageGone(f"package {package}: {reason}")
        return Path(shutil.move(files[0], cache / files[0].name))
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def package_version(deb: Path) -> str:
    """Return a `.deb` file's version, or "" when it has none to tell."""
    return _run(["dpkg-deb", "--field", str(deb), "Version"]).stdout.strip()


def unpack(deb: Path, folder: Path) -> None:
    """Unpack a `.deb` without installing it, and the plain zip archives inside it.

    Each archive becomes a folder of its own name, so that the paths of its files tell where they were.

    Raises:
        DataError: dpkg-deb cannot read the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = _run(["dpkg-deb", "--extract", str(deb), str(folder)])
    if done.returncode:
        raise DataError(
            f"{deb.name} cannot be unpacked: {' '.join(done.stderr.split()) or 'dpkg-deb failed'}"
        )
    for archive in sorted(
        p for p in folder.rglob("*") if p.suffix.lower() in ARCHIVE_SUFFIXES and p.is_file()
    ):
        if archive.is_symlink() or not zipfile.is_zipfile(archive):
            continue
        inside = archive.with_name(archive.name + ".d")
        with zipfile.ZipFile(archive) as opened:
            # extract() strips absolute paths and "..", so nothing lands outside the folder.
            for member in opened.infolist():
                if Path(member.filename).suffix.lower() in AUDIO_SUFFIXES:
                    opened.extract(member, inside)
    for archive in sorted(folder.rglob("queen.1c")):
        unpack_queen(archive, archive.with_name(archive.name + ".d"))


def audio_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield `(path inside the package, file)` of every audio file, sorted, links left out."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file() and not path.is_symlink():
            yield "/" + path.relative_to(folder).as_posix(), path


def _checked(package: str) -> str:
    if not _NAME.fullmatch(package):
        raise DataError(f"{package!r} is not a Debian package name")
    return package


def _run(command: list[str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        raise DataError(f"{command[0]} is not installed; the corpus is built on Debian or Ubuntu") from None
