"""WAV, RF64 and W64: what audio they hold, in which codec."""

from __future__ import annotations

import struct

from ...errors import AudioReadError
from ..ranges import ByteSource, Piece, Span
from . import mpeg
from .chunks import Chunks, ChunkStyle, ChunkWalker
from .parts import Contents, Linear, Part, check_format, linear_part

_NAMES = frozenset({
    b"LIST", b"list", b"fact", b"fmt ", b"cue ", b"plst", b"smpl", b"inst", b"bext", b"iXML", b"axml", b"aXML",
    b"chna", b"PEAK", b"levl", b"id3 ", b"ID3 ", b"JUNK", b"junk", b"PAD ", b"pad ", b"FLLR", b"_PMX", b"cart",
    b"umid", b"DISP", b"acid", b"afsp", b"minf", b"elm1", b"elmo", b"regn", b"ovwf", b"strc", b"slnt", b"note",
})  # fmt: skip
_RIFF = ChunkStyle(
    "WAV", struct.Struct("<4sI"), b"data", _NAMES, files=frozenset((b"RIFF", b"RIFX", b"RF64", b"BW64"))
)
_RIFX = ChunkStyle("WAV", struct.Struct(">4sI"), b"data", _NAMES, files=_RIFF.files)
_RF64 = ChunkStyle("RF64", struct.Struct("<4sI"), b"data", _NAMES, wraps=False, files=_RIFF.files)

_W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")
_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_W64_LIST = bytes.fromhex("6c6973742f91cf11a5d628db04c10000")
_W64 = ChunkStyle(
    "W64",
    struct.Struct("<16sQ"),
    b"data" + _W64_TAIL,
    frozenset(
        (_W64_LIST, *(name + _W64_TAIL for name in (b"fact", b"levl", b"junk", b"bext", b"mark", b"summ")))
    ),
    counts_head=True,
    align=8,
    wraps=False,
    files=frozenset((_W64_RIFF,)),
)

_LINEAR = {
    (1, 1): "PCM_U8", (1, 2): "PCM_16", (1, 3): "PCM_24", (1, 4): "PCM_32",
    (3, 4): "FLOAT", (3, 8): "DOUBLE", (6, 1): "ALAW", (7, 1): "ULAW",
}  # fmt: skip
_WIDE = (1, 8)  # only the second decoder reads these
_MPEG = (0x50, 0x55)
# IMA and Microsoft ADPCM, GSM 6.10, NMS ADPCM, G.721: libsndfile decodes them.
_SOUNDFILE = (0x02, 0x11, 0x31, 0x38, 0x40)
_GSM = 0x31
_SUBFORMATS = (bytes.fromhex("000000001000800000aa00389b71"), bytes.fromhex("00002107d3118644c8c1ca000000"))


def looks_like(head: bytes) -> bool:
    """Tell whether a file that begins so is one of these."""
    riff = head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE"
    return riff or head[:16] == _W64_RIFF


def examine(source: ByteSource, origin: int) -> Contents:
    """Say what a WAV, RF64 or W64 file holds.

    Args:
        source: the file.
        origin: where the container begins.

    Raises:
        AudioReadError: the header is damaged.
    """
    head = source.at(origin, 40)
    if head[:16] == _W64_RIFF:
        style, at = _W64, origin + 40
    else:
        style, at = {b"RIFX": _RIFX, b"RIFF": _RIFF}.get(head[:4], _RF64), origin + 12
    big = style is _RIFX
    found = ChunkWalker(source, style, at, origin).walk(
        _rf64_bytes(source, at) if style is _RF64 else None, _block(source, at, big)
    )
    name = b"fmt " if style is not _W64 else b"fmt " + _W64_TAIL
    if name not in found.first or found.first[name].start > found.first[style.data].start:
        raise AudioReadError("its header is broken: no format stands before the audio")
    span = found.first[name]
    return _contents(source, style.kind, found, source.at(span.start, min(span.size, 1 << 12)), big)


def _rf64_bytes(source: ByteSource, at: int) -> int | None:
    """Return the length of the audio that an RF64 keeps in its first chunk; the data chunk's own is a filler."""
    head = source.at(at, 36)
    return int.from_bytes(head[16:24], "little") if head[:4] == b"ds64" and len(head) >= 24 else None


def _block(source: ByteSource, at: int, big: bool) -> int:
    """Return the bytes of a sample frame if the format is the first chunk, as it nearly always is."""
    head = source.at(at, 24)
    block = int.from_bytes(head[20:22], "big" if big else "little")
    return block if head[:4] == b"fmt " and block else 1


def _contents(source: ByteSource, kind: str, found: Chunks, form: bytes, big: bool) -> Contents:
    if len(form) < 14:
        raise AudioReadError(f"its header is broken: a format of {len(form)} bytes")
    order = ">" if big else "<"
    tag, channels, rate, _, block = struct.unpack(f"{order}HHIIH", form[:14])
    bits = struct.unpack(f"{order}H", form[14:16])[0] if len(form) >= 16 else 8
    if tag == 0xFFFE and len(form) >= 40 and form[26:40] in _SUBFORMATS:
        tag = struct.unpack(f"{order}H", form[24:26])[0]
    check_format(channels, rate)
    width = block // channels if block and block % channels == 0 else -(-bits // 8)
    subtype = _LINEAR.get((tag, width))
    if subtype is not None:
        linear = Linear(subtype, width, big, channels, rate)
        return Contents(kind, linear_part(found.audio, linear), found.missing)
    if tag in _MPEG:
        held = mpeg.examine(source, found.audio, f"MP3 in {kind}")
        return Contents(held.kind, held.parts, found.missing or held.missing)
    if not any(span.size for span in found.audio):
        return Contents(kind, ())
    if tag in (1, 3) and (tag, width) != _WIDE:
        what = "whole numbers" if tag == 1 else "floating-point numbers"
        raise AudioReadError(f"{what} of {width} bytes a sample cannot be read")
    size = sum(span.size for span in found.audio)
    # libsndfile takes the filling byte behind an odd number of them for a block more.
    n_frames = size // block * 320 if tag == _GSM and block else None
    part = Part(_rebuilt(form, found, big), "soundfile" if tag in _SOUNDFILE else "av", n_frames)
    return Contents(kind, (part,), found.missing)


def _rebuilt(form: bytes, found: Chunks, big: bool) -> tuple[Piece, ...]:
    """Return the audio behind a new header whose lengths are true."""
    size = sum(span.size for span in found.audio)
    if size >= 0xFFFF_F000:
        raise AudioReadError(f"{size} bytes of a codec that cannot be read above 4 GiB")
    words = ">I" if big else "<I"
    head = b"fmt " + struct.pack(words, len(form)) + form + bytes(len(form) % 2)
    head += b"data" + struct.pack(words, size)
    riff = (b"RIFX" if big else b"RIFF") + struct.pack(words, 4 + len(head) + size) + b"WAVE"
    spans: list[Span] = found.audio
    return (riff + head, *spans)
