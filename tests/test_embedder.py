"""The promises of the HEAR API: shapes, times, batches, odd inputs, precision, memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hear_audiomamba import embed_file, get_scene_embeddings, get_timestamp_embeddings, load_model
from hear_audiomamba.embedding.pooling import smooth_rows
from hear_audiomamba.errors import AudioMambaError, ConfigError, InputError
from hear_audiomamba.ops.mixer import mixes_in


@given(samples=st.integers(1, 70_000), count=st.integers(1, 3))
def test_any_length_gives_regular_times_within_the_clip(small_model, samples, count):
    audio = torch.linspace(-0.5, 0.5, samples).repeat(count, 1)
    rows, times = get_timestamp_embeddings(audio, small_model)
    duration = 1000 * samples / 16000
    assert rows.shape == (count, times.shape[1], 960) and rows.dtype == times.dtype == torch.float32
    assert torch.isfinite(rows).all()
    assert (times >= 0).all() and (times <= duration).all()
    assert duration - times[0, -1] <= 40 or times.shape[1] == 1
    if times.shape[1] > 1:
        assert (times.diff() - 40).abs().max() <= 1
    scene = get_scene_embeddings(audio, small_model)
    torch.testing.assert_close(scene, rows.mean(dim=1), rtol=0, atol=1e-5)


def test_scene_pooling_is_the_weights_own_or_as_asked(noise):
    audio = noise(2, 50_000)
    model = load_model(variant="ssam_tiny", depth=2, scene_pooling="mean_plus_max", device="cpu")
    rows, _ = get_timestamp_embeddings(audio, model)
    expected = rows.mean(dim=1) + rows.amax(dim=1)
    torch.testing.assert_close(get_scene_embeddings(audio, model), expected, rtol=0, atol=1e-5)
    assert model.config.scene_pooling == "mean_plus_max" and model.scene_embedding_size == 960
    # What a variant is with other options has nothing of the bundled weights, their pooling included.
    assert load_model(variant="ssam_tiny", depth=2, device="cpu").scene_pooling == "mean"
    published = load_model(
        variant="ssam_tiny", depth=2, scene_pooling="mean_plus_max", compat="published", device="cpu"
    )
    torch.testing.assert_close(published.scene(audio), published.timestamps(audio)[0].mean(dim=1))
    with pytest.raises(ConfigError, match="scene_pooling: 'max' is not allowed"):
        load_model(scene_pooling="max")
    with pytest.raises(ConfigError, match="did you mean 'scene_pooling'"):
        load_model(scene_poling="mean")


def test_bundled_weights_take_another_pooling(recwarn):
    model = load_model(scene_pooling="mean", timestamp_smoothing_ms=0, device="cpu")
    bundled = load_model(device="cpu")
    assert (model.scene_pooling, bundled.scene_pooling) == ("mean", "mean_plus_max") and not recwarn
    assert (model.row_smoothing, bundled.row_smoothing) == (0, 240 / 40)
    for key, tensor in model.encoder.state_dict().items():
        assert torch.equal(tensor, bundled.encoder.state_dict()[key]), key


def test_timestamps_are_smoothed_as_the_weights_have_it_or_as_asked(noise):
    audio = noise(2, 50_000)
    tiny = {"variant": "ssam_tiny", "depth": 2, "device": "cpu"}
    plain, smooth = load_model(**tiny), load_model(**tiny, timestamp_smoothing_ms=100)
    rows, times = plain.timestamps(audio)
    smoothed, same_times = smooth.timestamps(audio)
    assert torch.equal(times, same_times) and plain.config.timestamp_smoothing_ms == 0
    torch.testing.assert_close(smoothed, smooth_rows(rows, 100 / 40))  # rows lie 40 ms apart
    assert (smoothed - rows).abs().max() > 0.1
    assert torch.equal(smooth.scene(audio), plain.scene(audio))
    published = load_model(**tiny, timestamp_smoothing_ms=100, compat="published")
    assert torch.equal(
        published.timestamps(audio)[0], load_model(**tiny, compat="published").timestamps(audio)[0]
    )
    for value in (-1, float("nan"), float("inf"), 10_001):
        with pytest.raises(
            ConfigError, match=f"timestamp_smoothing_ms: {float(value)!r} is not from 0 to 10000"
        ):
            load_model(timestamp_smoothing_ms=value)


@given(dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]))
def test_any_floating_type_gives_float32(small_model, dtype):
    audio = torch.linspace(-0.5, 0.5, 8000).to(dtype)[None]
    assert get_scene_embeddings(audio, small_model).dtype == torch.float32


@pytest.mark.parametrize("count", [1, 2, 7, 64])
@pytest.mark.parametrize("neighbour", ["silence", "noise"])
def test_a_clip_does_not_depend_on_its_batch(small_model, noise, count, neighbour):
    clip = noise(1, 9000)
    alone = get_scene_embeddings(clip, small_model)
    others = torch.zeros(count - 1, 9000) if neighbour == "silence" else noise(count - 1, 9000, 1)
    together = get_scene_embeddings(torch.cat([clip, others]), small_model)
    assert (together[:1] - alone).abs().max() <= 1e-5


def test_five_runs_are_bit_equal(small_model, noise):
    audio = noise(2, 50_000)
    first = get_scene_embeddings(audio, small_model)
    for _ in range(4):
        assert torch.equal(get_scene_embeddings(audio, small_model), first)


def test_a_new_process_gives_the_same_bits(small_model, noise, tmp_path):
    program = (
        "import sys, torch, warnings; warnings.simplefilter('ignore')\n"
        f"torch.set_num_threads({torch.get_num_threads()})\n"
        "from hear_audiomamba import load_model, get_scene_embeddings\n"
        "model = load_model(variant='ssam_tiny', depth=2, device='cpu')\n"
        "audio = torch.load(sys.argv[1], weights_only=True)\n"
        "torch.save(get_scene_embeddings(audio, model), sys.argv[2])\n"
    )
    audio = noise(2, 40_000)
    torch.save(audio, tmp_path / "audio.pt")
    command = [sys.executable, "-c", program, tmp_path / "audio.pt", tmp_path / "scene.pt"]
    subprocess.run(command, check=True)
    there = torch.load(tmp_path / "scene.pt", weights_only=True)
    assert torch.equal(there, get_scene_embeddings(audio, small_model))


@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_pieces_change_nothing(noise, small_model, batch):
    model = load_model(variant="ssam_tiny", depth=2, max_batch_windows=batch, device="cpu")
    audio = noise(3, 70_000)
    torch.testing.assert_close(
        get_scene_embeddings(audio, model), get_scene_embeddings(audio, small_model), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(
    "audio",
    [
        torch.zeros(1, 32_000),
        torch.full((1, 32_000), 0.7),
        torch.full((1, 32_000), 1e-41),
        torch.ones(1, 32_000) * torch.tensor([1.0, -1.0]).repeat(16_000),
        torch.tensor([[0.3]]),
    ],
    ids=["silence", "direct current", "denormal", "full scale", "one sample"],
)
def test_odd_sounds_are_finite(small_model, audio):
    rows, _ = get_timestamp_embeddings(audio, small_model)
    assert torch.isfinite(rows).all()


@pytest.mark.slow
def test_twenty_minutes_in_bounded_memory():
    program = (
        "import resource, torch, warnings; warnings.simplefilter('ignore')\n"
        "from hear_audiomamba import load_model, get_scene_embeddings\n"
        "model = load_model(variant='ssam_tiny', depth=1, device='cpu')\n"
        "get_scene_embeddings(torch.rand(1, 160000) - 0.5, model)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "get_scene_embeddings(torch.rand(1, 20 * 60 * 16000) - 0.5, model)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 1500  # MB; all windows at once would need over 4,000


def test_times_do_not_drift_over_37_minutes(small_model):
    samples = 37 * 60 * 16000
    n_rows = small_model.count_rows(samples)
    _, times = small_model.timestamp_grid(samples, n_rows)
    expected = 15 + 40 * torch.arange(len(times), dtype=torch.float64)
    assert len(times) == 55_500 and (torch.from_numpy(times).float() - expected).abs().max() <= 1


def test_start_times(noise):
    model = load_model(variant="ssam_tiny", depth=1, timestamps="start", device="cpu")
    _, times = get_timestamp_embeddings(noise(1, 16_000), model)
    assert times[0, :3].tolist() == [0, 40, 80]


def test_embeddings_can_be_trained_on(small_model, noise):
    head = torch.nn.Linear(960, 2)
    head(get_scene_embeddings(noise(2, 8000), small_model)).sum().backward()
    assert head.weight.grad is not None


def test_bfloat16_is_near_float32(small_model, noise):
    model = load_model(variant="ssam_tiny", depth=2, precision="bfloat16", device="cpu")
    audio = noise(2, 32_000)
    low, full = get_scene_embeddings(audio, model), get_scene_embeddings(audio, small_model)
    assert low.dtype == torch.float32
    assert ((low - full).norm() / full.norm()).item() < 2e-2


def test_hidden_states(small_model, noise):
    states = small_model.hidden_states(noise(2, 70_000))
    assert [s.shape for s in states] == [(2, 3 * 251, 192)] * 2
    half_a_second = small_model.hidden_states(noise(2, 8000))  # causal: 13 steps of 5 patches are enough
    assert [s.shape for s in half_a_second] == [(2, 1 + 13 * 5, 192)] * 2


BAD_AUDIO = {
    "a list": ([[0.0, 0.0]], "torch.Tensor or a numpy array"),
    "an array of integers": (np.zeros((1, 100), "int16"), "32768"),
    "an array of text": (np.array([["a"]]), "not floating point"),
    "transposed": (torch.zeros(44_100, 2), r"44100 clips of 2 samples; it looks transposed: pass audio\.T"),
    "one axis": (torch.zeros(100), r"audio\[None\]"),
    "three axes": (torch.zeros(1, 1, 100), r"\(n_sounds, n_samples\)"),
    "integers": (torch.zeros(1, 100, dtype=torch.int16), "32768"),
    "complex": (torch.zeros(1, 100, dtype=torch.complex64), "floating point"),
    "no clips": (torch.zeros(0, 100), "empty"),
    "no samples": (torch.zeros(2, 0), "empty"),
    "NaN": (torch.tensor([[0.0, 0.0], [0.0, float("nan")]]), "row 1 holds nan at sample 1"),
    "infinity": (torch.tensor([[float("-inf"), 0.0]]), "row 0 holds -inf at sample 0"),
    "16-bit values": (torch.full((2, 100), 12_000.0), r"row 0 reaches 1.2e\+04.*\[-1, 1\]"),
}


@pytest.mark.parametrize("case", BAD_AUDIO)
@pytest.mark.parametrize("function", [get_scene_embeddings, get_timestamp_embeddings])
def test_bad_audio(small_model, case, function):
    audio, message = BAD_AUDIO[case]
    with pytest.raises(InputError, match=message) as caught:
        function(audio, small_model)
    assert isinstance(caught.value, ValueError) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "case", [case for case in BAD_AUDIO if case not in ("NaN", "infinity", "16-bit values")]
)
def test_bad_audio_for_the_front_end(small_model, case):
    audio, message = BAD_AUDIO[case]
    with pytest.raises(InputError, match=message):
        small_model.features(audio)


def test_the_front_end_takes_arrays(small_model, noise):
    audio = noise(2, 4000)
    assert torch.equal(small_model.features(audio.numpy().astype(">f4")), small_model.features(audio))


def test_numbers_of_numpy_are_numbers(noise):
    model = load_model(variant="ssam_tiny", depth=np.int64(1), window_seconds=np.float32(1.5), device="cpu")
    assert model.config.encoder.depth == 1 and model.config.window_seconds == 1.5
    audio = noise(1, 4000)
    model.embed(audio, sample_rate=np.int64(16_000))
    with pytest.raises(InputError, match="has 44100 Hz"):
        model.embed(audio, sample_rate=np.int32(44_100))
    with pytest.raises(InputError, match="not a number of samples"):
        model.embed(audio, sample_rate=np.array("44100"))
    expected = embed_file(audio, model, sample_rate=22_050)
    assert np.array_equal(embed_file(audio, model, sample_rate=np.int64(22_050)), expected)


def test_what_is_no_model():
    with pytest.raises(InputError, match="load_model"):
        get_scene_embeddings(torch.zeros(1, 100), torch.nn.Identity())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int8"}, "precision: 'int8' .* 'auto', 'float32'"),
        ({"timestamps": "end"}, "timestamps: 'end'"),
        ({"compat": "paper"}, "compat: 'paper'"),
        ({"window_seconds": 0}, "window_seconds"),
        ({"window_seconds": float("nan")}, "window_seconds"),
        ({"max_batch_windows": 0}, "max_batch_windows"),
        ({"patchsize": (4, 16)}, "did you mean 'patch_size'"),
        ({"patch_size": (4, 7)}, "do not divide"),
        ({"depth": "twelve"}, "depth: expected int"),
        ({"backend": "cuda"}, "backend"),
        ({"variant": "ssam_huge"}, "did you mean"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises((AudioMambaError, ValueError), match=message):
        model = load_model(**{"depth": 1, "device": "cpu", **options})
        get_scene_embeddings(torch.zeros(1, 100), model)


def test_automatic_precision_takes_bfloat16_only_where_whole_mixers_run_in_it(noise):
    model = load_model(variant="ssam_tiny", precision="auto", device="cpu")
    expected = "bfloat16" if mixes_in(torch.bfloat16, torch.device("cpu"), None) else "float32"
    assert model.precision == expected
    exact = load_model(variant="ssam_tiny", device="cpu")
    audio = noise(2, 32_000)
    a, b = model.scene(audio), exact.scene(audio)
    assert torch.linalg.vector_norm(a - b) <= 1e-2 * torch.linalg.vector_norm(b)


def test_automatic_precision_is_float32_without_the_kernel_or_without_mixers():
    options = {"precision": "auto", "device": "cpu"}
    assert load_model(variant="ssam_tiny", depth=1, backend="torch", **options).precision == "float32"
    assert load_model(variant="hiermamba_nano", **options).precision == "float32"


def test_float16_needs_a_gpu(noise):
    model = load_model(variant="ssam_tiny", depth=1, precision="float16", device="cpu")
    with pytest.raises(ConfigError, match="use 'bfloat16' or 'float32'"):
        get_scene_embeddings(noise(1, 100), model)
