"""Decoding: every format and rate, block by block, and nothing but AudioReadError for what is broken."""

from __future__ import annotations

import io
import os
import struct
import warnings

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_audiomamba.errors import AudioReadError
from hear_audiomamba.io import audio
from hear_audiomamba.io.audio import duration_of, iter_audio, load_audio


@pytest.fixture
def tone(tmp_path):
    """Return a function that writes two seconds of 440 Hz: `tone(ending, rate, channels, **options)`."""

    def write(ending="wav", rate=16000, channels=1, name="tone", **options):
        path = tmp_path / f"{name}.{ending}"
        wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)
        soundfile.write(path, np.repeat(wave[:, None], channels, axis=1), rate, **options)
        return path

    return write


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3", "aiff", "w64", "caf", "au"])
@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (44100, 2), (8000, 1)])
def test_formats_rates_and_channels_give_the_same_tone(tone, ending, rate, channels):
    samples = load_audio(tone(ending, rate, channels), 16000)
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert abs(len(samples) - 32000) <= (2400 if ending == "mp3" else 0)
    middle = samples[8000:24000]
    spectrum = np.abs(np.fft.rfft(middle))
    assert spectrum.argmax() == 440 and abs(np.sqrt(np.mean(middle**2)) - 0.3 / np.sqrt(2)) < 0.01


@pytest.mark.parametrize("rate", [16000, 44100, 11025])
def test_blocks_put_together_are_the_whole(tone, rate):
    path = tone("wav", rate, subtype="FLOAT")
    whole = load_audio(path, 16000)
    for seconds in (0.01, 0.3, 5.0):
        blocks = list(iter_audio(path, 16000, block_seconds=seconds))
        np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_stretches_are_cut_at_the_sample(tone):
    path = tone("wav", subtype="FLOAT")
    whole = load_audio(path, 16000)
    np.testing.assert_array_equal(load_audio(path, 16000, start=0.5, duration=0.25), whole[8000:12000])
    np.testing.assert_array_equal(load_audio(path, 16000, start=1.9, duration=9.0), whole[30400:])
    with pytest.raises(AudioReadError, match="start 2 s lies beyond the end, 2 s"):
        load_audio(path, 16000, start=2.0)


def test_open_files_and_durations(tone):
    path = tone("flac")
    np.testing.assert_array_equal(load_audio(io.BytesIO(path.read_bytes()), 16000), load_audio(path, 16000))
    assert duration_of(path) == 2.0


def test_one_sample_survives_any_rate(tmp_path):
    soundfile.write(tmp_path / "one.wav", np.array([0.5]), 96000)
    assert len(load_audio(tmp_path / "one.wav", 16000)) == 1


def test_a_name_that_is_not_unicode(tone, tmp_path):
    odd = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    os.rename(tone(), odd)
    assert len(load_audio(os.fsdecode(odd), 16000)) == 32000


def _truncated_wav(data):
    return data[: len(data) // 2]


BROKEN = {
    "empty": (lambda data: b"", "the file is empty"),
    "text": (lambda data: b"this is no audio at all, whatever its ending", "Format not recognised"),
    "truncated": (_truncated_wav, "truncated: the header says 64000 bytes of audio, 31978 are there"),
    "header only": (lambda data: data[:40] + struct.pack("<I", 0), "no samples"),
    "rate zero": (lambda data: data[:24] + bytes(8) + data[32:], "broken"),
    "many channels": (lambda data: data[:22] + b"\xff\xff" + data[24:], "broken"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_say_what_is_wrong(tone, tmp_path, case):
    damage, reason = BROKEN[case]
    path = tmp_path / "broken.wav"
    path.write_bytes(damage(tone().read_bytes()))
    with pytest.raises(AudioReadError, match=reason) as error:
        load_audio(path, 16000)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_truncated_flac_is_not_taken_for_a_short_one(tone, tmp_path):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 32000)
    soundfile.write(tmp_path / "whole.flac", noise, 16000)
    data = (tmp_path / "whole.flac").read_bytes()
    (tmp_path / "half.flac").write_bytes(data[: len(data) // 2])
    with pytest.raises(AudioReadError, match=r"half\.flac"):
        load_audio(tmp_path / "half.flac", 16000)


def test_a_recorder_that_left_its_length_open_is_read(tone, tmp_path):
    data = bytearray(tone().read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "open.wav").write_bytes(data)
    assert len(load_audio(tmp_path / "open.wav", 16000)) == 32000


@pytest.mark.parametrize(
    ("value", "reason"), [(np.nan, "NaN or infinite"), (np.inf, "NaN or infinite"), (2e4, "reach 2e")]
)
def test_samples_that_are_no_audio(tmp_path, value, reason):
    samples = np.zeros(1000, np.float32)
    samples[500] = value
    apart = np.stack([samples, -samples], 1)  # their mean is 0
    for name, both in (("odd.wav", samples), ("apart.wav", apart)):
        soundfile.write(tmp_path / name, both, 16000, subtype="FLOAT")
        with warnings.catch_warnings(), pytest.raises(AudioReadError, match=reason):
            warnings.simplefilter("error")
            load_audio(tmp_path / name, 16000)


@pytest.mark.parametrize(("rate", "channels"), [(44100, 1), (44100, 2), (22050, 1)])
def test_a_stretch_of_an_mp3_is_the_same_to_the_last_bit(tmp_path, rate, channels):
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (rate * 6, channels)).astype(np.float32)
    path = tmp_path / "noise.mp3"
    soundfile.write(path, noise, rate)
    whole = load_audio(path, rate)
    for start in range(rate * 4, len(whole) - 100, 977):
        part = load_audio(path, rate, start=start / rate, duration=100 / rate)
        np.testing.assert_array_equal(part, whole[start : start + 100])


def test_places_that_are_no_files(tmp_path, tone, monkeypatch):
    with pytest.raises(AudioReadError, match="no such file"):
        load_audio(tmp_path / "none.wav", 16000)
    with pytest.raises(AudioReadError, match="is a folder"):
        load_audio(tmp_path, 16000)
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioReadError, match="not a regular file"):
        load_audio(tmp_path / "pipe.wav", 16000)

    def refuse(*args, **options):  # root may read everything, so permissions alone would not do
        raise PermissionError(13, "Permission denied")

    path = tone()
    monkeypatch.setattr(audio, "open", refuse, raising=False)
    with pytest.raises(AudioReadError, match="permission denied"):
        load_audio(path, 16000)


def _valid(ending: str) -> bytes:
    held = io.BytesIO()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1500, 2))
    soundfile.write(held, noise, 22050, format=ending)
    return held.getvalue()


VALID = {ending: _valid(ending) for ending in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "W64", "CAF")}


@settings(max_examples=300)
@given(
    ending=st.sampled_from(sorted(VALID)),
    changes=st.lists(st.tuples(st.integers(0, 600), st.binary(min_size=1, max_size=8)), max_size=6),
    cut=st.integers(0, 6000) | st.none(),
)
def test_fuzzed_files_decode_or_raise_our_error(tmp_path, ending, changes, cut):
    data = bytearray(VALID[ending])
    for at, patch in changes:
        data[at : at + len(patch)] = patch
    path = tmp_path / "fuzz.wav"
    path.write_bytes(data[:cut])
    try:
        samples = load_audio(path, 16000, duration=60.0)
    except AudioReadError as error:
        assert "fuzz.wav" in str(error)
    else:
        assert samples.dtype == np.float32 and len(samples) and np.isfinite(samples).all()
