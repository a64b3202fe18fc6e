"""What every encoder promises the embedder and its user, whichever variant is asked for."""

from __future__ import annotations

import functools
import itertools
import re
from pathlib import Path

import pytest
import torch

from hear_audiomamba import get_scene_embeddings, get_timestamp_embeddings, load_model
from hear_audiomamba.cli.program import main
from hear_audiomamba.config import HierMambaConfig
from hear_audiomamba.embedding.embedder import AudioEmbedder
from hear_audiomamba.errors import CheckpointError
from hear_audiomamba.models.convert import recognise
from hear_audiomamba.models.families import FAMILIES, build_modules
from hear_audiomamba.models.registry import VARIANTS, list_models, model_info
from hear_audiomamba.models.weights import save_weights

from ..golden import published_file


def shallow(name: str) -> dict:
    """Options that keep every kind of layer of a variant and make it quick."""
    config = VARIANTS[name].config.encoder
    return {"depths": (1, 1, 1, 1)} if isinstance(config, HierMambaConfig) else {"depth": 2}


def first_of_each_family() -> list[str]:
    """The smallest variant of each family and kind of patch, without the size in its name."""
    kinds = {}
    for name, variant in VARIANTS.items():
        kinds.setdefault((variant.config.family, getattr(variant.config.encoder, "patch_size", None)), name)
    return list(kinds.values())


QUICK = first_of_each_family()
variants = pytest.mark.parametrize("name", QUICK)


@functools.cache
def quick_model(name: str) -> AudioEmbedder:
    return load_model(variant=name, device="cpu", **shallow(name))


@variants
def test_scene_embeddings_have_the_size_they_announce(name, noise):
    model = quick_model(name)
    audio = noise(2, model.sample_rate * 2)
    scene = get_scene_embeddings(audio, model)
    assert scene.shape == (2, model.scene_embedding_size) and scene.dtype == torch.float32
    assert torch.isfinite(scene).all()
    assert (scene[0] - scene[1]).abs().max() > 1e-4, "different clips, different embeddings"
    assert torch.equal(scene, get_scene_embeddings(audio, model)), "same input, same output"


@variants
@pytest.mark.parametrize("seconds", [1.07, 3.0])
def test_timestamps_are_regular_dense_and_within_the_clip(name, noise, seconds):
    model = quick_model(name)
    n_samples = int(seconds * model.sample_rate)
    rows, times = get_timestamp_embeddings(noise(2, n_samples), model)
    duration = 1000 * n_samples / model.sample_rate
    assert rows.shape == (2, times.shape[1], model.timestamp_embedding_size)
    assert torch.isfinite(rows).all() and torch.equal(times[0], times[1])
    gaps = times[0].diff()
    assert (gaps - gaps[0]).abs().max() <= 1 and 0 < gaps[0] <= 50
    assert 0 <= times[0, 0] <= 50 and duration - 50 <= times[0, -1] <= duration


@variants
@pytest.mark.parametrize("n_samples", [1, 401])
def test_clips_shorter_than_a_patch_are_embedded(name, n_samples):
    model = quick_model(name)
    audio = torch.linspace(-0.5, 0.5, n_samples)[None]
    rows, times = get_timestamp_embeddings(audio, model)
    assert torch.isfinite(rows).all() and torch.isfinite(get_scene_embeddings(audio, model)).all()
    assert rows.shape[1] == times.shape[1] >= 1
    assert (times >= 0).all() and (times <= 1000 * n_samples / model.sample_rate).all()


@variants
def test_silence_denormals_and_full_scale_stay_finite(name):
    model = quick_model(name)
    clips = torch.tensor([0.0, 1e-40, 1.0])[:, None].expand(-1, 8000)
    assert torch.isfinite(get_scene_embeddings(clips, model)).all()


@variants
def test_a_clip_does_not_depend_on_its_batch_mates(name, noise):
    model = quick_model(name)
    audio = noise(4, 20_000)
    audio[2] = 0
    together = get_scene_embeddings(audio, model)
    for row in (0, 2):
        alone = get_scene_embeddings(audio[row : row + 1], model)
        assert (alone - together[row]).abs().max() <= 1e-5


