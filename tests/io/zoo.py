"""Audio files of every container and codec that libsndfile writes, and the states that files come in.

Everything is made from a few lines of arithmetic, so that it needs no recordings and no other program.
"""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soundfile

RATE, COUNT = 16000, 12345

# Container: its codecs.
CODECS = {
    "WAV": "PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW IMA_ADPCM MS_ADPCM GSM610 NMS_ADPCM_32",
    "WAVEX": "PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW",
    "RF64": "PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW",
    "W64": "PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW IMA_ADPCM MS_ADPCM GSM610",
    "AIFF": "PCM_S8 PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW IMA_ADPCM GSM610",
    "AU": "PCM_S8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW G721_32 G723_24 G723_40",
    "CAF": "PCM_S8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ULAW ALAW ALAC_16 ALAC_24",
    "FLAC": "PCM_S8 PCM_16 PCM_24",
    "OGG": "VORBIS OPUS",
    "MP3": "MPEG_LAYER_III",
    "NIST": "PCM_S8 PCM_16 PCM_24 PCM_32 ULAW ALAW",
    "VOC": "PCM_U8 PCM_16 ULAW ALAW",
    "SVX": "PCM_S8 PCM_16",
    "AVR": "PCM_S8 PCM_16",
    "MPC2K": "PCM_16",
    "WVE": "ALAW",
    "HTK": "PCM_16",
    "PAF": "PCM_16",
    "PVF": "PCM_16",
    "IRCAM": "PCM_16",
}
# Codecs of one channel.
MONO = frozenset(("GSM610", "NMS_ADPCM_32", "G721_32", "G723_24", "G723_40")) | {"IMA_ADPCM AIFF"}
MONO_CONTAINERS = frozenset(("SVX", "WVE", "HTK"))
# Containers that do not tell how long they are: what is there is all.
OPEN_ENDED = frozenset(("PAF", "PVF", "IRCAM"))
# Files of these, one behind the other, are one recording for every player.
JOINABLE = frozenset(("FLAC", "OGG", "MP3"))


@dataclass(frozen=True)
class Animal:
    """A file, and what is to become of it.

    Attributes:
        name: container, codec, channels, state.
        data: the file.
        samples: what it holds, mono; None where it has to be refused.
        reason: words of the refusal.
    """

    name: str
    data: bytes
    samples: np.ndarray | None
    reason: str = ""


def signal(channels: int = 1, count: int = COUNT, seed: int = 0) -> np.ndarray:
    """Return a rising tone in noise `(count, channels)`: no two stretches of it are alike."""
    time = np.arange(count) / RATE
    noise = np.random.default_rng(seed).uniform(-0.2, 0.2, (count, channels))
    return (0.4 * np.sin(2 * np.pi * (200 + 900 * time) * time)[:, None] + noise).astype(np.float32)


def written(container: str, codec: str, channels: int = 1, count: int = COUNT) -> bytes:
    """Return a file that libsndfile writes."""
    held = io.BytesIO()
    rate = 8000 if container == "WVE" else RATE
    soundfile.write(held, signal(channels, count), rate, format=container, subtype=codec)
    return held.getvalue()


def decoded(data: bytes) -> np.ndarray:
    """Return what libsndfile makes of a sound file in one piece, mono."""
    with soundfile.SoundFile(io.BytesIO(data)) as sound:
        frames = sound.frames
        if sound.subtype == "GSM610":  # libsndfile takes a filling byte for a block
            frames = COUNT // 320 * 320 + 320
        return sound.read(frames, dtype="float32", always_2d=True).mean(axis=1)


def whole_files() -> Iterator[tuple[str, str, int]]:
    """Yield container, codec and channels of everything that is written here."""
    for container, codecs in CODECS.items():
        for codec in codecs.split():
            if not soundfile.check_format(container, codec):
                continue
            for channels in (1, 2):
                mono = codec in MONO or f"{codec} {container}" in MONO or container in MONO_CONTAINERS
                if channels == 1 or not mono:
                    yield container, codec, channels


