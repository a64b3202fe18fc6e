"""Containers that only the second decoder reads: which one a file is, and whether it is cut."""

from __future__ import annotations

from typing import NamedTuple

from ..ranges import ByteSource, Span
from .parts import Contents, Part

# What the second decoder adds to what libsndfile reads: other audio files, and video files with sound.
MEDIA_EXTENSIONS = frozenset(
    (
        ".3gp",
        ".aac",
        ".ac3",
        ".amr",
        ".ape",
        ".asf",
        ".avi",
        ".dts",
        ".flv",
        ".m4a",
        ".m4b",
        ".m4v",
        ".mka",
        ".mkv",
    )
    + (
        ".mov",
        ".mp4",
        ".mpc",
        ".mpeg",
        ".mpg",
        ".ogv",
        ".spx",
        ".tak",
        ".ts",
        ".tta",
        ".webm",
        ".wma",
        ".wmv",
        ".wv",
    )
)
_MAX_BOXES = 65_536


class _Magic(NamedTuple):
    """Bytes that tell a container, where they stand, and its name."""

    at: int
    begin: bytes
    kind: str


_MAGIC = (
    _Magic(4, b"ftyp", "MPEG-4"),
    _Magic(4, b"moov", "MPEG-4"),
    _Magic(4, b"wide", "QuickTime"),
    _Magic(4, b"mdat", "MPEG-4"),
    _Magic(0, b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    _Magic(0, bytes.fromhex("3026b2758e66cf11"), "WMA (ASF)"),
    _Magic(8, b"AVI ", "AVI"),
    _Magic(0, b"FLV\x01", "FLV"),
    _Magic(0, b"wvpk", "WavPack"),
    _Magic(0, b"MAC ", "Monkey's Audio"),
    _Magic(0, b"TTA1", "TTA"),
    _Magic(0, b"tBaK", "TAK"),
    _Magic(0, b"MP+", "Musepack"),
    _Magic(0, b"MPCK", "Musepack"),
    _Magic(0, b"DSD ", "DSF"),
    _Magic(0, b"FRM8", "DSDIFF"),
    _Magic(0, b"#!AMR", "AMR"),
    _Magic(0, b".RMF", "RealMedia"),
    _Magic(0, b"ADIF", "AAC"),
    _Magic(0, b"\x0b\x77", "AC-3"),
    _Magic(0, b"\x7f\xfe\x80\x01", "DTS"),
    _Magic(0, b"\x00\x00\x01\xba", "MPEG program stream"),
)


def examine(source: ByteSource, origin: int) -> Contents | None:
    """Say which of these containers a file is, None for none of them.

    Args:
        source: the file.
        origin: first byte behind the tags at its beginning.
    """
    head = source.at(origin, 16)
    kind = next((m.kind for m in _MAGIC if head[m.at : m.at + len(m.begin)] == m.begin), None)
    missing = ""
    if kind in ("MPEG-4", "QuickTime"):
        missing = _boxes(source, origin)
    elif kind == "Matroska or WebM":
        missing = _elements(source, origin)
    elif kind == "AVI":
        missing = _whole(source, origin + 8 + int.from_bytes(head[4:8], "little"))
    elif kind == "WMA (ASF)":
        missing = _objects(source, origin)
    elif kind is None and _is_adts(source, origin):
        kind, missing = "AAC", _adts(source, origin)
    elif kind is None and head[:1] == b"\x47" and source.at(origin + 188, 1) == b"\x47":
        kind = "MPEG transport stream"
    if kind is None:
        return None
    return Contents(kind, (Part((Span(0, source.size),), "av"),), missing)


def _whole(source: ByteSource, end: int) -> str:
    return f"{source.size} of {end} bytes are there" if end > source.size else ""


def _boxes(source: ByteSource, at: int) -> str:
    """Return what the boxes of an MPEG-4 file lack."""
    names = set()
    for _ in range(_MAX_BOXES):
        head = source.at(at, 16)
        if len(head) < 8:
            break
        size = int.from_bytes(head[:4], "big")
        if size == 1 and len(head) == 16:
            size = int.from_bytes(head[8:], "big")
        elif size == 0:
            size = source.size - at
        if size < 8 or not head[4:8].isascii():
            break
        names.add(head[4:8])
        at += size
        if at > source.size:
            return _whole(source, at)
    return "" if names & {b"moov", b"moof"} else "it has no table of its contents (moov)"


def _elements(source: ByteSource, at: int) -> str:
    """Return what the segment and the clusters of a Matroska file lack."""
    inside = {0x18538067}  # a segment is a list of elements, not skipped
    for _ in range(_MAX_BOXES):
        if at >= source.size:
            break
        name, behind = _number(source, at, keep=True)
        size, behind = _number(source, behind)
        if name < 0 or size < 0:
            return "its last element is cut" if source.size - at < 12 else ""
        open_end = size == (1 << 7 * (behind - at - _width(source, at))) - 1
        if not open_end and behind + size > source.size:
            return _whole(source, behind + size)
        if name in inside or open_end:
            at = behind
        else:
            at = behind + size
    return ""


def _width(source: ByteSource, at: int) -> int:
    first = source.at(at, 1)
    return 9 - first[0].bit_length() if first and first[0] else 0


def _number(source: ByteSource, at: int, keep: bool = False) -> tuple[int, int]:
    """Return a number of Matroska's and where it ends; -1 for none."""
    width = _width(source, at)
    data = source.at(at, width)
    if not width or len(data) < width:
        return -1, at
    value = int.from_bytes(data, "big")
    return value if keep else value & (1 << 7 * width) - 1, at + width


def _objects(source: ByteSource, origin: int) -> str:
    """Return what an ASF file lacks by the size that its properties give."""
    properties = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
    limit = origin + min(1 << 20, int.from_bytes(source.at(origin + 16, 8), "little"))
    found = source.find(properties, origin, limit)
    if found < 0:
        return ""
    size = int.from_bytes(source.at(found + 40, 8), "little")
    broadcast = int.from_bytes(source.at(found + 88, 4), "little") & 1
    return "" if broadcast else _whole(source, origin + size)


def _is_adts(source: ByteSource, at: int) -> bool:
    for _ in range(2):
        size = _adts_size(source, at)
        if not size:
            return False
        at += size
        if at >= source.size:
            break
    return True


def _adts(source: ByteSource, at: int) -> str:
    while size := _adts_size(source, at):
        if at + size > source.size:
            return f"its last frame has {source.size - at} of {size} bytes"
        at += size
    return ""


def _adts_size(source: ByteSource, at: int) -> int:
    """Return the bytes of the AAC frame at a place, 0 if there is none."""
    head = source.at(at, 7)
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return 0
    size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return size if size >= 7 else 0