@variants
def test_hidden_states_come_from_every_block(name, noise):
    model = quick_model(name)
    states = model.hidden_states(noise(2, 20_000))
    assert len(states) == model.encoder.depth
    assert all(state.dim() == 3 and state.shape[0] == 2 for state in states)
    assert all(torch.isfinite(state).all() and state.dtype == torch.float32 for state in states)
    assert all((a.shape != b.shape) or not torch.equal(a, b) for a, b in itertools.pairwise(states))


@variants
@torch.inference_mode()
def test_windows_fit_the_patches_and_rows_are_counted_right(name):
    model = quick_model(name)
    encoder, n_mels = model.encoder, model.features.n_mels
    for wanted in (1, 7, 64, 199, 200, 201):
        fitted = encoder.fit_frames(wanted)
        assert fitted >= wanted and encoder.fit_frames(fitted) == fitted
    window = torch.zeros(2, encoder.fit_frames(100), n_mels)
    rows = encoder.embed_frames(window)
    assert rows.shape == (2, encoder.count_rows(window.shape[1]), encoder.frame_embedding_size)
    assert encoder(window).shape[0] == 2


@variants
@torch.inference_mode()
def test_rows_are_in_time_order(name, noise):
    """A change of sound moves the rows at its place most: order and centres of the rows are right."""
    model = quick_model(name)
    n_samples = int(model.window_frames * model.features.hop_length)
    quiet = noise(1, n_samples) * 1e-3
    first, step = model.row_grid
    found = []
    for share in (0.2, 0.5, 0.8):
        loud, at = quiet.clone(), int(share * n_samples)
        loud[:, at : at + 1600] = noise(1, 1600, seed=1)
        features = model.features(torch.cat([quiet, loud]))
        patches = [model.plan.cut(f[None], n_samples) for f in features]
        moved = (model.encode_windows(patches[1]) - model.encode_windows(patches[0])).norm(dim=2)[0]
        found.append((moved * torch.arange(len(moved))).sum() / moved.sum() * step + first)
    assert found[0] < found[1] < found[2], f"centres of change {[round(float(f)) for f in found]}"


@variants
def test_weights_travel_through_a_file(name, noise, tmp_path):
    model = quick_model(name)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        _, other = build_modules(model.config)
    path = save_weights(tmp_path / "other.safetensors", other.state_dict(), model.config)
    loaded = load_model(path, device="cpu")
    assert loaded.config == model.config
    assert all(
        torch.equal(value, loaded.encoder.state_dict()[key]) for key, value in other.state_dict().items()
    )
    heads = model.encoder.optional_keys
    kept = {key: value for key, value in other.state_dict().items() if not (heads and key.startswith(heads))}
    small = load_model(save_weights(tmp_path / "small.safetensors", kept, model.config), device="cpu")
    audio = noise(1, 20_000)
    assert torch.equal(get_scene_embeddings(audio, small), get_scene_embeddings(audio, loaded))


@variants
def test_bfloat16_stays_near_float32(name, noise):
    audio = noise(2, 30_000)
    exact = get_scene_embeddings(audio, quick_model(name))
    rounded = get_scene_embeddings(
        audio, load_model(variant=name, device="cpu", precision="bfloat16", **shallow(name))
    )
    assert rounded.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(exact, rounded).min() > 0.99


@variants
def test_longer_windows_give_the_same_number_of_rows(name, noise):
    audio = noise(1, 60_000)
    model = load_model(variant=name, device="cpu", window_seconds=10.24, **shallow(name))
    rows, times = get_timestamp_embeddings(audio, model)
    short_rows, short_times = get_timestamp_embeddings(audio, quick_model(name))
    assert rows.shape == short_rows.shape and torch.allclose(times, short_times)


@pytest.mark.parametrize("name", list_models())
def test_info_tells_what_the_model_is(name):
    info = model_info(name)
    config = VARIANTS[name].config
    with torch.device("meta"):
        encoder = FAMILIES[config.family].encoder(config.encoder, config.features)
    assert info["family"] == config.family and info["depth"] == encoder.depth
    assert info["parameters"] == sum(p.numel() for p in encoder.parameters())
    assert info["encoder_parameters"] <= info["parameters"]
    assert info["scene_embedding_size"] == encoder.frame_embedding_size


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_full_size_models_embed(name, noise):
    model = load_model(variant=name, device="cpu")
    audio = noise(2, 40_000)
    scene = get_scene_embeddings(audio, model)
    rows, times = get_timestamp_embeddings(audio, model)
    assert scene.shape == (2, model.scene_embedding_size) and torch.isfinite(scene).all()
    assert torch.isfinite(rows).all() and times.shape[1] == rows.shape[1]
    assert len(model.hidden_states(audio[:1, :8000])) == model.encoder.depth