def states(container: str, codec: str, channels: int) -> Iterator[Animal]:
    """Yield a file whole and in the states that need no knowledge of its inside."""
    data = written(container, codec, channels)
    samples = decoded(data)
    name = f"{container} {codec} {channels}"
    yield Animal(f"{name} whole", data, samples)
    if container not in OPEN_ENDED:
        yield Animal(f"{name} cut at 40 %", data[: len(data) * 4 // 10], None)
        yield Animal(f"{name} cut at 99 %", data[: len(data) * 99 // 100], None)
    if container in JOINABLE:
        yield Animal(f"{name} joined", data + data, np.concatenate([samples, samples]))
    elif container not in OPEN_ENDED:
        yield Animal(f"{name} joined", data + data, None)
    if container not in OPEN_ENDED | {"HTK"}:
        for what, rest in TRAILERS.items():
            yield Animal(f"{name} before {what}", data + rest, samples)
    if container != "HTK":
        yield Animal(f"{name} behind an ID3v2 tag", id3v2(1001) + data, samples)


def id3v2(size: int) -> bytes:
    """Return an ID3v2 tag with that many bytes in it."""
    return (
        b"ID3\x04\x00\x00"
        + bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127])
        + bytes(size)
    )


def chunk(name: bytes, body: bytes, pad: bool = True, order: str = "<") -> bytes:
    """Return a RIFF chunk."""
    return name + struct.pack(f"{order}I", len(body)) + body + bytes(len(body) % 2 if pad else 0)


def wav(*chunks: bytes, size: int | None = None) -> bytes:
    """Return a WAV file of these chunks."""
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


TRAILERS = {
    "random bytes": random.Random(0).randbytes(777),
    "zeros": bytes(5000),
    "an ID3v1 tag": b"TAG" + b"title".ljust(125, b"\0"),
    "an APE tag": b"APETAGEX" + struct.pack("<IIII", 2000, 72, 1, 0xA0000000) + bytes(8) + bytes(72),
    "an ID3v2 tag": id3v2(333),
}
FMT = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16))
PCM = (signal()[:, 0] * 32767).astype("<i2")
SAMPLES = PCM.astype(np.float32) / 32768
DATA = PCM.tobytes()
LIST = chunk(b"LIST", b"INFOISFT" + struct.pack("<I", 5) + b"odd \0")


def format_chunk(rate: int = RATE, channels: int = 1, bits: int = 16) -> bytes:
    """Return the format chunk of a WAV file of whole numbers."""
    block = channels * bits // 8
    return chunk(b"fmt ", struct.pack("<HHIIHH", 1, channels, rate, rate * block, block, bits))


def special_files() -> Iterator[Animal]:
    """Yield files whose inside was written or changed by hand."""
    for family in (wav_files, big_wav_files, aiff_files, headed_files, flac_files, mp3_files, ogg_files):
        yield from family()


def open_data(length: int) -> bytes:
    """Return an audio chunk that gives its length as this."""
    return b"data" + struct.pack("<I", length) + DATA


