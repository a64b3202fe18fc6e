"""SSAM agrees with its authors' code, and with its paper where their code departs from it."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

from hear_audiomamba import get_scene_embeddings, get_timestamp_embeddings, load_model
from hear_audiomamba.config import SSAMConfig
from hear_audiomamba.errors import ConfigError
from hear_audiomamba.models.registry import find_variant
from hear_audiomamba.models.weights import save_weights
from tests.golden import assert_golden, available, describe, golden_weights, load_golden

MODELS = {"ssam_tiny": "ssam_tiny_200_16x4", "ssam_small_d2": "ssam_small_200_16x4"}
FIXTURES = [name for name in MODELS if available(f"{name}_io")]
CLIPS = [
    (name, clip) for name in FIXTURES for clip in "abcd" if f"scene_{clip}" in describe(f"{name}_io")["keys"]
]


@functools.cache
def fixture(name):
    """Return tensors and description of a fixture, and a file of its weights in our format."""
    tensors, meta = load_golden(f"{name}_io")
    config = find_variant(MODELS[name]).config
    config = config.replace(encoder=config.encoder.replace(depth=meta["config"]["depth"]))
    folder = Path(tempfile.mkdtemp())
    path = save_weights(folder / "weights.safetensors", golden_weights(f"{name}_weights"), config)
    atexit.register(shutil.rmtree, folder)
    return tensors, meta, path


@pytest.fixture(params=FIXTURES)
def reference(request):
    return fixture(request.param)


@pytest.mark.parametrize(("name", "clip"), CLIPS)
def test_published_embeddings(name, clip):
    tensors, meta, path = fixture(name)
    model = load_model(path, compat="published", device="cpu")
    audio = tensors[f"wave_{clip}"]
    assert_golden(model.features(audio)[:, None], tensors, meta, f"logmel_{clip}")
    assert_golden(get_scene_embeddings(audio, model), tensors, meta, f"scene_{clip}")
    rows, times = get_timestamp_embeddings(audio, model)
    assert_golden(times, tensors, meta, f"ts_{clip}")
    if f"timestamp_{clip}" in tensors:
        assert_golden(rows, tensors, meta, f"timestamp_{clip}")


def test_tokens(reference):
    tensors, meta, path = reference
    encoder = load_model(path, device="cpu").encoder
    features = tensors["model_input"][:, 0]
    with torch.no_grad():
        tokens = encoder(features)
        assert_golden(encoder.frames_published(tokens), tensors, meta, "forward_features")
        if "tokens" in tensors:
            assert_golden(tokens, tensors, meta, "tokens")
            assert_golden(encoder.embed(features), tensors, meta, "block0_in")


def test_default_rows_are_the_tokens_of_one_moment(reference):
    tensors, _, path = reference
    encoder = load_model(path, device="cpu").encoder
    with torch.no_grad():
        tokens = encoder(tensors["model_input"][:, 0])
    rows = encoder.frames(tokens)
    assert rows.shape == (2, 50, 5 * encoder.embed_dim)
    for moment, band in ((0, 0), (7, 3), (49, 4)):
        width = encoder.embed_dim
        expected = tokens[:, 1 + moment * 5 + band]
        assert torch.equal(rows[:, moment, band * width : (band + 1) * width], expected)


def test_default_embeds_what_the_paper_describes(reference):
    """Rows of a clip longer than a window are the tokens of its windows, in time order, and no padding."""
    tensors, _, path = reference
    model = load_model(path, device="cpu")
    audio = tensors["wave_a"]
    features = model.features(audio)
    rows, times = get_timestamp_embeddings(audio, model)
    with torch.no_grad():
        first = model.encoder.frames(model.encoder(features[:, :200]))
        last = model.encoder.frames(model.encoder(features[:, 200:328]))  # whole patches only
    torch.testing.assert_close(rows[:, :50], first, rtol=0, atol=1e-5)
    torch.testing.assert_close(rows[:, 50:82], last, rtol=0, atol=1e-5)
    assert times[0, 0] == 15.0 and times[0, -1] <= 1000 * audio.shape[1] / 16000


def test_masked_modelling(reference):
    tensors, meta, path = reference
    encoder = load_model(path, device="cpu").encoder
    predicted, target = encoder.reconstruct(tensors["model_input"][:, 0], tensors["pretrain_mask"])
    assert_golden(predicted, tensors, meta, "pretrain_pred")
    assert_golden(target, tensors, meta, "pretrain_target")
    loss = (predicted - target).square().mean()
    assert_golden(loss[None], tensors, meta, "pretrain_loss")
    loss.backward()
    parameters = dict(encoder.named_parameters())
    checked = 0
    for key in tensors:
        if key.startswith("pretrain_grad/"):
            assert_golden(parameters[key.removeprefix("pretrain_grad/")].grad, tensors, meta, key)
            checked += 1
    assert checked > 10


def test_step_by_step_equals_the_whole_sequence(small_model):
    encoder = small_model.encoder
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(2, 61, encoder.embed_dim, generator=generator)
    with torch.no_grad():
        whole = encoder.encode(tokens)
        states, pieces, start = None, [], 0
        for length in (1, 5, 13, 1, 41):
            piece, states = encoder.step_tokens(tokens[:, start : start + length], states)
            pieces.append(piece)
            start += length
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("patch", [(4, 8), (8, 16), (16, 16), (2, 80)])
def test_other_grids(patch, noise):
    model = load_model(variant="ssam_tiny", depth=1, patch_size=patch, device="cpu")
    scene = get_scene_embeddings(noise(2, 40000), model)
    assert scene.shape == (2, model.scene_embedding_size) == (2, 80 // patch[1] * 192)
    _, times = get_timestamp_embeddings(noise(1, 40000), model)
    assert (times.diff() <= 50.001).all()


@pytest.mark.parametrize("seconds", [1.0, 4.0, 10.0])
def test_other_windows(seconds, noise):
    model = load_model(variant="ssam_tiny", depth=1, window_seconds=seconds, device="cpu")
    assert model.window_frames == 100 * seconds
    rows, _ = get_timestamp_embeddings(noise(1, 165000), model)
    assert rows.shape == (1, 258, 960) and torch.isfinite(rows).all()


def test_parameter_counts_are_the_published_ones():
    # LAYOUT.md counts the fixed position table as a parameter: (1 + 250) rows.
    for size, width, count in (
        ("tiny", 192, 4_808_704),
        ("small", 384, 17_985_472),
        ("base", 768, 69_443_392),
    ):
        from hear_audiomamba import model_info

        assert model_info(f"ssam_{size}")["parameters"] + 251 * width == count
    assert SSAMConfig().grid == (50, 5)


@pytest.mark.parametrize("variant", ["ssam_tiny", "ssamba_tiny", "aum_tiny"])
@torch.inference_mode()
def test_blocks_that_were_not_trained_are_left_out(variant, noise):
    model = load_model(variant=variant, depth=4, device="cpu")
    for block in model.encoder.blocks[2:]:
        block.mixer.out_proj.weight.zero_()
    part = load_model(variant=variant, depth=4, trained_depth=2, device="cpu")
    part.encoder.load_state_dict(model.encoder.state_dict())
    calls = []
    for block in part.encoder.blocks[2:]:
        block.register_forward_hook(lambda *args: calls.append(args))
    audio = noise(2, 20_000)
    assert torch.equal(part.scene(audio), model.scene(audio)) and not calls
    for whole, short in zip(model.hidden_states(audio), part.hidden_states(audio), strict=True):
        assert torch.equal(whole, short)
    with pytest.raises(ConfigError, match="trained_depth: 6 is not from 1 to the 4 blocks"):
        load_model(variant=variant, depth=4, trained_depth=6)


def test_the_default_weights_say_which_blocks_are_trained():
    model = load_model(device="cpu")
    depth = model.config.encoder.trained_depth
    assert depth == 6 and model.encoder.depth == 12
    zero = [not block.mixer.out_proj.weight.any() for block in model.encoder.blocks]
    assert zero == [False] * depth + [True] * (12 - depth)
