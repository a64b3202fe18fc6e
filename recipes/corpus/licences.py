"""Which licence a file of a Debian package has, read from the package's machine-readable copyright file."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path, PurePosixPath

NON_COMMERCIAL = re.compile(r"non-?commercial|\bBY-NC|-NC\b|\bNC-", re.IGNORECASE)


class Copyright:
    """The `Files:` paragraphs of one copyright file.

    Args:
        text: the file's text; one that is not in the machine-readable format gives no licences.
    """

    def __init__(self, text: str) -> None:
        self.paragraphs: list[tuple[list[str], str]] = []
        for paragraph in re.split(r"\n\s*\n", text):
            fields = _fields(paragraph)
            if "files" in fields and "license" in fields:
                licence = next((line.strip() for line in fields["license"].splitlines() if line.strip()), "")
                self.paragraphs.append((fields["files"].split(), licence))

    @classmethod
    def of_package(cls, root: Path, package: str) -> Copyright:
        """Read the copyright file of a package unpacked at `root`; none at all gives no licences."""
        path = root / "usr/share/doc" / package / "copyright"
        return cls(path.read_text(encoding="utf-8", errors="replace") if path.is_file() else "")

    def licence(self, path: str) -> str:
        """Return the short licence name for a file, "" when the copyright file does not say.

        Args:
            path: where the file lies in the package. Copyright files name source paths, so a paragraph
                matches when its pattern fits the path or any end of it; the last match holds, as the
                format says.
        """
        parts = PurePosixPath(path).parts
        ends = ["/".join(parts[start:]) for start in range(len(parts))]
        found = ""
        for patterns, licence in self.paragraphs:
            if any(_fits(end, pattern) for pattern in patterns for end in ends):
                found = licence
        return found


def is_non_commercial(licence: str) -> bool:
    """Tell whether a licence name forbids commercial use and leaves no other choice.

    A choice (`GPL-3+ or CC-BY-NC-3.0`) is free as long as one of the alternatives is.
    """
    choices = re.split(r"\s+or\s+|\|", licence, flags=re.IGNORECASE)
    return bool(licence) and all(NON_COMMERCIAL.search(choice) for choice in choices)


def _fields(paragraph: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in paragraph.splitlines():
        start = re.match(r"([A-Za-z-]+):\s*(.*)", line)
        if start:
            name = start.group(1).lower()
            fields[name] = start.group(2)
        elif name:
            fields[name] += "\n" + line.strip()
    return fields


def _fits(path: str, pattern: str) -> bool:
    # The format's wildcards are * and ? only, and * also matches slashes: fnmatch without its brackets.
    return fnmatch.fnmatchcase(path, pattern.removeprefix("./").replace("[", "[[]"))
