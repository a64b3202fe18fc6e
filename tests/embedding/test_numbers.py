"""Numbers and arrays as programs hand them in: every library's are taken, all else is refused in one line."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hear_audiomamba import embed_file, load_audio
from hear_audiomamba.archive.map import draw_map
from hear_audiomamba.archive.options import EmbedOptions
from hear_audiomamba.archive.run import Resources
from hear_audiomamba.archive.search import search
from hear_audiomamba.config import check_value, plain_number
from hear_audiomamba.embedding.streaming import StreamingEmbedder, clip_statistics
from hear_audiomamba.embedding.tagging import Tags
from hear_audiomamba.errors import AudioMambaError, ConfigError
from hear_audiomamba.models.devices import find_device

SPEECH = "examples/audio/speech_english.wav"
TWO = {
    "an integer of numpy": np.int16(2),
    "a float of numpy": np.float32(2),
    "half": np.float16(2),
    "long double": np.longdouble(2),
    "an array without axes": np.array(2),
    "a big-endian array without axes": np.array(2.0, ">f8"),
    "a tensor without axes": torch.tensor(2),
}
NO_NUMBER = {
    "text": "2",
    "bytes": b"2",
    "true": True,
    "true of numpy": np.True_,
    "true of torch": torch.tensor(True),
    "a list": [2],
    "a ragged list": [[1], [1, 2]],
    "complex": 2 + 0j,
    "an axis": np.array([2]),
    "a large array": np.zeros((200, 200)),
    "NaN": float("nan"),
    "an object": object(),
}
NO_LENGTH = NO_NUMBER | {"0": 0, "negative": -1}


@pytest.mark.parametrize("name", TWO)
def test_numbers_of_other_libraries_are_numbers(name):
    two = TWO[name]
    for kind in (int, float):
        made = check_value(kind | None, two, "x")
        assert made == 2 and type(made) is kind
    assert EmbedOptions(shard_sources=two, segment_seconds=two).shard_sources == 2
    assert Resources(workers=two, share=(1, two)).share == (1, 2)
    assert len(load_audio(SPEECH, 8000, start=two, duration=1)) == 8000
    assert len(load_audio(SPEECH, two, duration=two)) == 4


def test_what_a_file_of_numbers_holds_as_its_rate(small_model, noise, tmp_path):
    clip = noise(1, 8000)[0].numpy()
    np.savez(tmp_path / "clip.npz", audio=clip, sample_rate=8000)
    with np.load(tmp_path / "clip.npz") as held:
        found = embed_file(held["audio"], small_model, sample_rate=held["sample_rate"])
    assert torch.equal(found, embed_file(clip, small_model, sample_rate=8000))


def one_line(call, *args, **options):
    with pytest.raises(AudioMambaError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    return str(caught.value)


@pytest.mark.parametrize("name", NO_LENGTH)
def test_what_is_no_length_is_refused_by_name(name, small_model, tmp_path):
    value, clip, zeros = NO_LENGTH[name], np.zeros(100, np.float32), np.zeros(3, np.float32)
    for stream in (
        {"hop_seconds": value},
        {"window_seconds": value},
        {"mode": "stateful", "restart_seconds": value},
    ):
        assert [*stream][-1] in one_line(StreamingEmbedder, small_model, **stream)
    assert "sample_rate" in one_line(embed_file, clip, small_model, sample_rate=value)
    assert "sample_rate" in one_line(small_model.embed, clip[None], value)
    assert "sample_rate" in one_line(load_audio, SPEECH, value)
    assert "duration" in one_line(load_audio, SPEECH, 16000, duration=value)
    assert "count" in one_line(search, zeros, tmp_path, value)
    assert "limit" in one_line(draw_map, tmp_path, tmp_path / "map.png", limit=value)
    assert "shard_sources" in one_line(EmbedOptions, shard_sources=value)
    assert "segment_seconds" in one_line(EmbedOptions, segment_seconds=value)
    if name != "0":
        assert "workers" in one_line(Resources, workers=value)
    assert "share" in one_line(Resources, share=(0, value))
    tags = Tags(("a",), zeros[:1], zeros[:1], zeros[:1, None], 1)
    assert "k:" in one_line(tags.top, value)


@pytest.mark.parametrize("name", NO_NUMBER)
def test_what_is_no_number_is_none(name):
    number = plain_number(NO_NUMBER[name])
    assert number is None or number != number


@pytest.mark.parametrize("digits", [400, 5000])
def test_numbers_that_no_float_holds_are_refused_in_one_line(digits, small_model):
    huge = 10**digits
    for kind in (float, str, bool, tuple[int, ...]):
        one_line(check_value, kind, huge, "x")
    one_line(find_device, huge)
    one_line(StreamingEmbedder, small_model, hop_seconds=huge)
    one_line(load_audio, SPEECH, 16000, start=huge)
    one_line(load_audio, SPEECH, huge)
    one_line(load_audio, SPEECH, 16000, duration=huge)
    for options in ({"shard_sources": huge}, {"segment_seconds": huge}):
        one_line(EmbedOptions, **options)
    one_line(Resources, workers=huge)
    one_line(Resources, share=(0, huge))
    one_line(search, [huge], "nowhere")


@pytest.mark.parametrize(
    "statistics",
    ["never", None, (0.0,), (0.0, -1.0), (0.0, float("inf")), (float("nan"), 1.0), ("0", "1"), 3],
)
def test_statistics_of_a_stream_are_two_numbers(small_model, statistics):
    with pytest.raises(ConfigError, match="statistics"):
        StreamingEmbedder(small_model, mode="stateful", statistics=statistics)


@pytest.mark.parametrize(
    "given", [None, "a.wav", [0.1], np.zeros((3, 1)), np.array("a"), np.zeros(3, "i2"), 1.0]
)
def test_what_is_no_clip_is_refused_by_every_call(small_model, given):
    stream = StreamingEmbedder(small_model)
    for call in (stream.push, lambda x: clip_statistics(small_model, x)):
        assert "audio" in one_line(call, given)
    if not isinstance(given, np.ndarray):
        assert "audio" in one_line(small_model.features, given)


def test_a_stream_takes_arrays_of_any_kind_and_keeps_no_gradients(small_model, noise):
    clip = noise(1, 8000)[0]
    (want,) = StreamingEmbedder(small_model, hop_seconds=0.5).push(clip)
    for given in (clip.numpy().astype(">f4"), clip.clone().requires_grad_(), clip.double()):
        stream = StreamingEmbedder(small_model, hop_seconds=0.5)
        assert stream.push(np.zeros(0, ">f4")) == []
        (found,) = stream.push(given)
        assert torch.equal(found.embedding, want.embedding) and not found.embedding.requires_grad


@pytest.mark.parametrize(
    ("query", "options", "said"),
    [
        (np.full(3, np.nan), {}, "NaN"),
        ("loud", {}, "not an array of numbers"),
        (np.zeros((3, 3)), {}, "shape"),
        (np.zeros(3), {"metric": "manhattan"}, "metric: 'manhattan'"),
        (np.zeros(3), {"engine": "brute"}, "engine: 'brute'"),
    ],
)
def test_a_search_for_what_cannot_be_near_anything(query, options, said, tmp_path):
    assert said in one_line(search, query, tmp_path, **options)
