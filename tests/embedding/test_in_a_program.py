"""A model inside a user's own program: gradients, training mode, types, devices, files, one-liners."""

from __future__ import annotations

import json
import threading
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from hear_audiomamba import embed_file, load_audio, load_model
from hear_audiomamba.embedding.streaming import StreamingEmbedder
from hear_audiomamba.errors import CheckpointError, ConfigError, InputError, SettingsWarning
from hear_audiomamba.models.devices import find_device
from hear_audiomamba.models.registry import VARIANTS

from ..encoders.test_contract import QUICK, shallow

SPEECH = "examples/audio/speech_english.wav"


def quick(name, **options):
    return load_model(variant=name, device="cpu", **shallow(name), **options)


@pytest.mark.parametrize("name", QUICK)
def test_embeddings_have_gradients_and_hear_functions_have_none(name, noise):
    model = quick(name).train()
    audio = noise(2, 8000).requires_grad_()
    for made in (model(audio), model.embed(audio), model.embed_timestamps(audio)[0]):
        inner = ("out_proj.weight", "qkv.weight")
        parameter = next(p for key, p in model.encoder.named_parameters() if key.endswith(inner))
        gradient, to_audio = torch.autograd.grad(made.square().sum(), [parameter, audio])
        assert gradient.abs().max() > 0 and torch.isfinite(to_audio).all()
    assert model.hidden_states(audio)[0].requires_grad and model.features(audio).requires_grad
    assert not model.scene(audio).requires_grad and not model.timestamps(audio)[0].requires_grad


@pytest.mark.parametrize("name", QUICK)
def test_the_order_in_memory_changes_nothing(name, noise):
    model, audio = quick(name), noise(2, 16000)
    want, (rows, _) = model.scene(audio), model.timestamps(audio)
    for strided in (
        torch.stack([audio, -audio], dim=2)[..., 0],
        audio.T.contiguous().T,
        audio.numpy()[:, ::-1][:, ::-1],
    ):
        assert torch.equal(model.scene(strided), want)
        assert torch.equal(model.timestamps(strided)[0], rows)


@pytest.mark.parametrize("frozen", [False, True])
def test_training_mode_around_a_model_moves_no_statistics(frozen, noise):
    model = quick("hiermamba_tiny")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    audio = noise(2, 40_000)
    classifier = torch.nn.Sequential(model, torch.nn.Linear(model.scene_embedding_size, 2)).train()
    with torch.set_grad_enabled(not frozen):
        classifier(audio)
        model.scene(audio)
    with torch.no_grad():
        model.encoder.train()(model.plan.cut(model.features(audio), audio.shape[1]))
    after = model.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_pretraining_moves_the_statistics_of_the_input_norm():
    encoder = quick("hiermamba_tiny").encoder.train()
    before = encoder.input_norm.running_mean.clone()
    encoder(torch.randn(1, 64, encoder.n_mels))
    assert not torch.equal(encoder.input_norm.running_mean, before)


@pytest.mark.parametrize("name", QUICK)
def test_the_programs_default_type_changes_nothing(name, noise):
    audio = noise(1, 30_000)
    model = quick(name)
    expected = (model.scene(audio), *model.timestamps(audio))
    torch.set_default_dtype(torch.float64)
    try:
        model = quick(name)
        found = (model.scene(audio), *model.timestamps(audio))
        streamed = StreamingEmbedder(model, hop_seconds=0.5).push(audio[0])
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(expected, found, strict=True):
        assert one.dtype == other.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert streamed[0].embedding.dtype == torch.float32


@pytest.mark.parametrize("default", [torch.float64, torch.float16, "meta"])
@pytest.mark.parametrize("name", ["ssam_tiny_200_16x4", "hiermamba_tiny"])
def test_gradients_do_not_depend_on_the_programs_defaults(name, default, noise):
    model, audio = quick(name), noise(1, 8000)
    wanted = torch.autograd.grad(model(audio).square().sum(), list(model.parameters()), allow_unused=True)
    set_default = torch.set_default_device if default == "meta" else torch.set_default_dtype
    set_default(default)
    try:
        found = torch.autograd.grad(model(audio).square().sum(), list(model.parameters()), allow_unused=True)
    finally:
        set_default("cpu" if default == "meta" else torch.float32)
    for one, other in zip(wanted, found, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)


