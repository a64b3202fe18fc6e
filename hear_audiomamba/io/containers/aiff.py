"""AIFF, AIFF-C and CAF: what audio they hold, in which codec."""

from __future__ import annotations

import math
import struct
from dataclasses import replace

from ...errors import AudioReadError
from ..ranges import ByteSource, Span
from .chunks import Chunks, ChunkStyle, ChunkWalker
from .parts import Contents, Linear, Part, check_format, linear_part

_AIFF = ChunkStyle(
    "AIFF",
    struct.Struct(">4sI"),
    b"SSND",
    frozenset({
        b"MARK", b"INST", b"COMT", b"NAME", b"AUTH", b"(c) ", b"ANNO", b"ID3 ", b"APPL", b"MIDI", b"AESD",
        b"COMM", b"FVER", b"PEAK", b"CHAN", b"basc", b"trns", b"cate",
    }),
    before=8,
    files=frozenset((b"FORM",)),
)  # fmt: skip
_CAF = ChunkStyle(
    "CAF",
    struct.Struct(">4sQ"),
    b"data",
    frozenset({
        b"pakt", b"info", b"chan", b"kuki", b"strg", b"mark", b"regn", b"inst", b"ovvw", b"peak", b"uuid",
        b"edct", b"midi", b"umid", b"free",
    }),
    align=1,
    before=4,
    wraps=False,
    files=frozenset((b"caff",)),
)  # fmt: skip
# Codec: (name for libsndfile, bytes of a sample, big-endian); sizes of whole numbers are in the header.
_CODECS = {
    b"fl32": ("FLOAT", 4, True), b"FL32": ("FLOAT", 4, True), b"fl64": ("DOUBLE", 8, True),
    b"FL64": ("DOUBLE", 8, True), b"alaw": ("ALAW", 1, True), b"ALAW": ("ALAW", 1, True),
    b"ulaw": ("ULAW", 1, True), b"ULAW": ("ULAW", 1, True), b"in24": ("PCM_24", 3, True),
    b"in32": ("PCM_32", 4, True), b"42ni": ("PCM_24", 3, False), b"23ni": ("PCM_32", 4, False),
    b"raw ": ("PCM_U8", 1, True),
}  # fmt: skip
_WHOLE = {1: "PCM_S8", 2: "PCM_16", 3: "PCM_24", 4: "PCM_32"}
_SOUNDFILE = (b"ima4", b"GSM ", b"DWVW", b"alac")


def looks_like(head: bytes) -> bool:
    """Tell whether a file that begins so is one of these."""
    return (head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC")) or head[:4] == b"caff"


def examine(source: ByteSource, origin: int) -> Contents:
    """Say what an AIFF or CAF file holds.

    Args:
        source: the file.
        origin: where the container begins.

    Raises:
        AudioReadError: the header is damaged.
    """
    head = source.at(origin, 12)
    return _caf(source, origin) if head[:4] == b"caff" else _aiff(source, origin, head)


def _aiff(source: ByteSource, origin: int, head: bytes) -> Contents:
    found = ChunkWalker(source, _AIFF, origin + 12, origin).walk()
    comm = source.at(found.first.get(b"COMM", Span(0, 0)).start, 22) if b"COMM" in found.first else b""
    if len(comm) < 18:
        raise AudioReadError("its header is broken: no COMM chunk")
    channels, _, bits = struct.unpack(">HIH", comm[:8])
    rate = _extended(comm[8:18])
    check_format(channels, rate)
    codec = comm[18:22] if head[8:12] == b"AIFC" else b"NONE"
    offset = int.from_bytes(source.at(found.first[b"SSND"].start, 4), "big")
    spans = [Span(min(span.start + offset, span.end), span.end) for span in found.audio[:1]] + found.audio[1:]
    if codec in (b"NONE", b"twos", b"sowt"):
        width = -(-bits // 8)
        if width not in _WHOLE:
            raise AudioReadError(f"its header is broken: samples of {bits} bits")
        linear = Linear(_WHOLE[width], width, codec != b"sowt", channels, round(rate))
    elif codec in _CODECS:
        subtype, width, big = _CODECS[codec]
        linear = Linear(subtype, width, big, channels, round(rate))
    else:
        return _as_it_is(source, origin, "AIFF", codec, found)
    return Contents("AIFF", linear_part(spans, linear), found.missing)


def _caf(source: ByteSource, origin: int) -> Contents:
    found = ChunkWalker(source, _CAF, origin + 8, origin).walk()
    desc = source.at(found.first[b"desc"].start, 32) if b"desc" in found.first else b""
    if len(desc) < 32:
        raise AudioReadError("its header is broken: no desc chunk")
    rate, codec, flags, packet, in_packet, channels, bits = struct.unpack(">d4sIIIII", desc)
    if not math.isfinite(rate):
        raise AudioReadError(f"sample rate {rate} Hz")
    check_format(channels, rate)
    if codec == b"lpcm":
        width = packet // channels
        kinds = {4: "FLOAT", 8: "DOUBLE"} if flags & 1 else _WHOLE
        if width not in kinds or packet % channels:
            raise AudioReadError(
                f"its header is broken: {packet} bytes for {channels} samples of {bits} bits"
            )
        linear = Linear(kinds[width], width, not flags & 2, channels, round(rate))
    elif codec in (b"alaw", b"ulaw"):
        linear = Linear(codec.decode().upper(), 1, True, channels, round(rate))
    else:
        found_here = _as_it_is(source, origin, "CAF", codec, found)
        packets = source.at(found.first[b"pakt"].start, 24) if b"pakt" in found.first else b""
        if len(packets) < 24 or not found_here.parts:
            return found_here
        count, valid, priming, _ = struct.unpack(">QQII", packets)
        if codec == b"alac" and not priming and valid == count * in_packet:
            # Whole packets were counted, as FFmpeg did before 6; the last one says itself that it is shorter.
            return replace(found_here, parts=(replace(found_here.parts[0], decoder="av"),))
        if codec == b"opus" and not priming:
            return found_here  # FFmpeg before 6 counts 120 samples for a packet, however long it is
        return replace(found_here, parts=(replace(found_here.parts[0], n_frames=valid, skip=priming),))
    return Contents("CAF", linear_part(found.audio, linear), found.missing)


def _as_it_is(source: ByteSource, origin: int, kind: str, codec: bytes, found: Chunks) -> Contents:
    """Return a file that a decoder has to read by its own header, which must be right for that."""
    if not any(span.size for span in found.audio):
        return Contents(kind, ())
    if not found.trusted:
        raise AudioReadError(f"its length is not known, and its codec {codec!r} cannot be read without it")
    part = Part((Span(origin, source.size),), "soundfile" if codec in _SOUNDFILE else "av")
    return Contents(kind, (part,), found.missing)


def _extended(data: bytes) -> float:
    """Return the value of an 80-bit floating-point number."""
    sign, mantissa = struct.unpack(">HQ", data)
    exponent = (sign & 0x7FFF) - 16383 - 63
    if sign & 0x8000 or not -63 - 16383 < exponent < 64:
        raise AudioReadError("its header is broken: no sample rate")
    return math.ldexp(mantissa, exponent)
