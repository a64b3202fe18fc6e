"""Files made of chunks (WAV, RF64, W64, AIFF, CAF): a walk over them that does not trust lengths.

Writers that cannot go back leave the length of the audio open, recorders that lose power leave it 0, and a
32-bit length is wrong above 4 GiB. So a length is believed only if what stands behind that many bytes
is another chunk, or the end.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from ...errors import AudioReadError
from ..ranges import ByteSource, Span
from .parts import check_rest, end_of_tags, short_of

MAX_CHUNKS = 65_536
# Lengths that stand for "not known": the largest that fit, and those that sox and arecord write to pipes.
_OPEN_32 = (0xFFFF_FFFF, 0xFFFF_FFFE, 0x8000_0000, 0x7FFF_FFFF, 0x7FFF_FFFE, 0x7FFF_F000, 0x7FFF_FF00)
_OPEN_64 = (0xFFFF_FFFF_FFFF_FFFF, 0x7FFF_FFFF_FFFF_FFFF)


@dataclass(frozen=True)
class ChunkStyle:
    """How a container writes its chunks.

    Attributes:
        kind: the container.
        head: of a chunk: its name and its length.
        counts_head: the length includes the head.
        align: chunks begin at multiples of this many bytes.
        data: name of the chunk with the audio.
        known: names of chunks that may follow it.
        before: bytes of that chunk ahead of the audio.
        wraps: lengths above 4 GiB are written modulo 4 GiB.
        files: names that begin another file of this kind.
    """

    kind: str
    head: struct.Struct
    data: bytes
    known: frozenset[bytes]
    counts_head: bool = False
    align: int = 2
    before: int = 0
    wraps: bool = True
    files: frozenset[bytes] = frozenset()


@dataclass
class Chunks:
    """The chunks of a file.

    Attributes:
        first: where the first chunk of each name lies, without its head.
        audio: the stretches with audio.
        missing: why they are not all that they are said to be.
        trusted: the lengths in the file are right, so that other programs read the same from it.
    """

    first: dict[bytes, Span] = field(default_factory=dict)
    audio: list[Span] = field(default_factory=list)
    missing: str = ""
    trusted: bool = True


class ChunkWalker:
    """Walks over the chunks of one file.

    Args:
        source: the file.
        style: how its chunks are written.
        at: where the first chunk begins.
        origin: where the container begins.
    """

    def __init__(self, source: ByteSource, style: ChunkStyle, at: int, origin: int) -> None:
        self._source, self._style = source, style
        self._at, self._origin = at, origin

    def walk(self, audio_bytes: int | None = None, block: int = 1) -> Chunks:
        """Return the chunks.

        Args:
            audio_bytes: length of the audio where the container keeps it in another place.
            block: bytes of a sample frame, where it is known ahead; open lengths are multiples of it.

        Raises:
            AudioReadError: there is no audio chunk, or what follows it may be audio as well.
        """
        found = Chunks()
        source, style, at = self._source, self._style, self._at
        for _ in range(MAX_CHUNKS):
            head = self._head(at)
            if head is None:
                break
            name, size = head
            start = at + style.head.size
            if name == style.data:
                at = self._audio(found, start, size if audio_bytes is None else audio_bytes, block)
                if at < 0:
                    return found
                continue
            if name in style.files and found.audio:
                raise AudioReadError(f"another {style.kind} file begins at byte {at}; split them")
            if start + size > source.size and name not in style.known:
                break
            found.first.setdefault(name, Span(start, start + size))
            at = self._next(start, size)
        else:
            raise AudioReadError(f"more than {MAX_CHUNKS} chunks")
        if not found.audio:
            raise AudioReadError(f"truncated or damaged: no audio is found in its {source.size} bytes")
        check_rest(source, at, "the audio")
        return found

    def _head(self, at: int) -> tuple[bytes, int] | None:
        """Return name and length of the chunk at a byte, None if there is none."""
        style = self._style
        head = self._source.at(at, style.head.size)
        if len(head) < style.head.size:
            return None
        name, size = style.head.unpack(head)
        if not all(32 <= byte < 127 for byte in name[:4]):
            return None
        if style.counts_head:
            size -= style.head.size
            if size < 0:
                return None
        return name, size

    def _next(self, start: int, size: int) -> int:
        """Return where the chunk after one begins; some writers leave the filling byte out."""
        style = self._style
        end = start + size
        aligned = self._origin + -(-(end - self._origin) // style.align) * style.align
        if aligned != end and self._follows(end) and not self._follows(aligned):
            return end
        return aligned

    def _follows(self, at: int) -> bool:
        """Tell whether the file ends at a byte, or another chunk begins there."""
        rest = self._source.size - at
        if rest <= 0:
            return True
        head = self._head(at)
        if head is None:
            return False
        name, size = head
        if name in self._style.known or name in self._style.files or name == self._style.data:
            return True
        return size <= rest - self._style.head.size

    def _audio(self, found: Chunks, start: int, stated: int, block: int) -> int:
        """Take an audio chunk in; return where the next chunk begins, -1 if there can be none."""
        source, style = self._source, self._style
        found.first.setdefault(style.data, Span(start, start + stated))
        first = start + style.before
        stated = max(0, stated - style.before)
        held = max(0, source.size - first)
        if stated <= held and (stated or not held or self._follows(first)):
            following = self._next(start, stated + style.before)
            if self._follows(following) or end_of_tags(source, following) > following:
                found.audio.append(Span(first, first + stated))
                return following
        if not stated or self._open(stated, first, block):
            found.audio.append(Span(first, source.size))
            found.trusted = False
            return -1
        if stated > held:
            found.audio.append(Span(first, source.size))
            found.missing = short_of(stated, held)
            return -1
        if style.wraps and held - stated >= 1 << 32:
            stated += (held - stated) >> 32 << 32
            found.trusted = False
        found.audio.append(Span(first, first + stated))
        return self._next(start, stated + style.before)

    def _open(self, stated: int, first: int, block: int) -> bool:
        """Tell whether a length stands for one that was not known when it was written."""
        ends = first - self._origin
        values = _OPEN_32 if self._style.wraps else (*_OPEN_64, _OPEN_32[0])
        own = self._style.before + (self._style.head.size if self._style.counts_head else 0)
        return any(
            stated in (value, value - own, value - value % block, value - ends, value - ends + 8)
            for value in values
        )