@pytest.mark.parametrize("name", QUICK)
def test_a_model_loaded_and_used_in_inference_mode_can_be_trained_later(name, noise):
    audio = noise(1, 8000)
    with torch.inference_mode():
        model = quick(name)
        scene = model.scene(audio)
    for made in (model, fresh := quick(name)):
        made(audio).square().sum().backward()
    for one, other in zip(model.parameters(), fresh.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        assert one.grad is None or torch.equal(one.grad, other.grad)
    assert any(p.grad is not None for p in model.parameters()) and torch.equal(model.scene(audio), scene)


def test_models_loaded_by_several_threads_are_the_same(noise):
    audio, loaded = noise(1, 4000), []
    threads = [threading.Thread(target=lambda: loaded.append(quick("ssamba_tiny"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 4
    for model in loaded[1:]:
        assert torch.equal(model.scene(audio), loaded[0].scene(audio))


@pytest.mark.parametrize("name", QUICK)
def test_casts_reach_the_products_and_nothing_that_must_stay_exact(name, noise):
    model, audio = quick(name), noise(1, 20_000)
    exact = {key: value.clone() for key, value in model.encoder.state_dict().items()}
    outer = torch.nn.ModuleDict({"model": model}).bfloat16()
    assert outer["model"].precision == "bfloat16" and model.features.window.dtype == torch.float32
    assert torch.equal(model.scene(audio), quick(name, precision="bfloat16").scene(audio))
    for key, value in model.encoder.state_dict().items():
        if key.endswith(("A_log", "A_logs", "dt_proj.bias", "dt_projs_bias", "norm.weight", "pos_embed")):
            assert torch.equal(value, exact[key]), key
    assert model.float().precision == "float32" and model.to("cpu").precision == "float32"
    assert model.scene(audio).dtype == torch.float32
    with pytest.raises(ConfigError, match="do not compute in float64"):
        model.double()
    with pytest.raises(ConfigError, match="needs a GPU"):
        model.half().scene(audio)


class Doubles(TorchDispatchMode):
    """Counts float64 tensors that operators make: Apple's GPUs have none."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for made in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(made, torch.Tensor) and made.dtype in (torch.float64, torch.complex128):
                self.seen[str(function)] += 1
        return result


@pytest.mark.parametrize("name", QUICK)
def test_no_float64_is_made_on_the_models_device(name, noise):
    model, audio = quick(name, timestamp_smoothing_ms=100), noise(2, 40_000)
    with Doubles() as doubles:
        model.scene(audio)
        model.timestamps(audio)
        model.hidden_states(audio)
    assert not doubles.seen


@pytest.mark.parametrize("device", ["cuda:99", "mps", "foo", "gpu", "meta", "hpu", 7])
def test_a_device_that_is_not_there_is_one_line(device):
    if device == "mps" and torch.backends.mps.is_available():
        pytest.xfail("this machine has it")
    with pytest.raises(ConfigError, match="device: ") as caught:
        load_model(device=device)
    assert "\n" not in str(caught.value)


def test_the_best_device_at_hand_is_taken(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device() == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert find_device() == torch.device("cuda")


@pytest.mark.parametrize(
    ("option", "value"),
    [("window_seconds", "2"), ("max_batch_windows", "4"), ("precision", ["float32"]), ("timestamps", 1),
     ("variant", 3), ("depth", "2"), ("scene_pooling", None), ("compat", False), ("backend", 1)],
)  # fmt: skip
def test_options_of_another_type_are_one_line(option, value):
    with pytest.raises(ConfigError, match=option):
        load_model(**{option: value})


def test_every_keyword_goes_through_json(noise):
    options = json.loads(
        '{"variant": "ssam_tiny", "window_seconds": 1, "device": "cpu", "precision": "bfloat16", "depth": 2,'
        ' "timestamps": "start", "compat": null, "backend": "torch", "max_batch_windows": 3, "grid": [25, 5],'
        ' "scene_pooling": "mean_plus_max", "timestamp_smoothing_ms": 80}'
    )
    model = load_model("", **options)
    assert model.window_frames == 100 and model.backend == model.encoder.blocks[0].mixer.backend == "torch"
    assert model.scene(noise(1, 9000)).shape == (1, 960)


@pytest.mark.parametrize("name", QUICK)
def test_a_saved_model_comes_back_with_its_settings(name, noise, tmp_path):
    own = {"window_seconds": 1.28, "scene_pooling": "mean_plus_max", "timestamp_smoothing_ms": 120.0}
    model = quick(name, **own)
    path = model.save(tmp_path / "mine.safetensors", notes={"licence": "CC0"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = load_model(path, device="cpu")
    assert again.config == model.config and again.window_frames == model.window_frames
    audio = noise(2, 30_000)
    assert torch.equal(again.scene(audio), model.scene(audio))
    assert torch.equal(again.timestamps(audio)[0], model.timestamps(audio)[0])
    other = load_model(path, window_seconds=2.0, scene_pooling="mean", device="cpu")
    assert other.scene_pooling == "mean" and other.config.window_seconds == 2.0


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("whole", [True, False])
def test_a_bare_state_dict_loads_and_says_what_it_lacks(name, whole, noise, tmp_path):
    options = {} if "depths" in shallow(name) else {"depth": 2}
    model = load_model(variant=name, device="cpu", **options)
    torch.save((model if whole else model.encoder).state_dict(), tmp_path / "w.pt")
    with pytest.warns(SettingsWarning, match=r"says nothing of its settings.*model\.save\(path\) keeps"):
        again = load_model(tmp_path / "w.pt", device="cpu")
    assert again.config.family == model.config.family
    audio = noise(1, 20_000)
    assert torch.equal(again.scene(audio), model.scene(audio))


@pytest.mark.parametrize(
    "wrapper", ["module.encoder.", "_orig_mod.encoder.", "module._orig_mod.", "net.0.encoder."]
)
def test_a_state_dict_loads_whatever_stood_around_the_model(wrapper, noise, tmp_path):
    model = load_model(variant="ssamba_tiny", depth=2, device="cpu")
    state = {wrapper + key: value for key, value in model.encoder.state_dict().items()}
    for content in (
        state,
        {"epoch": 3, "model_state_dict": state},
        {"model": state},
        {"model": state, "epoch": 3},
    ):
        torch.save(content, tmp_path / "w.pt")
        with pytest.warns(SettingsWarning, match="says nothing of its settings"):
            again = load_model(tmp_path / "w.pt", device="cpu")
        assert torch.equal(again.scene(noise(1, 20_000)), model.scene(noise(1, 20_000)))


@pytest.mark.parametrize("key", ["model_state_dict", "model"])
def test_a_state_dict_inside_a_training_checkpoint_says_what_it_lacks(key, tmp_path):
    model = load_model(device="cpu")
    torch.save({"epoch": 3, key: model.encoder.state_dict()}, tmp_path / "w.pt")
    with pytest.warns(SettingsWarning, match="mean pooling"):
        load_model(tmp_path / "w.pt", device="cpu")


def test_weights_are_saved_under_a_name_that_loads(tmp_path):
    with pytest.raises(CheckpointError, match=r"ends in \.safetensors"):
        quick("ssamba_tiny").save(tmp_path / "w.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", QUICK)
def test_the_default_device_of_a_program_does_not_matter(name, noise):
    audio = noise(2, 20_000)
    with torch.device("meta"):
        model = quick(name)
        found = model.scene(audio)
    assert torch.equal(found, quick(name).scene(audio))


@pytest.mark.parametrize("name", QUICK)
def test_a_traced_model_takes_any_batch_and_one_length(name, noise):
    model = quick(name)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of checks that a trace leaves out; and that tracing is to go
        traced = torch.jit.trace(model, noise(2, 20_000), check_trace=False)
    for n_sounds in (1, 3):
        audio = noise(n_sounds, 20_000)
        torch.testing.assert_close(traced(audio), model.scene(audio))
    for n_samples in (10_000, 20_001):
        with pytest.raises(Exception, match="a traced model takes clips as long as"):
            traced(noise(2, n_samples))


def test_what_is_no_weights_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"RIFF not weights")
    (tmp_path / "empty.pt").write_bytes(b"")
    for file, reason in ((SPEECH, "is an audio file, not weights"), (tmp_path / "x.pth", "cannot be read"),
                         (tmp_path / "empty.pt", "cannot be read"), ("no.safetensors", "no such file")):  # fmt: skip
        with pytest.raises(CheckpointError, match=reason) as caught:
            load_model(file)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_model_says_what_it_is():
    model = load_model(device="cpu")
    assert repr(model) == (
        "AudioEmbedder(ssam_tiny_200_16x4, 16000 Hz, K = 960, windows of 2 s, cpu, float32, "
        "ssam_tiny_200_16x4.open-distilled.safetensors)"
    )
    assert repr(quick("ssamba_tiny", precision="bfloat16")).endswith("cpu, bfloat16, untrained)")
    assert all(quick(name).weights is None for name in list(VARIANTS)[:2])


def test_a_file_or_an_array_of_any_rate_is_embedded():
    model = load_model(device="cpu")
    expected = model.scene(load_audio(SPEECH, model.sample_rate)[None])[0]
    assert torch.equal(embed_file(SPEECH), expected) and expected.shape == (960,)
    samples = load_audio(SPEECH, 44_100)
    stereo = np.stack([samples, samples]).astype(np.float64)
    for given in (samples, stereo, torch.from_numpy(stereo)):
        found = embed_file(given, model, sample_rate=44_100)
        assert torch.nn.functional.cosine_similarity(found, expected, dim=0) > 0.999
    with open(SPEECH, "rb") as file:
        assert torch.equal(embed_file(file), expected)
    for wrong, options, message in (
        (stereo.T, {"sample_rate": 44_100}, r"looks transposed: pass audio\.T"),
        (samples, {}, "give the sample rate of these samples"),
        (samples, {"sample_rate": 44.1}, "is it in kHz"),
        (samples, {"sample_rate": "16000"}, "is not a number"),
        (SPEECH, {"sample_rate": 16_000}, "the file contains its sample rate"),
    ):
        with pytest.raises(InputError, match=message):
            embed_file(wrong, **options)
    with pytest.raises(InputError, match="44100 Hz, but the model takes 16000 Hz"):
        model.embed(samples[None], sample_rate=44_100)
    with pytest.raises(InputError, match="looks like kHz"):
        model.embed(samples[None], sample_rate=16)


@pytest.mark.filterwarnings("ignore")  # of the tracer, about shapes and about its own end
@pytest.mark.parametrize("gradients", (False, True))
@pytest.mark.parametrize("name", ("ssam_tiny", "ssamba_tiny"))
def test_tracing_with_torchs_own_check(name, gradients, noise):
    model = load_model(variant=name, depth=2, device="cpu")
    audio = noise(2, 32000)
    with torch.set_grad_enabled(gradients):
        traced = torch.jit.trace(model, audio)
        torch.testing.assert_close(traced(audio / 2), model.embed(audio / 2))


@pytest.mark.parametrize("name", ("ssam_tiny_200_16x4", "ssamba_tiny", "hiermamba_nano"))
def test_torch_export_of_the_whole_model(name, noise):
    model = load_model(variant=name, device="cpu", **shallow(name))
    audio = noise(2, 2 * model.sample_rate)
    with torch.no_grad():
        exported = torch.export.export(model, (audio,), strict=False).module()
    torch.testing.assert_close(exported(audio / 2), model.scene(audio / 2), rtol=1e-4, atol=1e-5)


def test_a_pickled_model_is_refused_with_what_to_do(tmp_path):
    torch.save(load_model(variant="ssam_tiny", depth=2, device="cpu"), tmp_path / "whole.pt")
    with pytest.raises(CheckpointError, match=r"holds a whole model.*write weights with model\.save"):
        load_model(tmp_path / "whole.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_of_a_run_that_diverged_are_refused(value, tmp_path):
    model = load_model(variant="ssam_tiny", depth=2, device="cpu")
    model.encoder.encoder_norm.weight.data[3] = value
    model.save(tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"encoder_norm\.weight contain NaN or infinity"):
        load_model(tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", QUICK)
def test_a_callers_mixed_precision_is_for_the_encoder_only(name, noise):
    model, audio = quick(name, timestamp_smoothing_ms=240), noise(2, 40_000)
    rows, times = model.timestamps(audio)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, same_times = model.timestamps(audio)
    assert mixed.dtype == torch.float32 and torch.equal(times, same_times)
    assert (mixed - rows).norm() < 0.1 * rows.norm()


@pytest.mark.parametrize("name", QUICK)
def test_a_model_emptied_and_filled_again_is_the_same(name, noise):
    model, audio = quick(name), noise(1, 20_000)
    state, expected = {key: value.clone() for key, value in model.state_dict().items()}, model.scene(audio)
    with pytest.raises(ConfigError, match="would lose its weights"):
        model.to("meta")
    torch.testing.assert_close(model.scene(audio), expected, rtol=0, atol=0)
    model.to_empty(device="cpu").load_state_dict(state)
    torch.testing.assert_close(model.scene(audio), expected, rtol=0, atol=0)


def test_audio_without_plain_values_is_refused(noise):
    model, audio = load_model(variant="ssam_tiny", depth=2, device="cpu"), noise(2, 8000)
    masked = np.ma.masked_greater(audio.numpy(), 0.1)
    for bad in (audio.to_sparse(), audio.to("meta"), masked):
        with pytest.raises(InputError, match="audio: "):
            model.scene(bad)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ssam_tiny", {"depth": 0}), ("ssam_tiny", {"depth": -1}), ("ssam_tiny", {"embed_dim": 190}),
        ("ssam_tiny", {"patch_size": (0, 16)}), ("ssam_tiny", {"sample_rate": 0}), ("ssam_tiny", {"f_max": 9e9}),
        ("ssam_tiny", {"win_length": 500}), ("ssam_tiny", {"norm_eps": float("nan")}), ("ssam_tiny", {"f_min": -1}),
        ("ssamba_tiny", {"std": 0}), ("ssamba_tiny", {"time_stride": 0}), ("ssamba_tiny", {"num_classes": -1}),
    ],
)  # fmt: skip
def test_sizes_that_no_model_can_have_are_refused(name, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        load_model(variant=name, **options)


@pytest.mark.parametrize("variant", ["ssam_tiny", "ssamba_tiny", "ssast_tiny"])
def test_gradients_of_each_clip_by_functional_calls(variant: str, noise) -> None:
    model = load_model(variant=variant, depth=2, device="cpu")
    audio = noise(3, 8000)
    each = torch.func.vmap(lambda clip: model.embed(clip[None])[0])(audio)
    assert (each - model.embed(audio)).abs().max() < 1e-5

    def loss(weights: dict[str, torch.Tensor], clip: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, weights, (clip[None],)).square().sum()

    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    made = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, audio)
    model.zero_grad()
    model.embed(audio[1:2]).square().sum().backward()
    for name, weight in model.named_parameters():
        found = made[name][1]
        assert weight.grad is None or (found - weight.grad).norm() <= 1e-3 * weight.grad.norm() + 1e-6, name


@pytest.mark.parametrize("name", QUICK)
def test_a_memory_planner_sees_the_shapes(name, noise):
    """Under `FakeTensorMode` a model computes nothing, and gives tensors with the shapes of the real ones."""
    model, audio = quick(name), noise(2, 20_000)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = mode.from_tensor(audio)
        planned = (model.embed(fake), *model.embed_timestamps(fake), *model.hidden_states(fake))
        planned[0].sum().backward()
    real = (model.embed(audio), *model.embed_timestamps(audio), *model.hidden_states(audio))
    assert [(t.shape, t.dtype) for t in planned] == [(t.shape, t.dtype) for t in real]
