"""What an audio file holds, by its own structure: every decoder is told where to read and how much to expect.

Decoders believe headers. A header may say less than there is (a length left open, a second file joined to
the first), or more (a copy that broke off). So the structure is followed to the end of the file here.
"""

from __future__ import annotations

from ...errors import AudioReadError
from ..ranges import ByteSource, Span
from . import aiff, flac, headed, media, mpeg, ogg, wave
from .media import MEDIA_EXTENSIONS
from .parts import Contents, Part, end_of_tags

_LISTS = frozenset((".txt", ".lst", ".list", ".m3u", ".m3u8", ".tsv", ".json"))

__all__ = ["MEDIA_EXTENSIONS", "Contents", "Part", "examine"]


def examine(source: ByteSource, ending: str = "") -> Contents:
    """Say what a file holds.

    Args:
        source: the file.
        ending: of its name, with the dot; only counts where the bytes tell nothing.

    Returns:
        The parts to be decoded one behind the other, and what is missing.

    Raises:
        AudioReadError: the file is damaged, or holds bytes that may be audio or not.
    """
    origin = end_of_tags(source, 0)
    head = source.at(origin, 16)
    if wave.looks_like(head):
        return wave.examine(source, origin)
    if aiff.looks_like(head):
        return aiff.examine(source, origin)
    if head[:4] == b"fLaC":
        return flac.examine(source, origin)
    if head[:4] == b"OggS":
        return ogg.examine(source, origin)
    if head[:4] in (b".snd", b"dns."):
        return headed.examine_au(source, origin)
    if head[:8] == b"NIST_1A\n":
        return headed.examine_nist(source, origin)
    if source.at(origin, 20) == b"Creative Voice File\x1a":
        return headed.examine_voc(source, origin)
    found = headed.examine_rare(source, origin) or media.examine(source, origin)
    if found is not None:
        return found
    is_mpeg = origin > 0 or ending in (".mp3", ".mp2", ".mp1", ".mpga", "")
    first = mpeg.find_first(source, origin, anywhere=is_mpeg)
    if first >= 0:
        return mpeg.examine(source, [Span(first, source.size)])
    if origin >= source.size:
        raise AudioReadError("holds nothing but tags")
    if ending in MEDIA_EXTENSIONS:
        return Contents(f"{ending[1:]} file", (Part((Span(0, source.size),), "av"),))
    lists = "; lists of files are .csv, .jsonl or .parquet with a column path" if ending in _LISTS else ""
    raise AudioReadError(f"Format not recognised{lists}")
