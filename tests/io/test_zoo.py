"""Every file is decoded whole, or refused with the reason: never a part of it as if it were all."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
import soundfile

from hear_audiomamba.archive.decode import DecodeSettings, decode_source
from hear_audiomamba.archive.sources import find_sources
from hear_audiomamba.errors import AudioReadError, TruncatedAudioError
from hear_audiomamba.io.audio import duration_of, iter_audio, load_audio, open_audio

from . import zoo

WHOLE = list(zoo.whole_files())
# libsndfile's decoders give the same float32 in any blocks; the MP3 decoder rounds differently where it begins.
ROUNDING = 4 * np.finfo(np.float32).eps


def read_all(data: bytes, name: str = "file") -> np.ndarray:
    with open_audio(io.BytesIO(data), name=name) as reader:
        samples = np.concatenate(list(reader.blocks(0, None, 4000)))
        assert len(samples) == reader.n_frames
        return samples


def check(animal: zoo.Animal, samples: np.ndarray) -> None:
    assert animal.samples is not None, f"{animal.name}: {len(samples)} samples of a file that is not whole"
    assert len(samples) == len(animal.samples), animal.name
    np.testing.assert_allclose(samples, animal.samples, rtol=0, atol=ROUNDING, err_msg=animal.name)


@pytest.mark.parametrize(("container", "codec", "channels"), WHOLE, ids=lambda v: str(v))
def test_states(container, codec, channels):
    for animal in zoo.states(container, codec, channels):
        if animal.samples is None:
            with pytest.raises(AudioReadError) as error:
                read_all(animal.data, animal.name)
            assert str(error.value).startswith(f"{animal.name}: ") and "\n" not in str(error.value)
        else:
            check(animal, read_all(animal.data, animal.name))


@pytest.mark.parametrize(("container", "codec", "channels"), WHOLE, ids=lambda v: str(v))
def test_ways_in(container, codec, channels, tmp_path):
    """A path, an open file, a pipe, a tar member, a stretch: the same samples each way."""
    data = zoo.written(container, codec, channels)
    expected = zoo.decoded(data)
    path = tmp_path / f"clip.{container.lower()}"
    path.write_bytes(data)
    with open_audio(path) as reader:
        rate = reader.sample_rate
        whole = reader.read(0, len(expected) + 1000)
    np.testing.assert_allclose(whole, expected, rtol=0, atol=ROUNDING)
    assert duration_of(path) == len(whole) / rate
    np.testing.assert_array_equal(np.concatenate(list(iter_audio(path, rate, block_seconds=0.05))), whole)
    np.testing.assert_array_equal(load_audio(Pipe(data), rate), whole)
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        tar.add(path, "clip.wav")  # whatever its ending, the bytes tell
    (source,) = find_sources([tmp_path / "shard.tar"])
    (block,) = decode_source(source, DecodeSettings(rate))
    np.testing.assert_array_equal(block.samples, whole)
    random = np.random.default_rng(0)
    for start in (0, 1, len(whole) - 1, *random.integers(0, len(whole), 6)):
        count = int(random.integers(1, 3000))
        stretch = load_audio(path, rate, start=start / rate, duration=count / rate)
        np.testing.assert_allclose(stretch, whole[start : start + count], rtol=0, atol=ROUNDING)


class Pipe(io.RawIOBase):
    """An open file that cannot go back."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        return self._file.readinto(buffer)


@pytest.mark.parametrize("animal", list(zoo.special_files()), ids=lambda animal: animal.name)
def test_special(animal):
    if animal.samples is None:
        with pytest.raises(AudioReadError, match=animal.reason):
            read_all(animal.data, animal.name)
    else:
        check(animal, read_all(animal.data, animal.name))