PUBLISHED = {
    "ssam_small_d2_weights": ("ssam", "", "ssam (embed_dim 384, depth 2)"),
    "ssast_tiny_weights": ("ssast", "", "ssast (embed_dim 192, depth 4)"),
    "ssamba_tiny_weights": ("ssamba", "", "ssamba_tiny"),
    "aum_fobi": ("aum", "param/", "aum (embed_dim 64, depth 4)"),
    "aum_bibi": ("aum", "param/", "aum (embed_dim 48, depth 3)"),
}


@pytest.mark.parametrize("fixture", PUBLISHED)
@pytest.mark.parametrize("wrapped", [False, True])
def test_published_tensors_are_of_one_family_only(fixture, wrapped):
    family, prefix, variant = PUBLISHED[fixture]
    state = {k.removeprefix("module."): v for k, v in published_file(fixture, prefix).items()}
    if wrapped:
        state = {f"module.{k}": v for k, v in state.items()}
    bare = {k.removeprefix("module."): v for k, v in state.items()}
    assert [f.name for f in FAMILIES.values() if f.looks_like(bare)] == [family]
    config, _ = recognise(state, "file")
    assert (config.family, config.variant) == (family, variant)


@pytest.mark.parametrize("wanted", ["ssamba_small", "aum_tiny", "ssam_tiny", "ssast_tiny_patch"])
def test_a_checkpoint_of_another_model_says_which_it_is(wanted, tmp_path):
    path = tmp_path / "ssamba_tiny_400.pth"
    torch.save(published_file("ssamba_tiny_weights"), path)
    with pytest.raises(CheckpointError, match=f"ssamba_tiny_400.pth looks like ssamba_tiny, not {wanted}"):
        load_model(path, variant=wanted)


@pytest.mark.parametrize("options", [{}, {"time_stride": 10}, {"pooling": "mean"}, {"window_seconds": 10.24}])
def test_released_ssamba_files_load_through_the_api(options, tmp_path, noise):
    path = tmp_path / "amba_tiny_300.pth"
    torch.save(published_file("ssamba_tiny_weights"), path)
    model = load_model(path, device="cpu", **options)
    assert model.config.variant == "ssamba_tiny"
    assert model.scene_embedding_size == (192 if options.get("pooling") == "mean" else 1536)
    _, times = get_timestamp_embeddings(noise(1, 24_000), model)
    assert times[0].diff().max() <= 50


@torch.inference_mode()
def test_overlapping_patches_go_on_over_the_edge_of_a_window(noise):
    model = load_model(variant="ssamba_tiny", time_stride=10, depth=2, device="cpu")
    features = model.features(noise(1, 90_000))
    windows = model.plan.cut(features, 90_000)
    assert windows.shape[1:] == (206, 128)
    assert torch.equal(windows[1], features[0, 200:406]) and torch.equal(
        windows[2, :150], features[0, 400:550]
    )
    patches = model.encoder.patch_embed.patches(windows[:2]).unflatten(1, (8, 20))
    assert torch.equal(
        patches[0, :, -1, :].unflatten(-1, (16, 16))[..., 10:],
        patches[1, :, 0].unflatten(-1, (16, 16))[..., :6],
    )


def test_the_command_line_describes_and_converts_a_released_file(tmp_path, capsys):
    path, ours = tmp_path / "ssamba_tiny_250.pth", tmp_path / "ours.safetensors"
    torch.save(published_file("ssamba_tiny_weights"), path)
    assert main(["info", str(path)]) == 0
    assert "ssamba_tiny" in capsys.readouterr().out
    assert main(["convert", str(path), str(ours)]) == 0
    converted, released = load_model(ours, device="cpu"), load_model(path, device="cpu")
    assert converted.config == released.config
    mine, theirs = converted.encoder.state_dict(), released.encoder.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in mine.items())


def test_the_tables_of_the_documentation_are_right():
    text = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*)$", text, flags=re.MULTILINE)
    assert len(rows) >= 9
    for name, cells in rows:
        info = model_info(name)
        assert any(f"{info[key]:,}" in cells for key in ("parameters", "encoder_parameters")), name
        assert f"{info['scene_embedding_size']:,} |" in cells, name
