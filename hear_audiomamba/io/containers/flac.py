"""FLAC: how many samples there are, from its last frame, since a header written to a pipe does not say.

Source: RFC 9639.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ...errors import AudioReadError
from ..ranges import ByteSource, Piece, Span
from .parts import MAX_PARTS, Contents, Part, check_format, check_rest

_MAX_BLOCKS = 10_000
_MAX_TRIES = 16
_WINDOW = 1 << 16
_SIZES = {1: 192, 2: 576, 3: 1152, 4: 2304, 5: 4608, **{n: 256 << n - 8 for n in range(8, 16)}}
_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3")


class _Info(NamedTuple):
    """What a STREAMINFO block says, and where it lies."""

    at: int
    block: int
    largest: int
    total: int
    audio: int


def examine(source: ByteSource, origin: int) -> Contents:
    """Say what a FLAC file holds: one part for each of the files joined in it.

    Args:
        source: the file.
        origin: where its first four letters stand.

    Raises:
        AudioReadError: the header is damaged, or what follows the last frame may be audio as well.
    """
    parts: list[Part] = []
    missing = ""
    start = origin
    while start < source.size:
        info = _header(source, start)
        if info is None:
            missing = missing or "the file ends within its header"
            break
        following = _next_file(source, info.audio)
        part, lost = _part(source, start, info, following)
        missing = missing or lost
        parts += [part] if part is not None else []
        if len(parts) > MAX_PARTS:
            raise AudioReadError(f"more than {MAX_PARTS} files joined")
        start = following
    return Contents("FLAC", tuple(parts), missing)


def _header(source: ByteSource, start: int) -> _Info | None:
    at = start + 4
    info: _Info | None = None
    for _ in range(_MAX_BLOCKS):
        head = source.at(at, 4)
        if len(head) < 4:
            return None
        size = int.from_bytes(head[1:4], "big")
        if head[0] & 0x7F == 0 and info is None:
            body = source.at(at + 4, 34)
            if len(body) < 34:
                return None
            packed = int.from_bytes(body[10:18], "big")
            check_format((packed >> 41 & 7) + 1, packed >> 44)
            least, most = int.from_bytes(body[:2], "big"), int.from_bytes(body[2:4], "big")
            frame = int.from_bytes(body[7:10], "big") or most * ((packed >> 41 & 7) + 1) * 4 + 64
            block = most if least == most else 0
            info = _Info(at + 4, block, frame, packed & 0xF_FFFF_FFFF, 0)
        at += 4 + size
        if head[0] & 0x80:
            if info is None:
                raise AudioReadError("its header is broken: no STREAMINFO block")
            return info._replace(audio=at) if at <= source.size else None
    raise AudioReadError(f"more than {_MAX_BLOCKS} blocks ahead of the audio")


def _next_file(source: ByteSource, start: int) -> int:
    """Return where the next joined FLAC file begins, or the end."""
    at = start
    while (at := source.find(b"fLaC", at)) >= 0:
        if source.at(at + 4, 4) in (b"\x00\x00\x00\x22", b"\x80\x00\x00\x22"):
            return at
        at += 4
    return source.size


def _part(source: ByteSource, start: int, info: _Info, end: int) -> tuple[Part | None, str]:
    """Return the file that begins at a byte as a part, and what it lacks."""
    if info.audio >= end:
        return None, f"none of {info.total} samples are there" if info.total else ""
    held, end = _samples_held(source, info, end)
    total, missing = held, ""
    if not held:
        # What is left of it ends where the decoder says.
        total = info.total or (1 << 36) - 1
        missing = "its last frame is cut" + (f"; the header says {total} samples" if info.total else "")
    elif held < info.total:
        missing = f"{held} of {info.total} samples are there"
    pieces: tuple[Piece, ...] = (Span(start, end),)
    if total != info.total:
        packed = int.from_bytes(source.at(info.at + 10, 8), "big") >> 36 << 36 | total
        pieces = (Span(start, info.at + 10), packed.to_bytes(8, "big"), Span(info.at + 18, end))
    return Part(pieces, n_frames=total), missing


def _samples_held(source: ByteSource, info: _Info, end: int) -> tuple[int, int]:
    """Return how many samples end with the last frame before byte `end`, 0 if it is not whole, and where it ends."""
    start = max(info.audio, end - max(_WINDOW, 2 * info.largest))
    data = source.at(start, end - start)
    tries = 0
    at = len(data)
    while (at := data.rfind(b"\xff", 0, at)) >= 0 and tries < _MAX_TRIES:
        frame = _frame(data, at, info)
        if frame is None:
            continue
        tries += 1
        held = sum(frame)
        latest = 0
        for latest in _sound_ends(data, at):
            if start + latest == end or data.startswith(_TAGS, latest):
                return held, start + latest
        if latest and held == info.total:  # so this is the last one, whatever follows
            check_rest(source, start + latest, "the last frame", end)
            return held, end
    return 0, end


def _sound_ends(data: bytes, at: int) -> Iterator[int]:
    """Yield where the frame that begins at a place may end, by its check sum: its own end is among them."""
    table = _crc16_table()
    crc = 0
    for index in range(at, len(data)):
        crc = (crc << 8 & 0xFF00) ^ table[crc >> 8 ^ data[index]]
        if crc == 0 and index > at + 5:
            yield index + 1


def _frame(data: bytes, at: int, info: _Info) -> tuple[int, int] | None:
    """Return first sample and number of samples of the frame at a place, None if there is none."""
    if len(data) < at + 6 or data[at + 1] & 0xFE != 0xF8:
        return None
    size_code, rate_code = data[at + 2] >> 4, data[at + 2] & 15
    if size_code == 0 or rate_code == 15 or data[at + 3] & 1 or data[at + 3] >> 4 > 10:
        return None
    number, behind = _number(data, at + 4)
    if number < 0:
        return None
    if size_code in (6, 7):
        samples = int.from_bytes(data[behind : behind + size_code - 5], "big") + 1
        behind += size_code - 5
    else:
        samples = _SIZES[size_code]
    behind += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if behind >= len(data) or _crc8(data[at:behind]) != data[behind]:
        return None
    variable = data[at + 1] & 1
    return (number if variable else number * (info.block or samples)), samples


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Return a number written as UTF-8 writes letters, and where it ends; -1 if it is none."""
    first = data[at]
    if first < 0x80:
        return first, at + 1
    count = 8 - (first ^ 0xFF).bit_length()
    if not 2 <= count <= 7 or len(data) < at + count:
        return -1, at
    value = first & 0x7F >> count
    for byte in data[at + 1 : at + count]:
        if byte & 0xC0 != 0x80:
            return -1, at
        value = value << 6 | byte & 0x3F
    return value, at + count


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc << 1 ^ 0x107 if crc & 0x80 else crc << 1
    return crc


_TABLE: list[int] = []


def _crc16_table() -> list[int]:
    """Return the table of the check sum over a frame: polynomial x¹⁶ + x¹⁵ + x² + 1."""
    if not _TABLE:
        for byte in range(256):
            crc = byte << 8
            for _ in range(8):
                crc = crc << 1 ^ 0x18005 if crc & 0x8000 else crc << 1
            _TABLE.append(crc)
    return _TABLE
