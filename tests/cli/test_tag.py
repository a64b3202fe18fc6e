"""`hear-audiomamba tag` and the functions behind it, on real sound files and small models with random heads."""

import json

import numpy as np
import pytest
import soundfile
import torch

from hear_audiomamba.cli import main
from hear_audiomamba.config import AuMConfig, KaldiFbankConfig
from hear_audiomamba.embedding.embedder import AudioEmbedder
from hear_audiomamba.embedding.tagging import audioset_classes, class_names, tag_audio
from hear_audiomamba.errors import ConfigError, InputError
from hear_audiomamba.hear import load_model
from hear_audiomamba.models.families import build_modules
from hear_audiomamba.models.registry import VARIANTS
from hear_audiomamba.models.weights import save_weights


def small_model(variant="hiermamba_tiny", **options) -> AudioEmbedder:
    config = VARIANTS[variant].config
    config = config.replace(encoder=config.encoder.replace(dim=16, depths=(1, 1, 1, 1), **options))
    torch.manual_seed(0)
    model = AudioEmbedder(config, *build_modules(config))
    if model.encoder.head is not None:
        with torch.no_grad():  # heads start near zero: spread the probabilities
            for parameter in model.encoder.head.parameters():
                parameter.mul_(30)
    return model


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tagger.safetensors"
    model = small_model()
    save_weights(path, model.encoder.state_dict(), model.config)
    return path


@pytest.fixture
def recording(tmp_path):
    """Return a stereo file of 3 s at a rate no model has."""
    path = tmp_path / "noise.flac"
    noise = 0.1 * np.random.default_rng(0).standard_normal((44100 * 3, 2))
    soundfile.write(path, noise.clip(-1, 1), 44100)
    return path


def noise(seconds, rate=32000, seed=0):
    return 0.1 * torch.randn(int(rate * seconds), generator=torch.Generator().manual_seed(seed))


def test_the_class_names_are_audiosets():
    classes = audioset_classes()
    assert len(classes) == len(set(classes)) == 527
    assert classes[0] == ("/m/09x0r", "Speech") and classes[137] == ("/m/04rlf", "Music")
    assert classes[1] == ("/m/05zppz", "Male speech, man speaking")
    assert classes[500] == ("/m/028v0c", "Silence") and classes[526] == ("/m/07hvw1", "Field recording")
    assert class_names(527)[74] == "Dog"
    assert class_names(3) == ("class 0", "class 1", "class 2")