@pytest.mark.parametrize("container", ["MP3", "OGG", "FLAC"])
def test_joined_files_of_different_rates(container, tmp_path):
    """The later ones are brought to the rate of the first, in their full length."""
    time = np.arange(16000) / 8000
    tone = 0.4 * np.sin(2 * np.pi * 440 * time)
    second = io.BytesIO()
    soundfile.write(second, tone, 8000, format=container)
    first = zoo.written(
        container, zoo.CODECS[container].split()[-1 if container == "FLAC" else 0], count=32_000
    )
    (tmp_path / "joined").write_bytes(first + second.getvalue())
    assert duration_of(tmp_path / "joined") == pytest.approx(4.0, abs=1e-3)
    samples = load_audio(tmp_path / "joined", zoo.RATE)
    assert abs(len(samples) - 64_000) <= 1
    spectrum = np.abs(np.fft.rfft(samples[40_000:56_000]))
    assert spectrum.argmax() == 440
    later = load_audio(tmp_path / "joined", zoo.RATE, start=2.5, duration=0.5)
    np.testing.assert_allclose(later, samples[40_000:48_000], rtol=0, atol=ROUNDING)


def test_any_flac_is_whole_wherever_a_check_sum_happens_to_fit():
    """Sixteen bits of a check sum are right by chance in one of fifteen frames, before the frame's end."""
    for seed in range(60):
        held = io.BytesIO()
        soundfile.write(held, zoo.signal(1, 9000, seed), zoo.RATE, format="FLAC", subtype="PCM_24")
        assert len(read_all(held.getvalue() + b"more" * 10)) == 9000
        with pytest.raises(AudioReadError):
            read_all(held.getvalue()[:-1])


def test_a_length_that_wrapped_at_4_gib(tmp_path):
    path = tmp_path / "long.wav"
    rate, total = 192_000, 2**32 + 4 * 7_000_001
    with open(path, "wb") as file:  # sparse: takes no room
        file.write(zoo.wav(zoo.format_chunk(rate=rate, channels=2), size=(total + 36) % 2**32))
        file.write(b"data" + (total % 2**32).to_bytes(4, "little") + zoo.DATA[:24000])
        file.seek(total + 44 - 24000)
        file.write(zoo.DATA[:24000])
    if path.stat().st_blocks * 512 > 2**31:
        pytest.skip("needs a file system with sparse files")
    assert duration_of(path) == total / 4 / rate
    expected = zoo.SAMPLES[:12000].reshape(-1, 2).mean(axis=1)
    with open_audio(path) as reader:
        np.testing.assert_array_equal(reader.read(reader.n_frames - 6000, 6000), expected)


def test_what_is_missing_is_told_and_the_rest_can_be_had(tmp_path):
    path = tmp_path / "cut.wav"
    path.write_bytes(zoo.wav(zoo.FMT, zoo.chunk(b"data", zoo.DATA))[:10_044])
    with pytest.raises(
        TruncatedAudioError,
        match=r"cut\.wav: truncated: the header says 24690 bytes of audio, 10000 are there",
    ):
        load_audio(path, zoo.RATE)
    told: list[str] = []
    samples = np.concatenate(list(iter_audio(path, zoo.RATE, on_truncated=told.append)))
    np.testing.assert_array_equal(samples, zoo.SAMPLES[:5000])
    assert told == ["the header says 24690 bytes of audio, 10000 are there"]


@pytest.mark.parametrize(
    "container", ["WAV", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3", "NIST", "VOC"]
)
@pytest.mark.parametrize("share", [0.3, 0.62, 0.97])
def test_the_readable_part_of_a_cut_file(container, share):
    codec = zoo.CODECS[container].split()[1 if container in ("FLAC", "VOC", "NIST", "AU", "CAF") else 0]
    codec = {"WAV": "PCM_24", "AIFF": "PCM_16", "RF64": "FLOAT", "W64": "PCM_16"}.get(container, codec)
    data = zoo.written(container, codec, count=80_000)  # Ogg pages are large
    whole = zoo.decoded(data)
    told: list[str] = []
    blocks = list(iter_audio(io.BytesIO(data[: int(len(data) * share)]), zoo.RATE, on_truncated=told.append))
    part = np.concatenate(blocks)
    assert len(told) == 1
    # What is there, but for a frame or a page that is not whole.
    assert (share - 0.5) * len(whole) < len(part) < (share + 0.05) * len(whole)
    steady = len(part) - (2048 if container in ("OGG", "MP3") else 0)
    np.testing.assert_allclose(part[:steady], whole[:steady], rtol=0, atol=ROUNDING)
