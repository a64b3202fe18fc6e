"""MPEG audio (MP3, MP2): its frames, one after the other, since no header tells how many there are.

A file may be several joined ones. Each begins with tags or an information frame (Xing, Info, VBRI), which is
no audio but tells how many samples the encoder put before and behind the sound.

Source: ISO/IEC 11172-3, section 2.4; the LAME tag specification, revision 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...errors import AudioReadError
from ..ranges import ByteSource, Piece, Span, Zeros
from .mpeg_frame import Frame, frame_at, frame_from, frame_of
from .parts import MAX_PARTS, Contents, MpegFrames, Part, check_rest, end_of_tags

MARK_EVERY = 64
# What a decoder adds to the delay that encoders write down.
_DECODER_DELAY = 529
_LEADING_JUNK = 1 << 16
# Frames decoded ahead of a place in the middle, for what they sound on.
_LEAD = 4
# Frames, or a divisor of them, after which the ring buffer of a decoder's filter is where it was.
_FILTER_TURN = 8
_BLOCK = 1 << 16


@dataclass
class _Run:
    """Frames of one kind without a gap: their kind, what an information frame ahead of them says, the first
    frame's header, how many there are, the largest, where they end, and where each 64th begins."""

    like: tuple[int, int, int, bool]
    samples: int
    info: bytes = b""
    header: bytes = b""
    count: int = 0
    largest: int = 0
    end: int = 0
    marks: list[int] = field(default_factory=list)


def find_first(source: ByteSource, origin: int, anywhere: bool) -> int:
    """Return where MPEG audio begins, -1 if a file is none.

    Args:
        source: the file.
        origin: first byte behind the tags at its beginning.
        anywhere: look behind up to 64 KiB of other bytes as well.
    """
    first = frame_at(source, origin, source.size)
    if first is not None:
        behind = origin + first.size
        following = frame_at(source, behind, source.size)
        if (following is not None and following.like == first.like) or behind >= source.size:
            return origin
        if end_of_tags(source, behind) > behind:
            return origin
    return _resync(source, origin + 1, min(source.size, origin + _LEADING_JUNK), 3) if anywhere else -1


def examine(source: ByteSource, spans: list[Span], kind: str = "MP3") -> Contents:
    """Say what a stream of MPEG audio holds.

    Args:
        source: the file.
        spans: where its frames lie.
        kind: the container.

    Raises:
        AudioReadError: what follows the frames may be audio as well, or there are too many joined files.
    """
    parts: list[Part] = []
    missing = ""
    for span in spans:
        runs, lost = _runs(source, span)
        missing = missing or lost
        for run in runs:
            part, lost = _part(run)
            missing = missing or lost
            if part is not None:
                parts.append(part)
    return Contents(kind, tuple(parts), missing)


