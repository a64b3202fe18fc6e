"""What a scan of a file finds: the parts that a decoder can read, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ...errors import AudioReadError
from ..ranges import ByteSource, Piece, Span

MAX_PARTS = 10_000
MAX_CHANNELS = 1024
MAX_SAMPLE_RATE = 3_072_000
_MAX_PADDING = 1 << 12
_FILES = (
    b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"caff", b".snd", b"dns.", b"fLaC", b"OggS", b"NIST_1A", b"riff.",
    b"Creative Voice", b"2BIT", b"ALawSoundFile", b"MATLAB 5.0",
)  # fmt: skip
_MAX_ZEROS = 1 << 26
_MAX_LYRICS = 1 << 16


@dataclass(frozen=True)
class Linear:
    """Samples that lie in the file one by one: how libsndfile names them, and their rate.

    Attributes:
        subtype: "PCM_16", "FLOAT", "ULAW" …
        width: bytes of one sample of one channel.
        big_endian: the order of a sample's bytes.
        channels: how many, interleaved.
        sample_rate: Hz.
    """

    subtype: str
    width: int
    big_endian: bool
    channels: int
    sample_rate: int

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return self.width * self.channels


@dataclass(frozen=True)
class MpegFrames:
    """A run of MPEG audio frames.

    Attributes:
        header: of the first.
        samples: of each frame and channel.
        marks: byte of the source where every `MARK_EVERY`-th frame begins.
    """

    header: bytes
    samples: int
    marks: tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """A stretch of a file that a decoder reads as a file of its own.

    Attributes:
        pieces: what that file holds.
        decoder: which one reads it.
        n_frames: samples of each channel that it must give; None for as many as the decoder says.
        skip: samples the decoder gives ahead of the first of these.
        linear: set where the pieces are nothing but samples.
        mpeg: set where the pieces are nothing but MPEG audio frames.
        exact_seek: the decoder goes to any sample and gives what it gives when it comes there by itself.
    """

    pieces: tuple[Piece, ...]
    decoder: Literal["soundfile", "av"] = "soundfile"
    n_frames: int | None = None
    skip: int = 0
    linear: Linear | None = None
    mpeg: MpegFrames | None = None
    exact_seek: bool = True


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        kind: the container, as users know it.
        parts: in their order; none where there is no sample.
        missing: why this is not all that the file is said to hold; empty where it is.
    """

    kind: str
    parts: tuple[Part, ...]
    missing: str = ""


def linear_part(spans: Sequence[Span], linear: Linear) -> tuple[Part, ...]:
    """Return samples in stretches of a file as one part, or none where they are too few for a frame."""
    n_frames = sum(span.size for span in spans) // linear.frame_bytes
    return (Part(tuple(spans), n_frames=n_frames, linear=linear),) if n_frames else ()


def check_format(channels: int, sample_rate: float) -> None:
    """Refuse a header without channels or sample rate, or with absurd ones.

    Raises:
        AudioReadError: says which and what is allowed.
    """
    if not 0 < sample_rate <= MAX_SAMPLE_RATE:
        raise AudioReadError(f"sample rate {sample_rate:g} Hz, expected 1 to {MAX_SAMPLE_RATE}")
    if not 0 < channels <= MAX_CHANNELS:
        raise AudioReadError(f"{channels} channels, expected 1 to {MAX_CHANNELS}")


def short_of(stated: int, held: int) -> str:
    """Return the message for audio of which the header promises more than is there."""
    return f"the header says {stated} bytes of audio, {held} are there"


def check_rest(source: ByteSource, start: int, what: str, end: int | None = None) -> None:
    """Refuse a file whose audio ends before byte `start`, if what follows may be audio as well.

    Tags, zeros and up to 4 KiB of anything but another audio file are no audio.

    Args:
        source: the file.
        start: first byte behind the audio.
        what: ends there, in words.
        end: where what follows ends; by default with the file.

    Raises:
        AudioReadError: says how much follows.
    """
    end = source.size if end is None else end
    start = end_of_tags(source, start)
    rest = end - start
    if rest > 0 and source.at(start, 16).startswith(_FILES):
        raise AudioReadError(f"another audio file begins at byte {start}; split them")
    if rest <= _MAX_PADDING:
        return
    zeros = rest <= _MAX_ZEROS and not any(block.strip(b"\0") for block in source.blocks(start, end))
    if not zeros:
        raise AudioReadError(
            f"{rest} bytes follow {what} that its header does not count; if they are audio, the length there is wrong"
        )


def end_of_tags(source: ByteSource, at: int) -> int:
    """Return where the tags that begin at byte `at` end: ID3v2, APE, Lyrics3 and ID3v1, in any order."""
    for _ in range(64):
        head = source.at(at, 32)
        if head[:3] == b"ID3":
            at = end_of_id3(head, at)
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            at += 32 + int.from_bytes(head[12:16], "little")
        elif head[:11] == b"LYRICSBEGIN":
            found = source.find(b"LYRICS200", at, at + _MAX_LYRICS)
            if found < 0:
                return at
            at = found + 9
        elif head[:4] == b"TAG+":
            at += 227
        elif head[:3] == b"TAG":
            at += 128
        else:
            return at
    return at


def end_of_id3(head: bytes, at: int) -> int:
    """Return where the ID3v2 tag ends that begins at byte `at` with these ten bytes or more."""
    if len(head) < 10 or any(byte & 0x80 for byte in head[6:10]):
        return at + 3
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return at + 10 + size + (10 if head[5] & 0x10 else 0)