def test_prints_labels_and_probabilities(weights, recording, capsys):
    assert main(["tag", str(recording), "--model", str(weights), "--top", "3", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{recording}  (3.0 s)"
    assert len(lines) == 4
    probabilities = [float(line.split()[0]) for line in lines[1:]]
    assert probabilities == sorted(probabilities, reverse=True)
    names = {name for _, name in audioset_classes()}
    assert all(line[10:] in names for line in lines[1:])


def test_json_is_one_object_a_line(weights, recording, tmp_path, capsys):
    long = tmp_path / "long.wav"
    soundfile.write(long, noise(25.0).numpy(), 32000)
    arguments = ["tag", str(recording), str(long), "--model", str(weights), "--json", "--top", "2"]
    assert main([*arguments, "--device", "cpu"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert "untrained" not in first
    assert first["windows"] == 1 and second["windows"] == 3
    assert second["seconds"] == 25.0 and len(second["labels"]) == 2
    label = first["labels"][0]
    assert dict((name, mid) for mid, name in audioset_classes())[label["label"]] == label["id"]


def test_draws_pictures(weights, recording, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "made" / "tags.png"
    common = ["--model", str(weights), "--device", "cpu"]
    assert main(["tag", str(recording), "--plot", str(picture), *common]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000
    other = tmp_path / "other.wav"
    soundfile.write(other, noise(0.2).numpy(), 32000)
    folder = tmp_path / "pictures"
    assert main(["tag", str(recording), str(other), "--plot", str(folder), *common]) == 0
    assert sorted(p.name for p in folder.iterdir()) == ["noise.flac.png", "other.wav.png"]
    assert main(["tag", str(recording), str(other), "--plot", str(picture), *common]) == 1
    assert "name a folder" in capsys.readouterr().err


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["$\\foo$ \N{BIRD}", "bad\udcff", "two\nlines"])
def test_pictures_take_any_name(weights, recording, tmp_path, name):
    """What matplotlib takes for a formula, what its fonts lack, and bytes that are no UTF-8."""
    try:
        named = recording.rename(tmp_path / f"{name}.flac")
    except (OSError, UnicodeError):
        pytest.skip("this system takes no such name: not POSIX")
    assert main(["tag", str(named), "--model", str(weights), "--plot", str(tmp_path / "p.png")]) == 0
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_pictures_need_matplotlib(recording, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["tag", str(recording), "--plot", str(tmp_path / "x.png")]) == 1
    assert "--plot needs matplotlib: pip install" in capsys.readouterr().err


def test_a_bad_file_does_not_stop_the_others(weights, recording, tmp_path, capsys):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"not audio at all")
    assert main(["tag", str(broken), str(recording), "--model", str(weights), "--device", "cpu"]) == 1
    captured = capsys.readouterr()
    assert str(recording) in captured.out
    assert captured.err.count("\n") == 1 and "broken.wav" in captured.err


def test_a_model_without_a_head_is_a_one_line_error(recording, capsys):
    assert main(["tag", str(recording), "--model", "ssam_tiny", "--device", "cpu"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "ssam_tiny_200_16x4 has no tagging head" in error and "hiermamba_small" in error


def test_untrained_weights_warn(recording, tmp_path, capsys):
    model = ["--model", "aum_tiny", "--device", "cpu"]
    assert main(["tag", "--allow-untrained", str(tmp_path / "absent.wav"), str(recording), *model]) == 1
    captured = capsys.readouterr()
    first, second = captured.err.splitlines()
    assert "warning: aum_tiny: no trained weights" in first
    assert "absent.wav: no such file" in second
    assert "untrained weights: these labels are noise" in captured.out.splitlines()[0]
    assert main(["tag", "--allow-untrained", str(recording), "--json", *model]) == 0
    assert json.loads(capsys.readouterr().out)["untrained"] is True


def test_random_weights_are_refused(recording, capsys):
    assert main(["tag", str(recording), "--model", "hiermamba_tiny", "--device", "cpu"]) == 1
    captured = capsys.readouterr()
    assert (
        not captured.out and "has no trained weights" in captured.err and "--allow-untrained" in captured.err
    )


def test_wrong_top(recording, capsys):
    assert main(["tag", str(recording), "--top", "0"]) == 1
    assert "--top: 0 is less than 1" in capsys.readouterr().err


def test_ten_seconds_are_tagged_as_in_training():
    model = small_model()
    audio = noise(10.0)
    tags = tag_audio(model, audio, 32000)
    with torch.no_grad():
        clip, frames = model.encoder.tag(model.features(audio[None]))
    assert np.allclose(tags.probabilities, clip[0].sigmoid(), atol=1e-6)
    assert np.allclose(tags.frames, frames[0].sigmoid(), atol=1e-6)
    assert tags.times[0] == pytest.approx(10 / 64, abs=0.01) and len(tags.times) == 32


def test_short_clips_are_padded_with_silence():
    model = small_model()
    features = model.features(noise(4.0)[None])
    padded = torch.nn.functional.pad(features, (0, 0, 0, 1001 - features.shape[1]), value=-100.0)
    with torch.no_grad():
        clip, _ = model.encoder.tag(padded)
    tags = tag_audio(model, noise(4.0), 32000)
    assert np.allclose(tags.probabilities, clip[0].sigmoid(), atol=1e-6)
    assert tags.times[-1] < 4.0
    assert tag_audio(model, torch.zeros(1), 32000).frames.shape == (1, 527)


@pytest.mark.parametrize("seconds", [10.1, 10.24, 10.25, 20.0, 23.3])
def test_nothing_of_a_long_clip_is_cut(seconds):
    model = small_model()
    audio = noise(seconds)
    tags = tag_audio(model, audio, 32000)
    assert tags.n_windows == (1 if seconds <= 10.24 else -(-seconds // 10))
    assert (np.diff(tags.times) > 0).all()
    assert tags.times[0] < 0.33 and seconds - 0.35 < tags.times[-1] < seconds
    assert len(tags.times) == len(tags.frames)
    if seconds > 20:  # the last window ends with the clip, and the clip's chance is its loudest window's
        last = tag_audio(model, audio[-320000:], 32000)
        assert (tags.probabilities >= last.probabilities - 1e-4).all()
        assert np.allclose(tags.frames[-5:], last.frames[-5:], atol=1e-4)


def test_another_rate_is_refused_and_the_right_one_named():
    with pytest.raises(InputError, match="16000 Hz, but the model takes 32000 Hz"):
        tag_audio(small_model(), noise(1.0), 16000)
    with pytest.raises(InputError, match=r"expected \(n_samples,\)"):
        tag_audio(small_model(), torch.zeros(1, 100), 32000)


def test_precisions():
    exact = tag_audio(small_model(), noise(1.0), 32000)
    rough = small_model()
    rough = AudioEmbedder(rough.config, rough.features, rough.encoder, precision="bfloat16")
    assert np.abs(tag_audio(rough, noise(1.0), 32000).probabilities - exact.probabilities).mean() < 0.05
    half = small_model()
    half = AudioEmbedder(half.config, half.features, half.encoder, precision="float16")
    with pytest.raises(ConfigError, match="'float16' needs a GPU"):
        tag_audio(half, noise(1.0), 32000)


def test_models_without_a_head_in_the_api():
    with pytest.raises(ConfigError, match="no tagging head; models with one: "):
        tag_audio(small_model(head="none"), noise(1.0), 32000)
    with pytest.raises(ConfigError, match="no tagging head"):
        tag_audio(load_model("ssam_tiny", device="cpu"), noise(1.0), 16000)


def test_dass_and_aum_tag_too():
    dass = small_model("dass_small")
    tags = tag_audio(dass, noise(2.0, 16000), 16000)
    assert tags.probabilities.shape == (527,) and tags.frames.shape == (6, 527)
    config = VARIANTS["aum_tiny"].config.replace(
        encoder=AuMConfig(embed_dim=32, depth=1, num_classes=4), features=KaldiFbankConfig()
    )
    aum = AudioEmbedder(config, *build_modules(config))
    tags = tag_audio(aum, noise(21.0, 16000), 16000)
    assert tags.n_windows == 3 and tags.labels == ("class 0", "class 1", "class 2", "class 3")
    assert np.allclose(tags.probabilities, tags.frames.max(axis=0), atol=1e-6)
