"""The header of a frame of MPEG audio: how long it is, and what of it stays the same within a file.

Source: ISO/IEC 11172-3, section 2.4.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from ..ranges import ByteSource

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_KBITS = {
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


class Frame(NamedTuple):
    """What a frame's header says: bytes, samples of a channel, what stays the same within a file, and where
    an information frame has its name."""

    size: int
    samples: int
    like: tuple[int, int, int, bool]
    info_at: int


def frame_at(source: ByteSource, at: int, end: int) -> Frame | None:
    """Return the frame that begins at a byte of a file, None if none does before byte `end`."""
    head = source.at(at, 4)
    return frame_of(head) if len(head) == 4 and at + 4 <= end else None


@lru_cache(1 << 12)
def frame_of(head: bytes) -> Frame | None:
    """Return the frame that begins with these four bytes, None if none does."""
    if head[0] != 0xFF or head[1] < 0xE0:
        return None
    return frame_from(int.from_bytes(head, "big") >> 6)


def frame_from(bits: int) -> Frame | None:
    """Return what a header says, without its last six bits; None for no header."""
    version, layer = bits >> 13 & 3, 4 - (bits >> 11 & 3)
    rate_index, rate_of = bits >> 4 & 3, bits >> 6 & 15
    if version == 1 or layer == 4 or rate_index == 3 or rate_of in (0, 15):
        return None
    first = version == 3
    rate, kbits = _RATES[version][rate_index], _KBITS[first, layer][rate_of]
    padded, mono = bits >> 3 & 1, bits & 3 == 3
    if layer == 1:
        size, samples = (12_000 * kbits // rate + padded) * 4, 384
    else:
        samples = 1152 if first or layer == 2 else 576
        size = samples // 8 * 1000 * kbits // rate + padded
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return Frame(size, samples, (version, layer, rate_index, mono), 4 + side)
