"""Containers that only the second decoder reads: which one a file is, and whether it is cut."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from ...errors import AudioReadError
from ..ranges import ByteSource, Span
from .parts import Contents, Part, check_rest

# What the second decoder adds to what libsndfile reads: other audio files, and video files with sound.
MEDIA_EXTENSIONS = frozenset({
    ".3gp", ".aac", ".ac3", ".amr", ".ape", ".asf", ".avi", ".dts", ".flv", ".m4a", ".m4b", ".m4v", ".mka",
    ".mkv", ".mov", ".mp4", ".mpc", ".mpeg", ".mpg", ".ogv", ".spx", ".tak", ".ts", ".tta", ".webm", ".wma",
    ".wmv", ".wv",
})  # fmt: skip
_MAX_BOXES = 65_536
# Byte of a packet of a transport stream that says that one begins, and how long it is.
_TS_SYNC, _TS_PACKET = b"\x47", 188


class _Magic(NamedTuple):
    """Bytes that tell a container, where they stand, its name, and what says that it is cut."""

    at: int
    begin: bytes
    kind: str
    lacks: Callable[[ByteSource, int], str]


def examine(source: ByteSource, origin: int) -> Contents | None:
    """Say which of these containers a file is, None for none of them.

    Args:
        source: the file.
        origin: first byte behind the tags at its beginning.

    Raises:
        AudioReadError: what follows the last frame may be audio as well.
    """
    head = source.at(origin, 16)
    found = next(((m.kind, m.lacks) for m in _MAGIC if head[m.at : m.at + len(m.begin)] == m.begin), None)
    if found is None and _adts(source, origin) and _follows(source, origin, _adts):
        found = "AAC", lambda source, at: _frames(source, at, _adts)
    if found is None and head[:1] == _TS_SYNC and source.at(origin + _TS_PACKET, 1) == _TS_SYNC:
        found = "MPEG transport stream", _packets
    if found is None:
        return None
    kind, lacks = found
    return Contents(kind, (Part((Span(0, source.size),), "av"),), lacks(source, origin))


def _whole(source: ByteSource, end: int) -> str:
    return f"{source.size} of {end} bytes are there" if end > source.size else ""


def _ends(source: ByteSource, end: int) -> str:
    """Return what a file lacks that should end at a byte, and refuse audio behind it."""
    check_rest(source, end, "the audio")
    return _whole(source, end)


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
        if head[4:8] == b"ftyp" and b"moov" in names:
            raise AudioReadError(f"another MPEG-4 file begins at byte {at}; split them")
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
    return "" if broadcast else _ends(source, origin + size)


def _follows(source: ByteSource, at: int, size_of: Callable[[ByteSource, int], int]) -> bool:
    """Tell whether a second frame stands behind the one at a byte, or the end."""
    behind = at + size_of(source, at)
    return behind >= source.size or bool(size_of(source, behind))


def _frames(source: ByteSource, at: int, size_of: Callable[[ByteSource, int], int]) -> str:
    """Return what a row of frames lacks that each tell their size."""
    while size := size_of(source, at):
        if at + size > source.size:
            return f"its last frame has {source.size - at} of {size} bytes"
        at += size
    if at < source.size:
        check_rest(source, at, "the last frame")
    return ""


def _adts(source: ByteSource, at: int) -> int:
    """Return the bytes of the AAC frame at a place, 0 if there is none."""
    head = source.at(at, 7)
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return 0
    size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return size if size >= 7 else 0


_AC3_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)


def _ac3(source: ByteSource, at: int) -> int:
    """Return the bytes of the AC-3 or E-AC-3 frame at a place, 0 if there is none."""
    head = source.at(at, 6)
    if len(head) < 6 or head[:2] != b"\x0b\x77":
        return 0
    if head[5] >> 3 > 10:
        return 2 * (((head[2] & 7) << 8 | head[3]) + 1)
    rate, code = head[4] >> 6, head[4] & 63
    if rate == 3 or code >= 2 * len(_AC3_KBITS):
        return 0
    kbits = _AC3_KBITS[code >> 1]
    words = (kbits * 2, kbits * 960 // 441 + (code & 1), kbits * 3)[rate]
    return 2 * words


def _wavpack(source: ByteSource, at: int) -> int:
    head = source.at(at, 8)
    return 8 + int.from_bytes(head[4:], "little") if head[:4] == b"wvpk" and len(head) == 8 else 0


def _flv(source: ByteSource, at: int) -> int:
    """Return the bytes of a tag of an FLV file and the length behind it; ahead of the first is the header."""
    head = source.at(at, 9)
    if head[:4] == b"FLV\x01":
        return int.from_bytes(head[5:9], "big") + 4
    return 15 + int.from_bytes(head[1:4], "big") if len(head) >= 4 and head[0] & 0x1F in (8, 9, 18) else 0


_AMR = {
    b"#!AMR\n": (12, 13, 15, 17, 19, 20, 26, 31, 5, 0, 0, 0, 0, 0, 0, 0),
    b"#!AMR-WB\n": (17, 23, 32, 36, 40, 46, 50, 58, 60, 5, 0, 0, 0, 0, 0, 0),
}


def _amr(source: ByteSource, at: int) -> str:
    head = source.at(at, 9)
    name = next((name for name in _AMR if head.startswith(name)), b"")
    if not name:
        return ""

    def size_of(source: ByteSource, at: int) -> int:
        first = source.at(at, 1)
        return 1 + _AMR[name][first[0] >> 3 & 15] if first else 0

    return _frames(source, at + len(name), size_of)


def _program(source: ByteSource, at: int) -> int:
    """Return the bytes of a packet of an MPEG program stream, 0 if there is none."""
    head = source.at(at, 14)
    if head[:3] != b"\0\0\1" or len(head) < 4:
        return 0
    if head[3] == 0xB9:
        return 4
    if head[3] == 0xBA:
        return 14 + (head[13] & 7) if len(head) == 14 and head[4] & 0xC0 == 0x40 else 12
    return 6 + int.from_bytes(head[4:6], "big")


def _packets(source: ByteSource, origin: int) -> str:
    """Return what the last packet of a transport stream lacks; nothing says which is meant to be the last."""
    over = (source.size - origin) % _TS_PACKET
    return f"its last packet has {over} of {_TS_PACKET} bytes" if over else ""


def _tta(source: ByteSource, at: int) -> str:
    head = source.at(at, 22)
    if len(head) < 22:
        return _whole(source, at + 22)
    rate, count = struct.unpack("<II", head[10:18])
    n_frames = -(-count // max(1, 256 * rate // 245))
    table = at + 22 + 4 * n_frames + 4
    if table > source.size:
        return _whole(source, table)
    sizes = struct.unpack(f"<{n_frames}I", source.at(at + 22, 4 * n_frames))
    return _ends(source, table + sum(sizes))


def _riff(source: ByteSource, at: int) -> str:
    """Return what the lists of an AVI file lack: the first, those that continue it above 1 GiB, joined files."""
    head = source.at(at, 12)
    while head[:4] == b"RIFF" and head[8:] in (b"AVI ", b"AVIX"):
        size = int.from_bytes(head[4:8], "little")
        if size in (0, 0xFFFF_FFFF):
            return ""
        end = at + 8 + size
        at, head = end + size % 2, source.at(end + size % 2, 12)
    return _whole(source, end)


def _by_length(source: ByteSource, at: int) -> str:
    """Return nothing: the decoder compares what it gives with the length in the header."""
    return ""


_MAGIC = (
    _Magic(4, b"ftyp", "MPEG-4", _boxes),
    _Magic(4, b"moov", "MPEG-4", _boxes),
    _Magic(4, b"wide", "QuickTime", _boxes),
    _Magic(4, b"mdat", "MPEG-4", _boxes),
    _Magic(0, b"\x1a\x45\xdf\xa3", "Matroska or WebM", _elements),
    _Magic(0, bytes.fromhex("3026b2758e66cf11"), "WMA (ASF)", _objects),
    _Magic(8, b"AVI ", "AVI", _riff),
    _Magic(0, b"FLV\x01", "FLV", lambda source, at: _frames(source, at, _flv)),
    _Magic(0, b"wvpk", "WavPack", lambda source, at: _frames(source, at, _wavpack)),
    _Magic(0, b"TTA1", "TTA", _tta),
    _Magic(0, b"MAC ", "Monkey's Audio", _by_length),
    _Magic(0, b"tBaK", "TAK", _by_length),
    _Magic(0, b"MP+", "Musepack", _by_length),
    _Magic(0, b"MPCK", "Musepack", _by_length),
    _Magic(0, b"#!AMR", "AMR", _amr),
    _Magic(0, b"\x0b\x77", "AC-3", lambda source, at: _frames(source, at, _ac3)),
    _Magic(0, b"\x00\x00\x01\xba", "MPEG program stream", lambda source, at: _frames(source, at, _program)),
)
