"""What holds for any weights, tried with trained ones, with those disturbed everywhere, and with random ones.

Random weights hide faults: their tables are the formula's, their norms are ones, their biases zeros.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.autograd.forward_ad as forward_ad

from hear_audiomamba import load_model
from hear_audiomamba.embedding.embedder import AudioEmbedder
from hear_audiomamba.embedding.streaming import StreamingEmbedder, clip_statistics

from ..encoders.test_contract import QUICK, shallow

KINDS = ["trained", *(f"disturbed {name}" for name in QUICK)]


def disturbed(model: AudioEmbedder) -> AudioEmbedder:
    """Add noise to every parameter and every table, so that nothing is zero, one, or what a formula gives."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for value in [*model.encoder.parameters(), *model.encoder.buffers()]:
            if value.is_floating_point():
                value.add_(0.05 * torch.randn(value.shape, generator=generator))
    return model


@pytest.fixture(scope="module", params=KINDS)
def model(request) -> AudioEmbedder:
    kind, _, name = request.param.partition(" ")
    if kind == "trained":
        return load_model(device="cpu", timestamp_smoothing_ms=0)
    return disturbed(load_model(variant=name, device="cpu", **shallow(name)))


def test_a_clip_does_not_depend_on_its_batch_mates(model, noise):
    audio = noise(3, model.sample_rate * 3)
    audio[2] = 0
    together, (rows, _) = model.scene(audio), model.timestamps(audio)
    for index in range(3):
        alone = audio[index : index + 1]
        torch.testing.assert_close(model.scene(alone)[0], together[index], rtol=0, atol=2e-5)
        torch.testing.assert_close(model.timestamps(alone)[0][0], rows[index], rtol=0, atol=2e-5)


def test_pieces_of_a_batch_change_nothing(model, noise):
    audio = noise(2, model.sample_rate * 5)
    expected, before = model.scene(audio), model.max_batch_windows
    model.max_batch_windows = 1
    try:
        torch.testing.assert_close(model.scene(audio), expected, rtol=0, atol=2e-5)
    finally:
        model.max_batch_windows = before


def test_what_lies_behind_a_window_does_not_change_it(model, noise):
    """The first window's rows of a long clip are those of its spectrogram encoded alone."""
    audio = noise(1, model.sample_rate * 5)
    features = model.features(audio)
    first = model.encode_windows(features[:, : model.window_frames])
    rows = model.encode_windows(model.plan.cut(features, audio.shape[1]))
    torch.testing.assert_close(rows[:1], first, rtol=0, atol=2e-5)


def test_the_reference_scan_agrees_with_the_backend_at_hand(model, noise):
    from hear_audiomamba.modules.compute import set_backend

    audio = noise(1, model.sample_rate)
    fast = model.scene(audio)
    set_backend(model.encoder, "reference")
    try:
        slow = model.scene(audio)
    finally:
        set_backend(model.encoder, None)
    assert (fast - slow).norm() <= 1e-4 * slow.norm()


@pytest.mark.parametrize("kind", ["trained", "disturbed"])
@pytest.mark.parametrize("restart", [None, math.inf])
def test_streamed_rows_are_those_of_the_whole_sequence(kind, restart, noise):
    model = load_model(device="cpu", timestamp_smoothing_ms=0)
    if kind == "disturbed":
        disturbed(model)
    audio = noise(1, 5 * model.sample_rate + 321)[0]
    stream = StreamingEmbedder(
        model, mode="stateful", statistics=clip_statistics(model, audio), restart_seconds=restart
    )
    made = [*stream.push(audio[:20_000]), *stream.push(audio[20_000:]), *stream.finish()]
    found = torch.stack([embedding.embedding for embedding in made])
    if restart is None:
        expected = model.timestamps(audio[None])[0][0]
    else:
        features = model.features(audio[None])
        features = torch.nn.functional.pad(features, (0, 0, 0, -features.shape[1] % 4))
        with torch.no_grad():
            expected = model.encoder.embed_frames(features)[0, : len(found)]
    assert (found - expected).abs().max() <= 2e-5 * expected.abs().max()


def test_forward_mode_derivatives_are_those_of_small_differences(model, noise):
    """Tangents go through every operator, or there is an error: none is lost on a fast path."""
    audio, direction, step = noise(1, 8000), noise(1, 8000, seed=1), 2e-3
    difference = (model.scene(audio + step * direction) - model.scene(audio - step * direction)) / (2 * step)
    with torch.no_grad(), forward_ad.dual_level():
        try:
            made = model.embed(forward_ad.make_dual(audio, direction))
        except (NotImplementedError, RuntimeError) as error:
            assert "forward" in str(error).lower() or "jvp" in str(error).lower(), error
            return
        tangent = forward_ad.unpack_dual(made).tangent
    assert (
        tangent is not None and (tangent - difference).norm() <= 0.2 * difference.norm()
    )  # a lost tangent is off by all of it
