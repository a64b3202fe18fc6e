"""Ogg: its pages, the streams they belong to, and the files that may be joined in it.

Source: RFC 3533 (Ogg), RFC 7845 (Opus in Ogg).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ...errors import AudioReadError
from ..ranges import ByteSource, Span
from .parts import MAX_PARTS, Contents, Part, check_rest

_HEAD = struct.Struct("<4sBBqIIIB")
_BEGINS, _ENDS = 2, 4
_MAX_SPANS = 200_000
_MAX_GAPS = 1000
_AUDIO = {
    b"\x01vorbis": ("Ogg Vorbis", "soundfile"),
    b"OpusHead": ("Ogg Opus", "soundfile"),
    b"\x7fFLAC": ("Ogg FLAC", "av"),
    b"Speex   ": ("Ogg Speex", "av"),
    b"OggPCM": ("OggPCM", "av"),
}


class _Page(NamedTuple):
    flags: int
    granule: int
    serial: int
    number: int
    end: int
    body: int


@dataclass
class _Stream:
    """One stream of a link: its pages as stretches of the file."""

    serial: int
    codec: bytes
    spans: list[Span] = field(default_factory=list)
    granule: int = 0
    number: int = 0
    ended: bool = False

    def add(self, at: int, page: _Page) -> int:
        """Take a page in; return how many pages are missing before it."""
        lost = (page.number - self.number) & 0xFFFF_FFFF if self.spans else 0
        self.number = (page.number + 1) & 0xFFFF_FFFF
        if self.spans and self.spans[-1].end == at:
            self.spans[-1] = Span(self.spans[-1].start, page.end)
        else:
            self.spans.append(Span(at, page.end))
            if len(self.spans) > _MAX_SPANS:
                raise AudioReadError(f"its streams alternate more than {_MAX_SPANS} times")
        if page.granule > 0:
            self.granule = page.granule
        self.ended = self.ended or bool(page.flags & _ENDS)
        return lost


def examine(source: ByteSource, origin: int) -> Contents:
    """Say what an Ogg file holds: one part for each of the files joined in it.

    Args:
        source: the file.
        origin: where the first page begins.

    Raises:
        AudioReadError: there is no audio stream, or what follows the last page may be audio as well.
    """
    streams, missing = _streams(source, origin)
    if not streams and not missing:
        raise AudioReadError("Ogg without an audio stream")
    parts = [_part(stream) for stream in streams if stream.granule > 0]
    kinds = {_AUDIO[stream.codec][0] for stream in streams}
    return Contents(kinds.pop() if len(kinds) == 1 else "Ogg", tuple(parts), missing)


def _part(stream: _Stream) -> Part:
    # libsndfile comes out up to a block away from where it was sent in Vorbis, and Opus needs some time to settle.
    decoder: Literal["soundfile", "av"] = "av" if _AUDIO[stream.codec][1] == "av" else "soundfile"
    return Part(tuple(stream.spans), decoder, exact_seek=False)


def _streams(source: ByteSource, origin: int) -> tuple[list[_Stream], str]:
    """Return the audio stream of each link, and what is missing."""
    at, missing = origin, ""
    found: list[_Stream] = []
    link: dict[int, _Stream | None] = {}
    beginning = False
    gaps = 0
    while at < source.size:
        page = _page(source, at)
        if page is None:
            following = source.find(b"OggS", at + 1)
            if following < 0:
                check_rest(source, at, "the last page")
                break
            gaps += 1
            if gaps > _MAX_GAPS:
                raise AudioReadError(f"damaged in more than {_MAX_GAPS} places")
            missing = missing or f"{following - at} bytes at byte {at} are no page"
            at = following
            continue
        if page.end > source.size:
            missing = missing or f"its last page has {source.size - at} of {page.end - at} bytes"
            break
        if page.flags & _BEGINS:
            if not beginning:  # what follows is another file
                missing = missing or _not_ended(link)
                link = {}
            beginning = True
            codec = _codec(source.at(page.body, 8))
            stream = _Stream(page.serial, codec) if codec else None
            if stream is not None and not any(link.values()):
                found.append(stream)
                if len(found) > MAX_PARTS:
                    raise AudioReadError(f"more than {MAX_PARTS} files joined")
            else:
                stream = None
            link[page.serial] = stream
        else:
            beginning = False
        own = link.get(page.serial)
        if own is not None:
            lost = own.add(at, page)
            if lost:
                missing = missing or f"pages are missing before byte {at}"
        at = page.end
    return found, missing or _not_ended(link)


def _not_ended(link: dict[int, _Stream | None]) -> str:
    """Return the message for a link whose audio does not end as it should."""
    cut = any(stream is not None and not stream.ended for stream in link.values())
    return "no page is marked as the end of its stream" if cut else ""


def _page(source: ByteSource, at: int) -> _Page | None:
    head = source.at(at, _HEAD.size)
    if head[:4] != b"OggS"[: len(head[:4])] or not head:
        return None
    if len(head) < _HEAD.size:  # cut within the head
        return _Page(0, 0, 0, 0, source.size + 1, source.size)
    _, version, flags, granule, serial, number, _, count = _HEAD.unpack(head)
    if version:
        return None
    body = at + _HEAD.size + count
    sizes = source.at(at + _HEAD.size, count)
    end = body + sum(sizes) if len(sizes) == count else source.size + 1
    return _Page(flags, granule, serial, number, end, body)


def _codec(head: bytes) -> bytes:
    return next((name for name in _AUDIO if head.startswith(name)), b"")
