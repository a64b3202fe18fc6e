"""Containers with one short header: AU, NIST Sphere, and the rarer ones that libsndfile reads."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Literal

from ...errors import AudioReadError
from ..ranges import ByteSource, Span
from .parts import Contents, Linear, Part, check_format, check_rest, linear_part, short_of

_AU = {
    1: ("ULAW", 1), 2: ("PCM_S8", 1), 3: ("PCM_16", 2), 4: ("PCM_24", 3), 5: ("PCM_32", 4),
    6: ("FLOAT", 4), 7: ("DOUBLE", 8), 27: ("ALAW", 1),
}  # fmt: skip
_AU_OPEN = 0xFFFF_FFFF
_MAX_STEPS = 65_536
# Kinds of block of a VOC that last: sound in three forms, and silence.
_VOC_SOUND = (1, 2, 3, 9)
# The chunk of an 8SVX file that says that there are two channels, and where it is looked for.
_SVX_STEREO, _SVX_HEAD = b"CHAN\0\0\0\4\0\0\0\6", 1 << 12


def examine_au(source: ByteSource, origin: int) -> Contents:
    """Say what an AU file holds; `origin` is where its header begins.

    Raises:
        AudioReadError: the header is damaged, or what follows the audio may be audio as well.
    """
    head = source.at(origin, 24)
    big = head[:4] == b".snd"
    if len(head) < 24:
        raise AudioReadError(f"truncated: the file ends within its header, at {source.size} bytes")
    start, stated, codec, rate, channels = struct.unpack(">5I" if big else "<5I", head[4:])
    check_format(channels, rate)
    if start < 24 or origin + start > source.size:
        raise AudioReadError(f"its header is broken: audio from byte {start} on")
    span, missing = Span(origin + start, source.size), ""
    known = stated not in (0, _AU_OPEN)
    if known and stated > span.size:
        missing = short_of(stated, span.size)
    elif known and (span.size - stated) % (1 << 32):
        check_rest(source, span.start + stated, "the audio")
        span = Span(span.start, span.start + stated)
    if codec in _AU:
        subtype, width = _AU[codec]
        return Contents("AU", linear_part([span], Linear(subtype, width, big, channels, rate)), missing)
    if not span.size:
        return Contents("AU", ())
    return Contents("AU", (Part((Span(origin, span.end),)),), missing)


def examine_nist(source: ByteSource, origin: int) -> Contents:
    """Say what a NIST Sphere file holds; `origin` is where its header begins.

    Raises:
        AudioReadError: the header is damaged, or what follows the audio may be audio as well.
    """
    text = source.at(origin, 1 << 14).decode("latin-1")
    try:
        start = int(text.split("\n", 2)[1])
        words = [line.split(None, 2) for line in text[:start].splitlines()[2:]]
        fields = {word[0]: word[2].strip() for word in words if len(word) == 3}
        channels, rate = int(fields.get("channel_count", 1)), int(fields["sample_rate"])
        count, width = int(fields["sample_count"]), int(fields["sample_n_bytes"])
    except (ValueError, KeyError, IndexError):
        raise AudioReadError("its header is broken: fields are missing") from None
    check_format(channels, rate)
    coding = fields.get("sample_coding", "pcm")
    subtypes = {"pcm": {1: "PCM_S8", 2: "PCM_16", 3: "PCM_24", 4: "PCM_32"}, "ulaw": {1: "ULAW"}, "mu-law": {1: "ULAW"},
                "alaw": {1: "ALAW"}}  # fmt: skip
    subtype = subtypes.get(coding, {}).get(width)
    if subtype is None or count < 0:
        raise AudioReadError(f"NIST Sphere of coding {coding!r} with {width} bytes a sample cannot be read")
    big = fields.get("sample_byte_format", "01") != "01"
    begin, stated = origin + start, count * channels * width
    held = max(0, source.size - begin)
    missing = short_of(stated, held) if held < stated else ""
    if not missing:
        check_rest(source, begin + stated, "the audio")
    span = Span(begin, begin + min(stated, held))
    return Contents("NIST", linear_part([span], Linear(subtype, width, big, channels, rate)), missing)


def examine_voc(source: ByteSource, origin: int) -> Contents:
    """Say what a VOC file holds; `origin` is where its header begins.

    Raises:
        AudioReadError: there are too many blocks, or what follows the last one may be audio as well.
    """
    at = origin + int.from_bytes(source.at(origin + 20, 2), "little")
    with_audio = 0
    for _ in range(_MAX_STEPS):
        block = source.at(at, 4)
        # libsndfile leaves the end mark out, so that another byte ends the file as well.
        if not block or block[0] == 0 or block[0] > 9:
            at += block[:1] == b"\0"
            break
        with_audio += block[0] in _VOC_SOUND
        at += 4 + int.from_bytes(block[1:4], "little")
    else:
        raise AudioReadError(f"more than {_MAX_STEPS} blocks")
    missing = f"{source.size} of {at} bytes are there" if at > source.size else ""
    if not missing:
        check_rest(source, at, "the audio")
    # libsndfile takes the heads of the blocks behind the first for audio.
    decoder: Literal["soundfile", "av"] = "soundfile" if with_audio < 2 else "av"
    kind = "VOC" if with_audio < 2 else "VOC of several blocks"
    return Contents(kind, (Part((Span(origin, min(at, source.size)),), decoder),), missing)


def examine_rare(source: ByteSource, origin: int) -> Contents | None:
    """Say what a file of one of libsndfile's rarer containers holds, None for a file of another kind.

    Of PAF, PVF and IRCAM, which do not tell their length, all that is there is read.

    Raises:
        AudioReadError: the header is damaged.
    """
    head = source.at(origin, 132)
    for kind, magic, at, end_of in _RARE:
        if head[at : at + len(magic)] == magic:
            end = source.size if end_of is None else end_of(source, origin, head)
            missing = f"{source.size} of {end} bytes are there" if end > source.size else ""
            if not missing:
                check_rest(source, end, "the audio")
            # libsndfile takes the channels, which lie one behind the other, for interleaved ones.
            apart = kind == "8SVX" and source.find(_SVX_STEREO, origin, origin + _SVX_HEAD) >= 0
            decoder: Literal["soundfile", "av"] = "av" if apart else "soundfile"
            return Contents(kind, (Part((Span(origin, min(end, source.size)),), decoder),), missing)
    count = int.from_bytes(head[:4], "big")
    if head[8:12] == b"\0\2\0\0" and source.size - origin == 12 + 2 * count:
        return Contents("HTK", (Part((Span(origin, source.size),)),))
    return None


def _svx(source: ByteSource, origin: int, head: bytes) -> int:
    return origin + 8 + int.from_bytes(head[4:8], "big")


def _avr(source: ByteSource, origin: int, head: bytes) -> int:
    stereo, bits = head[12:14] != b"\0\0", int.from_bytes(head[14:16], "big")
    return origin + 128 + int.from_bytes(head[26:30], "big") * (1 + stereo) * (bits // 8)


def _wve(source: ByteSource, origin: int, head: bytes) -> int:
    return origin + 32 + int.from_bytes(head[18:22], "big")


def _mpc(source: ByteSource, origin: int, head: bytes) -> int:
    return origin + 42 + int.from_bytes(head[26:30], "little") * 2 * (1 + head[21])


# Kind, the bytes that tell it and where they stand, and what returns where the file ends; None where it does not say.
_RARE: tuple[tuple[str, bytes, int, Callable[[ByteSource, int, bytes], int] | None], ...] = (
    ("8SVX", b"8SVX", 8, _svx),
    ("16SV", b"16SV", 8, _svx),
    ("AVR", b"2BIT", 0, _avr),
    ("Psion WVE", b"ALawSoundFile**\0", 0, _wve),
    ("MPC 2000", b"\x01\x04", 0, _mpc),
    *(("PAF", magic, 0, None) for magic in (b" paf", b"fap ")),
    ("PVF", b"PVF1\n", 0, None),
    *(("IRCAM", b"\x64\xa3" + bytes([kind, 0]), 0, None) for kind in (1, 2, 3)),
    *(("IRCAM", bytes([0, kind]) + b"\xa3\x64", 0, None) for kind in (1, 2, 3)),
)
