"""Streams: the same embeddings as from the whole recording, at a bounded distance behind the audio."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_audiomamba import load_model
from hear_audiomamba.embedding.streaming import StreamingEmbedder, clip_statistics
from hear_audiomamba.errors import ConfigError, InputError
from hear_audiomamba.frontends.stream import RunningStatistics, SpectrogramStream

from .conftest import TINY


@pytest.fixture(scope="module")
def audio():
    noise = torch.randn(5 * 16000 + 123, generator=torch.Generator().manual_seed(0))
    return 0.1 * noise * torch.linspace(0.1, 1, len(noise))


def stream(embedder, audio, sizes):
    """Push the audio in pieces of these sizes, over and over; return all embeddings."""
    results, at, turn = [], 0, 0
    while at < len(audio):
        size = sizes[turn % len(sizes)]
        results += embedder.push(audio[at : at + size])
        at, turn = at + size, turn + 1
    return results + embedder.finish()


@pytest.mark.parametrize("sizes", [(1600,), (37, 1, 5000, 640), (10**6,)])
def test_stateful_rows_are_those_of_one_forward_pass(audio, sizes):
    model = load_model(variant="ssam_tiny", depth=3, device="cpu")
    embedder = StreamingEmbedder(
        model, mode="stateful", statistics=clip_statistics(model, audio), restart_seconds=math.inf
    )
    rows = torch.stack([result.embedding for result in stream(embedder, audio, sizes)])
    features = model.features(audio[None])
    features = torch.nn.functional.pad(features, (0, 0, 0, -features.shape[1] % 4))
    with torch.inference_mode():
        whole = model.encoder.frames(model.encoder(features))[0]
    assert len(rows) == model.count_rows(len(audio))
    torch.testing.assert_close(rows, whole[: len(rows)], atol=1e-5, rtol=0)


def test_stateful_rows_with_restarts_are_the_timestamps(tiny_model, audio):
    embedder = StreamingEmbedder(tiny_model, mode="stateful", statistics=clip_statistics(tiny_model, audio))
    for _ in range(2):  # after `finish` a stream begins anew
        results = stream(embedder, audio, (777,))
        rows, times = tiny_model.timestamps(audio[None])
        torch.testing.assert_close(torch.stack([r.embedding for r in results]), rows[0], atol=1e-5, rtol=0)
        np.testing.assert_allclose([r.time_ms for r in results], times[0], atol=1e-3)


def test_a_stateful_row_is_at_most_a_step_and_half_a_frame_late(tiny_model, audio):
    embedder = StreamingEmbedder(tiny_model, mode="stateful")
    for at in range(0, 32000, 160):
        for result in embedder.push(audio[at : at + 160]):
            heard_ms = (at + 160) / 16
            assert heard_ms - result.end_ms <= 12.5 + 10 and result.end_ms - result.start_ms <= 40


@pytest.mark.parametrize("variant", ["ssam_tiny", "ssamba_tiny", "ssast_tiny_200_16x4"])
def test_windows_are_scenes_of_the_last_stretch(audio, variant):
    model = load_model(variant=variant, depth=2, device="cpu")
    results = stream(StreamingEmbedder(model, hop_seconds=0.75, window_seconds=1.5), audio, (3000, 11))
    ends = [result.end_ms for result in results]
    assert ends == [750.0 * n for n in range(1, 7)] + [len(audio) / 16]
    for result in results:
        stretch = audio[round(result.start_ms * 16) : round(result.end_ms * 16)]
        torch.testing.assert_close(result.embedding, model.scene(stretch[None])[0], atol=1e-6, rtol=0)
        assert result.end_ms - result.start_ms <= 1500


def test_what_cannot_be_streamed(tiny_model):
    bidirectional = load_model(variant="ssamba_tiny", depth=2, device="cpu")
    attention = load_model(variant="ssast_tiny_200_16x4", depth=1, device="cpu")
    for model in (bidirectional, attention, load_model(**TINY, compat="published")):
        with pytest.raises(ConfigError, match="is not causal and cannot be 'stateful'"):
            StreamingEmbedder(model, mode="stateful")
    with pytest.raises(ConfigError, match="hop_seconds: 0"):
        StreamingEmbedder(tiny_model, hop_seconds=0)
    with pytest.raises(InputError, match=r"expected \(n_samples,\)"):
        StreamingEmbedder(tiny_model).push(torch.zeros(1, 5))
    with pytest.raises(InputError, match="nan"):
        StreamingEmbedder(tiny_model).push(torch.tensor([0.0, math.nan]))
    assert StreamingEmbedder(tiny_model).finish() == []


@settings(max_examples=60)
@given(
    n_samples=st.integers(1, 4000), cuts=st.lists(st.integers(0, 4000), max_size=6),
    variant=st.sampled_from(["ssam_tiny", "ssamba_tiny"]),
)  # fmt: skip
def test_frames_do_not_depend_on_the_pieces(tiny_model, n_samples, cuts, variant):
    features = tiny_model.features if variant == "ssam_tiny" else _kaldi()
    audio = torch.randn(n_samples, generator=torch.Generator().manual_seed(n_samples)) * 0.1
    pieces, raw = SpectrogramStream(features), SpectrogramStream(features, raw=True)
    edges = sorted({0, n_samples, *(cut for cut in cuts if cut < n_samples)})
    frames = [pieces.push(audio[a:b]) for a, b in pairwise(edges)]
    frames = torch.cat([*frames, pieces.finish()])
    unscaled = torch.cat([*(raw.push(audio[a:b]) for a, b in pairwise(edges)), raw.finish()])
    torch.testing.assert_close(unscaled, features.log_mel(audio[None])[0], atol=5e-4, rtol=0)
    whole = features.log_mel(audio[None])[0] if variant == "ssam_tiny" else features(audio[None])[0]
    torch.testing.assert_close(frames, whole, atol=5e-4, rtol=0)


def _kaldi():
    return load_model(variant="ssamba_tiny", depth=2, device="cpu").features


def test_running_statistics_are_those_of_everything(tiny_model):
    values = torch.randn(1000, 80, generator=torch.Generator().manual_seed(0)) * 3 + 7
    statistics = RunningStatistics()
    for piece in values.split(77):
        statistics.update(piece)
    assert statistics.mean == pytest.approx(float(values.double().mean()), abs=1e-9)
    assert statistics.std == pytest.approx(float(values.double().std()), abs=1e-9)