def frames_from(source: ByteSource, part: Part, first: int) -> tuple[tuple[Piece, ...], int]:
    """Return what a decoder has to read to give a part's samples from one on, and how many it gives before.

    A frame of layer III uses up to 511 bytes of those before it and sounds on into the next. So decoding
    begins some frames ahead, behind a silent frame that carries just these bytes.
    """
    frames = part.mpeg
    assert frames is not None
    wanted = part.skip + first
    target = wanted // frames.samples - _LEAD
    # At the same place in the turns of the decoder's filter, so that sums are taken in the same order.
    behind_silence = frames.header[1] >> 1 & 3 == 1  # layer III; see _silent_frame
    target -= (target - behind_silence) % _FILTER_TURN
    if target < MARK_EVERY:
        return part.pieces, wanted
    span = part.pieces[0]
    assert isinstance(span, Span)
    number = (target // MARK_EVERY - 1) * MARK_EVERY
    at = frames.marks[number // MARK_EVERY]
    bits = b""
    while number < target:
        frame = frame_at(source, at, span.end)
        if frame is None:
            raise AudioReadError(f"has changed while it was read, at byte {at}")
        if target - number <= MARK_EVERY:
            bits += source.at(at, frame.size)[_side_info_end(source.at(at, 4), frame) :]
        at += frame.size
        number += 1
    silence = _silent_frame(frames.header, bits)
    behind = Zeros((span.end - at) // 24 * max(len(silence), 24) + 64 * 2048)
    surplus = wanted - (target - bool(silence)) * frames.samples
    return (silence, Span(at, span.end), behind), surplus


def _side_info_end(head: bytes, frame: Frame) -> int:
    return frame.info_at + (0 if head[1] & 1 else 2)


def _silent_frame(header: bytes, bits: bytes) -> bytes:
    """Return the longest frame of layer III that fits a header, without sound but with the bits that the
    frame behind it looks back for; nothing for other layers."""
    word = int.from_bytes(header, "big") & ~0xF200 | 0x1_E000
    frame = frame_from(word >> 6)
    if frame is None or frame.like[1] != 3:
        return b""
    room = frame.size - frame.info_at
    return word.to_bytes(4, "big") + bytes(frame.info_at - 4) + bits[-room:].rjust(room, b"\0")


def _runs(source: ByteSource, span: Span) -> tuple[list[_Run], str]:
    """Return the runs of frames in a stretch, and what is missing."""
    at, end = span
    runs: list[_Run] = []
    run: _Run | None = None
    names = _InfoNames(source, span)
    while at < end:
        frame = frame_at(source, at, end)
        if frame is None:
            behind = min(end_of_tags(source, at), end)
            if behind > at:
                at, run = behind, None
                continue
            following = _resync(source, at + 1, end, 2)
            if following < 0 and runs and end - at < 4 and source.at(at, 1) == b"\xff":
                return runs, f"its last frame has {end - at} bytes"
            if following < 0:
                if end == source.size and runs:
                    check_rest(source, at, "the last frame")
                break
            if runs:
                return runs, f"{following - at} bytes at byte {at} are no frame"
            at = following
            continue
        if at + frame.size > end:
            if run is None or frame.like != run.like:
                break
            return runs, f"its last frame has {end - at} of {frame.size} bytes"
        is_info = names.inside(at, frame)
        if run is None or run.like != frame.like or is_info:
            if len(runs) == MAX_PARTS:
                raise AudioReadError(f"more than {MAX_PARTS} files joined")
            run = _Run(frame.like, frame.samples)
            runs.append(run)
        if is_info:
            run.info = source.at(at + frame.info_at, 160)
            at += frame.size
        else:
            at = _follow(source, at, end, names.following, run)
    return runs, ""


def _follow(source: ByteSource, at: int, end: int, info: int, run: _Run) -> int:
    """Add a frame to a run, and those behind it up to the first that is none, another kind, cut, or has byte `info`."""
    like, marks = run.like, run.marks
    count, largest = run.count, run.largest
    block, begin = b"", at
    stop = end
    while at + 4 <= end:
        offset = at - begin
        head = block[offset : offset + 4]
        if len(head) < 4:
            block, begin = source.at(at, _BLOCK), at
            head = block[:4]
            if len(head) < 4:
                break
        frame = frame_of(head)
        if frame is None or frame[2] != like:
            break
        size = frame[0]
        if at + size > stop:
            break
        if count % MARK_EVERY == 0:
            marks.append(at)
            run.header = run.header or head
        count += 1
        if size > largest:
            largest = size
        at += size
        stop = min(end, info)
    run.count, run.largest, run.end = count, largest, at
    return at


class _InfoNames:
    """Tells which frames are information frames, by one search ahead rather than a look into each.

    Attributes:
        following: where the next name stands that may be one of an information frame.
    """

    def __init__(self, source: ByteSource, span: Span) -> None:
        self._source, self._end = source, span.end
        self._places = {name: self._find(name, span.start) for name in (b"Xing", b"Info", b"VBRI")}
        self.following = min(self._places.values())

    def inside(self, at: int, frame: Frame) -> bool:
        """Tell whether the frame at a byte is one; called for frames in their order."""
        end = at + frame.size
        found = False
        for name, place in self._places.items():
            while place < end and not found:
                found = place - at == (36 if name == b"VBRI" else frame.info_at) and frame.like[1] == 3
                place = self._places[name] = self._find(name, max(at, place + 1))
        self.following = min(self._places.values())
        return found

    def _find(self, name: bytes, start: int) -> int:
        found = self._source.find(name, start, self._end)
        return self._end if found < 0 else found


def _part(run: _Run) -> tuple[Part | None, str]:
    """Return a run as a part, and what it lacks."""
    if not run.count:
        return None, "its first frame tells of others, which are not there" if run.info else ""
    samples = run.samples
    skip = cut = 0
    missing = ""
    stated, n_bytes, delay, padding = _information(run.info)
    if stated:
        # Some encoders count the information frame itself.
        whole = run.count >= stated or (run.count == stated - 1 and n_bytes <= run.end - run.marks[0])
        if not whole:
            missing = f"{run.count} of {stated} frames are there"
        elif run.count <= stated:
            cut = max(0, padding - _DECODER_DELAY)
    if delay or padding:
        skip = delay + _DECODER_DELAY
    n_frames = run.count * samples - skip - cut
    if n_frames <= 0:
        return None, missing
    pieces: list[Piece] = [Span(run.marks[0], run.end)]
    if run.count == 1:  # a decoder needs a second one
        pieces.append(pieces[0])
    # The decoder guesses the length from the first frame and the size, and stops there: let it guess too much.
    pieces.append(Zeros(max(0, run.count * run.largest - (run.end - run.marks[0])) + 64 * run.largest))
    mpeg = MpegFrames(run.header, samples, tuple(run.marks))
    return Part(tuple(pieces), n_frames=n_frames, skip=skip, mpeg=mpeg), missing


def _information(info: bytes) -> tuple[int, int, int, int]:
    """Return what an information frame says: frames, bytes, samples before the sound and behind it."""
    if len(info) < 120 or info[:4] not in (b"Xing", b"Info"):
        return 0, 0, 0, 0
    flags = int.from_bytes(info[4:8], "big")
    at, values = 8, [0, 0]
    for index in (0, 1):
        if flags >> index & 1:
            values[index] = int.from_bytes(info[at : at + 4], "big")
            at += 4
    at += (100 if flags & 4 else 0) + (4 if flags & 8 else 0)
    if len(info) < at + 24 or not info[at : at + 4].isalpha():
        return values[0], values[1], 0, 0
    both = int.from_bytes(info[at + 21 : at + 24], "big")
    return values[0], values[1], both >> 12, both & 0xFFF


def _resync(source: ByteSource, start: int, end: int, in_a_row: int) -> int:
    """Return where the next frame begins that is followed by others like it, or the end; -1 for nowhere."""
    at = start
    while (at := source.find(b"\xff", at, end)) >= 0:
        if _leads_on(source, at, in_a_row):
            return at
        at += 1
    return -1


def _leads_on(source: ByteSource, at: int, in_a_row: int) -> bool:
    like = None
    for _ in range(in_a_row):
        frame = frame_at(source, at, source.size)
        if frame is None or (like is not None and frame.like != like):
            return False
        like = frame.like
        at += frame.size
    return at <= source.size