def wav_files() -> Iterator[Animal]:
    data = chunk(b"data", DATA)
    for length in (
        0,
        0xFFFFFFFF,
        0xFFFFFFFF - 36,
        0x7FFFFFFF,
        0x7FFFFFFF - 36,
        0x7FFFF000,
        0x7FFFFF00,
        0x80000000,
    ):
        for size in {0, 0xFFFFFFFF, (length + 36) % 2**32}:
            yield Animal(
                f"WAV length {length:#x} in {size:#x}", wav(FMT, open_data(length), size=size), SAMPLES
            )
    threes = struct.pack("<I", 0x7FFFF000 // 3 * 3)
    yield Animal(
        "WAV sox to a pipe, 24 bits", wav(format_chunk(bits=24), b"data" + threes + as_24(PCM)), SAMPLES
    )
    yield Animal("WAV nothing recorded", wav(FMT, b"data" + bytes(4)), None, "holds no samples")
    yield Animal(
        "WAV nothing recorded, with a title", wav(FMT, b"data" + bytes(4), LIST), None, "holds no samples"
    )
    for length in (len(DATA) + 1, len(DATA) + 2, 3_000_000_000, 2**31 - 2**20):
        yield Animal(f"WAV cut of {length}", wav(FMT, open_data(length)), None, f"header says {length} bytes")
    for name, extra in {
        "an odd LIST": LIST,
        "an odd LIST without filler": LIST[:-1],
        "JUNK": chunk(b"JUNK", bytes(4001)),
        "an unknown one": chunk(b"wxyz", b"abc"),
        "bext": chunk(b"bext", b"x" * 858),
        "a large one": chunk(b"FLLR", bytes(200_000)),
    }.items():
        yield Animal(f"WAV {name} before format", wav(extra, FMT, data), SAMPLES)
        yield Animal(f"WAV {name} before audio", wav(FMT, extra, data), SAMPLES)
        yield Animal(f"WAV {name} behind audio", wav(FMT, data, extra), SAMPLES)
        yield Animal(
            f"WAV {name} cut behind audio", wav(FMT, data, extra)[: -max(1, len(extra) // 3)], SAMPLES
        )
    eight = ((PCM >> 8) + 128).astype(np.uint8)
    rough = (eight.astype(np.float32) - 128) / 128
    eights = format_chunk(bits=8)
    assert len(eight) % 2
    for pad in (True, False):
        word = "with" if pad else "without"
        own = chunk(b"data", eight.tobytes(), pad)
        yield Animal(f"WAV odd audio {word} filler", wav(eights, own), rough)
        yield Animal(f"WAV odd audio {word} filler, then LIST", wav(eights, own, LIST), rough)
    yield Animal("WAV half a sample more", wav(FMT, chunk(b"data", DATA + b"\x01")), SAMPLES)
    halves = chunk(b"data", DATA[:9000]), chunk(b"data", DATA[9000:])
    yield Animal("WAV in two chunks", wav(FMT, halves[0], LIST, halves[1]), SAMPLES)
    yield Animal("WAV in two chunks, the second cut", wav(FMT, *halves)[:-100], None, "truncated")
    yield Animal("WAV with 70,000 chunks", wav(FMT, chunk(b"abcd", b"") * 70_000, data), None, "more than")
    yield Animal(
        "WAV whose length stood still", wav(FMT, b"data" + struct.pack("<I", 4000) + DATA), None, "not count"
    )
    yield Animal("WAV joined with AIFF", wav(FMT, data) + written("AIFF", "PCM_16"), None, "another")
    yield Animal(
        "WAV before 5 KB of noise",
        wav(FMT, data) + random.Random(1).randbytes(5000),
        None,
        "5000 bytes follow",
    )
    yield Animal("WAV without audio", wav(FMT, LIST), None, "no audio")
    yield Animal("WAV cut in the format", wav(FMT, data)[:30], None, "no audio")
    yield Animal("WAV format behind audio", wav(data, FMT), None, "no format")
    rifx = io.BytesIO()
    soundfile.write(rifx, PCM, RATE, format="WAV", subtype="PCM_16", endian="BIG")
    yield Animal("WAV big-endian", rifx.getvalue(), SAMPLES)
    yield Animal("WAV big-endian cut", rifx.getvalue()[:-100], None, "truncated")
    for codec, block in (("MS_ADPCM", 0), ("IMA_ADPCM", 0), ("GSM610", 0)):
        whole = written("WAV", codec)
        at = whole.index(b"data") + 4
        for length in (0, 0xFFFFFFFF):
            changed = whole[:at] + struct.pack("<I", length) + whole[at + 4 :]
            yield Animal(f"WAV {codec} of length {length:#x}", changed, decoded(whole))
        yield Animal(f"WAV {codec} cut", whole[: -block - 300], None, "truncated")
    mp3 = written("MP3", "MPEG_LAYER_III")
    for length in (len(mp3), 0, 0xFFFFFFFF):
        form = chunk(b"fmt ", struct.pack("<HHIIHHHHIHHH", 0x55, 1, RATE, 4000, 1, 0, 12, 1, 0, 144, 1, 0))
        inside = wav(form, b"data" + struct.pack("<I", length) + mp3)
        yield Animal(f"WAV with MP3 of length {length:#x}", inside, decoded(mp3))
        yield Animal(f"WAV with MP3 of length {length:#x}, cut", inside[:-2000], None, "truncated")


def as_24(samples: np.ndarray) -> bytes:
    """Return 16-bit samples as 24-bit ones."""
    return b"".join(b"\0" + value.tobytes() for value in samples)


def big_wav_files() -> Iterator[Animal]:
    rf64 = written("RF64", "PCM_16")
    at = rf64.index(b"ds64") + 16
    samples = decoded(rf64)
    yield Animal("BW64", b"BW64" + rf64[4:], samples)
    for length in (0, 2**64 - 1):
        yield Animal(
            f"RF64 of length {length:#x}", rf64[:at] + struct.pack("<Q", length) + rf64[at + 8 :], samples
        )
    yield Animal(
        "RF64 of 5 GB, cut", rf64[:at] + struct.pack("<Q", 5 * 10**9) + rf64[at + 8 :], None, "truncated"
    )
    w64 = written("W64", "PCM_16")
    at = w64.index(b"data\xf3\xac") + 16
    for length in (24, 2**63 - 1, 2**64 - 1):
        yield Animal(
            f"W64 of length {length:#x}", w64[:at] + struct.pack("<Q", length) + w64[at + 8 :], samples
        )
    yield Animal(
        "W64 of 5 GB, cut", w64[:at] + struct.pack("<Q", 5 * 10**9) + w64[at + 8 :], None, "truncated"
    )
    yield Animal("W64 of length 3", w64[:at] + struct.pack("<Q", 3) + w64[at + 8 :], None, "no audio")


def aiff_files() -> Iterator[Animal]:
    aiff = written("AIFF", "PCM_16")
    at, samples = aiff.index(b"SSND"), decoded(aiff)
    yield Animal("AIFF to a pipe", aiff[: at + 4] + bytes(4) + aiff[at + 8 :], samples)
    yield Animal("AIFF of length 8", aiff[: at + 4] + struct.pack(">I", 8) + aiff[at + 8 :], samples)
    comm = aiff.index(b"COMM")
    head, rest = aiff[12:comm] + aiff[comm + 26 : at], aiff[at:]
    yield Animal("AIFF format behind audio", aiff[:12] + head + rest + aiff[comm : comm + 26], samples)
    name = chunk(b"NAME", b"odd", order=">")
    yield Animal("AIFF odd name before audio", aiff[:at] + name + rest, samples)
    yield Animal("AIFF odd name without filler", aiff[:at] + name[:-1] + rest, samples)
    yield Animal("AIFF odd name behind audio", aiff + name, samples)
    offset = b"SSND" + struct.pack(">III", 8 + 100 + len(DATA), 100, 0) + bytes(100) + rest[16:]
    yield Animal("AIFF audio 100 bytes further on", aiff[:at] + offset, samples)
    caf = written("CAF", "PCM_16")
    at = caf.index(b"data")
    yield Animal("CAF to a pipe", caf[: at + 4] + b"\xff" * 8 + caf[at + 12 :], samples)
    yield Animal("CAF of length 0", caf[: at + 4] + bytes(8) + caf[at + 12 :], samples)
    yield Animal("CAF then info", caf + b"info" + struct.pack(">Q", 4) + bytes(4), samples)
    alac = written("CAF", "ALAC_16")
    yield Animal("CAF ALAC cut", alac[: len(alac) - 500], None, "truncated|malformed")


def headed_files() -> Iterator[Animal]:
    au = written("AU", "PCM_16")
    samples = decoded(au)
    for length in (0, 0xFFFFFFFF):
        yield Animal(f"AU of length {length:#x}", au[:8] + struct.pack(">I", length) + au[12:], samples)
    yield Animal(
        "AU with a note", au[:4] + struct.pack(">I", 32) + au[8:24] + b"a note.\0" + au[24:], samples
    )
    little = io.BytesIO()
    soundfile.write(little, PCM, RATE, format="AU", subtype="PCM_16", endian="LITTLE")
    yield Animal("AU little-endian", little.getvalue(), SAMPLES)
    yield Animal("AU cut in the header", au[:20], None, "within its header")
    nist = written("NIST", "PCM_16")
    yield Animal(
        "NIST big-endian", nist.replace(b"s2 01", b"s2 10")[:1024] + PCM.byteswap().tobytes(), SAMPLES
    )
    yield Animal("NIST of a shortened coding", nist.replace(b"-s3 pcm", b"-s3 xyz"), None, "cannot be read")
    yield Animal("NIST with a damaged header", nist.replace(b"sample_count", b"sample_xxxxx"), None, "broken")


def flac_files() -> Iterator[Animal]:
    flac = written("FLAC", "PCM_16")
    samples = decoded(flac)
    total = int.from_bytes(flac[18:26], "big")
    assert total & 0xFFFFFFFFF == COUNT
    unknown = flac[:18] + (total - COUNT).to_bytes(8, "big") + bytes(16) + flac[42:]
    yield Animal("FLAC to a pipe", unknown, samples)
    yield Animal("FLAC to a pipe, tagged", id3v2(500) + unknown + TRAILERS["an ID3v1 tag"], samples)
    yield Animal("FLAC to a pipe, joined", unknown + flac + unknown, np.concatenate([samples] * 3))
    for share in (0.2, 0.5, 0.9, 0.9999):
        for what, data in (("to a pipe", unknown), ("", flac)):
            yield Animal(f"FLAC {what} cut at {share}", data[: int(len(data) * share)], None, "truncated")
    yield Animal("FLAC cut in the header", flac[:30], None, "within its header")
    yield Animal("FLAC without a frame", flac[: flac.index(b"\xff\xf8")], None, "none of 12345 samples")
    few = flac[:18] + (total - 1000).to_bytes(8, "big") + flac[26:]
    yield Animal("FLAC whose header says too few", few, samples)
    many = flac[:18] + (total + 1000).to_bytes(8, "big") + flac[26:]
    yield Animal("FLAC whose header says too many", many, None, f"{COUNT} of {COUNT + 1000}")
    picture = b"\x06\x03\x0d\x40" + bytes(200_000)
    yield Animal("FLAC with a picture", flac[:4] + b"\x00" + flac[5:42] + picture + flac[42:], samples)


def mp3_files() -> Iterator[Animal]:
    mp3 = written("MP3", "MPEG_LAYER_III")
    samples = decoded(mp3)
    first = frame_size(mp3)
    assert mp3[:first].count(b"Xing") + mp3[:first].count(b"Info") == 1
    bare = mp3[first:]
    # Without its information frame nothing tells which samples are no sound; the rest is as before.
    with_all = plain_mp3(bare)
    yield Animal("MP3 without Xing", bare, with_all)
    yield Animal("MP3 without Xing, joined", bare + bare, plain_mp3(bare + bare))
    tagged = id3v2(700) + mp3 + TRAILERS["an ID3v1 tag"]
    yield Animal("MP3 tagged, joined", tagged * 3, np.concatenate([samples] * 3))
    yield Animal(
        "MP3 joined with a tag between", mp3 + TRAILERS["an APE tag"] + mp3, np.concatenate([samples] * 2)
    )
    yield Animal("MP3 behind zeros", bytes(3000) + mp3, samples)
    for cut in (1, 3, 50, len(bare) // 2):
        yield Animal(f"MP3 cut by {cut}", mp3[:-cut], None, "truncated")
        yield Animal(f"MP3 without Xing cut by {cut}", bare[:-cut], None, "truncated")
    boundary = frame_starts(mp3)[-3]
    yield Animal("MP3 cut between two frames", mp3[:boundary], None, "frames are there")
    middle = frame_starts(mp3)[10]
    hole = mp3[:middle] + random.Random(2).randbytes(frame_size(mp3[middle:])) + mp3[frame_starts(mp3)[11] :]
    yield Animal("MP3 with a hole", hole, None, "no frame|frames are there")
    at = first - len(mp3[:first]) + (mp3.find(b"Xing") if b"Xing" in mp3[:first] else mp3.find(b"Info")) + 8
    count = struct.unpack(">I", mp3[at : at + 4])[0]
    yield Animal(
        "MP3 whose Xing counts 9 more",
        mp3[:at] + struct.pack(">I", count + 9) + mp3[at + 4 :],
        None,
        "frames",
    )


def frame_size(data: bytes) -> int:
    """Return the bytes of the MPEG-2 frame that begins so."""
    kbits = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)[data[2] >> 4]
    return 72_000 * kbits // RATE + (data[2] >> 1 & 1)


def frame_starts(data: bytes) -> list[int]:
    """Return where the frames of an MP3 begin."""
    at, starts = 0, []
    while at < len(data):
        starts.append(at)
        at += frame_size(data[at:])
    return starts


def plain_mp3(data: bytes) -> np.ndarray:
    """Return the samples of all frames: libsndfile reads to the end once its guess of the length is large enough."""
    with soundfile.SoundFile(io.BytesIO(data + data * 2)) as sound:
        samples = sound.read(len(frame_starts(data)) * 576, dtype="float32", always_2d=True)
    return samples.mean(axis=1)


def ogg_files() -> Iterator[Animal]:
    vorbis, opus = written("OGG", "VORBIS"), written("OGG", "OPUS")
    parts = [decoded(vorbis), decoded(opus)]
    other = io.BytesIO()
    soundfile.write(other, signal(2, 9000, seed=4), RATE, format="OGG", subtype="VORBIS")
    parts.append(decoded(other.getvalue()))
    yield Animal("Ogg of three kinds joined", vorbis + opus + other.getvalue(), np.concatenate(parts))
    for codec, data, samples in (("Vorbis", vorbis, parts[0]), ("Opus", opus, parts[1])):
        pages = page_starts(data)
        yield Animal(f"Ogg {codec} cut between two pages", data[: pages[-1]], None, "end of its stream")
        yield Animal(
            f"Ogg {codec} joined, the first cut", data[: pages[-1]] + data, None, "end of its stream"
        )
        yield Animal(f"Ogg {codec} cut in the header", data[: pages[1] - 3], None, "truncated")
        yield Animal(f"Ogg {codec} header only", data[: pages[2]], None, "end of its stream")
        yield Animal(f"Ogg {codec} before a page of noise", data + random.Random(3).randbytes(900), samples)
        if len(pages) > 4:
            yield Animal(
                f"Ogg {codec} a page missing", data[: pages[3]] + data[pages[4] :], None, "pages are missing"
            )
    yield Animal("Ogg beside another stream", beside(vorbis), parts[0])


def page_starts(data: bytes) -> list[int]:
    """Return where the pages of an Ogg file begin."""
    starts = [0]
    while (at := data.find(b"OggS", starts[-1] + 4)) >= 0:
        starts.append(at)
    return starts


def beside(data: bytes) -> bytes:
    """Return an Ogg file with a second stream, which is no audio, between its pages."""
    pages = [data[a:b] for a, b in zip(page_starts(data), [*page_starts(data)[1:], len(data)], strict=True)]
    other = [
        ogg_page(b"fishead\0" + bytes(56), 2, 0),
        *(ogg_page(b"x" * 30, 0, i) for i in range(1, len(pages))),
    ]
    return b"".join(own + more for own, more in zip(pages, other, strict=True))


def ogg_page(body: bytes, flags: int, number: int) -> bytes:
    """Return an Ogg page of a stream numbered 99."""
    page = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, 0, 99, number, 0, 1) + bytes([len(body)]) + body
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x104C11DB7) if crc & 0x80000000 else crc << 1
    return page[:22] + struct.pack("<I", crc) + page[26:]
