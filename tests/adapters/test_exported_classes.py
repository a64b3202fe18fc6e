"""Exported models with classes say what `tag` and `predict` say, with and without PyTorch."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hear_audiomamba import load_model
from hear_audiomamba.adapters.class_outputs import HeadOutput
from hear_audiomamba.adapters.clip_model import clip_model
from hear_audiomamba.adapters.export import METADATA_KEY, export_onnx, export_torch
from hear_audiomamba.classify.events import EventSettings
from hear_audiomamba.classify.head import Calibration, Head, Layer
from hear_audiomamba.classify.model_file import Classifier, EmbeddingModel, save_classifier
from hear_audiomamba.cli import main
from hear_audiomamba.embedding.embedder import AudioEmbedder
from hear_audiomamba.embedding.tagging import tag_audio
from hear_audiomamba.errors import ConfigError, DataError, InputError
from hear_audiomamba.models.families import build_modules

from ..tagger import write_tagger

ROOT = Path(__file__).resolve().parents[2]
RATE = 16000
NAMES = ("low", "high|er", "noise")
TINY = {"variant": "ssam_tiny", "embed_dim": 16, "depth": 1, "d_state": 2, "expand": 1}


def tiny_model():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_model(**TINY, device="cpu")


def noise(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(7)) - 0.5


def sounds(seconds):
    """Tones and noise of several levels, each half a second, so that classes differ: `(n,)` float32."""
    random = np.random.default_rng(5)
    time = np.arange(RATE // 2) / RATE
    tones = [np.sin(2 * np.pi * hertz * time) for hertz in (200, 1000, 5000)]
    kinds = [*tones, random.uniform(-1, 1, len(time))]
    parts = [kinds[i] * random.choice((0.01, 0.5)) for i in random.integers(0, 4, round(2 * seconds))]
    return np.concatenate(parts).astype(np.float32)


def head_for(model, kind, hidden=0):
    """A classifier that depends on its input: random directions through the middle of the sounds' embeddings."""
    random = np.random.default_rng(1)
    scenes = model.scene(torch.from_numpy(sounds(32)).reshape(16, -1)).numpy()
    widths = [scenes.shape[1], *([hidden] if hidden else []), len(NAMES)]
    layers = tuple(
        Layer(random.normal(0, 0.3, (a, b)).astype(np.float32), random.normal(0, 0.1, b).astype(np.float32))
        for a, b in pairwise(widths)
    )
    slope = np.full(3, 0.7, np.float32) if kind == "single" else np.float32([0.5, 1.0, 1.5])
    offset = np.zeros(3, np.float32) if kind == "single" else np.float32([0.1, -0.2, 0.0])
    scale = scenes.std(axis=0) + 1e-3
    return Head(
        kind,
        NAMES,
        scenes.mean(axis=0),
        scale,
        layers,
        Calibration(slope, offset),
        np.full(3, 0.4, np.float32),
    )


def classifier_for(model, kind, arguments=TINY, seconds=2.0):
    events = EventSettings(smooth_seconds=0.0, keep_share=0.8)
    length = None if kind == "events" else seconds
    return Classifier(head_for(model, kind), EmbeddingModel.of(model, arguments), length, events)


def agrees(found, expected):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize("seconds", (0.4, 3.0, 24.3))
@pytest.mark.parametrize("single", (False, True))
def test_a_clip_model_tags_as_tag_audio_does(tmp_path, seconds, single):
    model = load_model(write_tagger(tmp_path / "x.safetensors", single), device="cpu")
    audio = noise(2, round(seconds * RATE))
    with torch.inference_mode():
        *_, found = clip_model(model, seconds=seconds, classes=True)(audio)
    expected = [tag_audio(model, clip, RATE) for clip in audio]
    assert expected[0].n_windows == (3 if seconds > 20 else 1)
    agrees(found, [tags.probabilities for tags in expected])
    if single and seconds < 20:
        agrees(found.sum(1), [1.0, 1.0])


def test_tags_are_exported_when_asked_for(tmp_path):
    """They take a second pass through the encoder, and runtimes compute all outputs of a file."""
    model = load_model(write_tagger(tmp_path / "x.safetensors"), device="cpu")
    bare, with_tags = clip_model(model), clip_model(model, classes=True)
    assert bare.outputs == ["scene", "embeddings"]
    assert with_tags.outputs == [*bare.outputs, "probabilities"]
    assert bare.n_samples == round(model.config.window_seconds * RATE)
    assert with_tags.n_samples == 10 * RATE  # AudioSet's clips
    assert bare.describe()["tagging_head"] and "classes" not in bare.describe()
    passes = []
    model.encoder.blocks[0].register_forward_hook(lambda *_: passes.append(1))
    for clips, expected in ((bare, 1), (with_tags, 2)):
        passes.clear()
        with torch.inference_mode():
            assert len(clips(clips.example(1))) == len(clips.outputs)
        assert len(passes) == expected


def test_classes_of_a_model_without_a_head(tmp_path):
    with pytest.raises(ConfigError, match="has no tagging head; models with one: aum_tiny"):
        export_torch(tiny_model(), tmp_path / "x.pt2", classes=True)
    assert not clip_model(tiny_model()).describe()["tagging_head"]


def test_classes_from_spectrograms(tmp_path):
    model = load_model(write_tagger(tmp_path / "x.safetensors"), device="cpu")
    for seconds, tolerance in (
        (3.0, 1e-4),
        (20.0, 0.05),
    ):  # a frame where a long clip is cut hears both sides
        audio = noise(2, round(seconds * RATE))
        with torch.inference_mode():
            clips = clip_model(model, seconds=seconds, source="spectrogram", classes=True)
            *_, found = clips(model.features(audio))
        expected = [tag_audio(model, clip, RATE).probabilities for clip in audio]
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("kind", "hidden"), (("single", 0), ("single", 8), ("multi", 8), ("events", 0)))
def test_a_classifier_as_tensors_is_the_classifier(kind, hidden):
    model = tiny_model()
    head = head_for(model, kind, hidden)
    classifier = Classifier(head, EmbeddingModel.of(model), None, EventSettings())
    scenes = model.scene(noise(5, RATE))
    found, expected = HeadOutput(classifier)(scenes), head.probabilities(scenes.numpy())
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_classifier_takes_its_own_clips_and_model(tmp_path):
    model = tiny_model()
    classifier = classifier_for(model, "single", seconds=1.5)
    with pytest.raises(ConfigError, match=r"seconds: 3, but the classifier was fitted on clips of 1\.5 s"):
        export_torch(model, tmp_path / "y.pt2", seconds=3, classifier=classifier)
    torch.manual_seed(1)
    other = AudioEmbedder(model.config, *build_modules(model.config))
    with pytest.raises(DataError, match="another weights"):
        export_torch(other, tmp_path / "y.pt2", classifier=classifier)


# The other kinds are exported to ONNX below: the graph before it is the same.
def test_a_classifier_is_exported_for_pytorch(tmp_path):
    model, audio = tiny_model(), noise(3, 2 * RATE)
    classifier = classifier_for(model, "multi")
    program = torch.export.load(export_torch(model, tmp_path / "x.pt2", classifier=classifier)).module()
    found = program(audio)[2].detach().numpy()
    assert found.shape == (3, 3)
    agrees(found, classifier.head.probabilities(model.scene(audio).numpy()))


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory):
    """ONNX files of a classifier of clips and of one of events, and where their classifiers are."""
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    folder = tmp_path_factory.mktemp("classifiers")
    model = tiny_model()
    # Random weights are others at each loading, so the model lies beside its classifiers.
    model.save(folder / "model.safetensors")
    for kind in ("single", "events"):
        save_classifier(
            classifier_for(model, kind, {"model_file_path": "model.safetensors"}),
            folder / f"{kind}.safetensors",
        )
        assert (
            main(["export", str(folder / f"{kind}.safetensors"), "--out", str(folder / f"{kind}.onnx")]) == 0
        )
    return folder


def recording_of(path, seconds):
    soundfile.write(path, sounds(seconds), RATE, subtype="FLOAT")
    return path


@pytest.mark.parametrize(("kind", "seconds"), (("single", 8), ("events", 2)))
def test_predict_file_finds_what_predict_finds(classifiers, tmp_path, kind, seconds):
    from hear_audiomamba.onnx_runtime import OnnxEmbedder

    file = recording_of(tmp_path / "x.wav", seconds)
    words = [str(file), "--model", str(classifiers / f"{kind}.safetensors"), "--workers", "0", "--quiet"]
    assert main(["predict", *words, "--out", str(tmp_path / "x.json")]) == 0
    expected = json.loads((tmp_path / "x.json").read_text())["detections"]
    model = OnnxEmbedder(classifiers / f"{kind}.onnx", threads=1)
    found = model.predict_file(file)
    assert model.classes == NAMES and len(expected) >= 2
    assert [one.label for one in found] == [one["label"] for one in expected]
    for name in ("start", "end", "score"):
        agrees([getattr(one, name) for one in found], [one[name] for one in expected])
    assert {one.path for one in found} == {str(file)}


@pytest.mark.parametrize("seconds", (1.0, 5.0, 7.5))
def test_rows_cover_a_recording_once(classifiers, tmp_path, seconds):
    from hear_audiomamba.onnx_runtime import OnnxEmbedder

    file = recording_of(tmp_path / "x.wav", seconds)
    for kind in ("single", "events"):
        scores = OnnxEmbedder(classifiers / f"{kind}.onnx", threads=1).score_file(file)
        assert scores.starts[0] == 0 and scores.ends[-1] == pytest.approx(seconds, abs=0.03)
        # Where the last clip begins between two rows, one row is up to a step late.
        assert np.abs(scores.starts[1:] - scores.ends[:-1]).max(initial=0) < 0.041
        assert scores.probabilities.shape == (len(scores.starts), len(NAMES))


def test_tags_of_a_file_and_files_without_classes(classifiers, onnx_file, tmp_path):
    import onnx

    from hear_audiomamba.onnx_runtime import OnnxEmbedder

    file = recording_of(tmp_path / "x.wav", 4)
    model = OnnxEmbedder(classifiers / "single.onnx", threads=1)
    best = model.score_file(file).probabilities.max(axis=0)
    found = model.tag_file(file, top=2)
    assert [name for name, _ in found] == [NAMES[i] for i in np.argsort(-best)[:2]]
    agrees([value for _, value in found], np.sort(best)[:0:-1])
    with pytest.raises(InputError, match="top"):
        model.tag_file(file, top=-1)
    bare = OnnxEmbedder(onnx_file[1], threads=1)
    assert bare.classes == ()
    with pytest.raises(ConfigError, match=r"model\.onnx: gives the .* only; export a classifier"):
        bare.tag_file(file)
    with pytest.raises(ConfigError, match="has no thresholds"):
        bare.predict_file(file)
    graph = onnx.load(onnx_file[1])
    (about,) = (entry for entry in graph.metadata_props if entry.key == METADATA_KEY)
    about.value = json.dumps(json.loads(about.value) | {"tagging_head": True})
    onnx.save(graph, tmp_path / "tagger.onnx")
    with pytest.raises(ConfigError, match="export it again with --classes$"):
        OnnxEmbedder(tmp_path / "tagger.onnx", threads=1).tag_file(file)


def test_classes_need_nothing_but_the_four_packages(classifiers, tmp_path):
    """A fresh interpreter without torch, PyYAML and all else that the package needs elsewhere."""
    file = recording_of(tmp_path / "x.wav", 4)
    program = (
        "import sys\n"
        "for name in ('torch yaml filelock safetensors huggingface_hub tqdm rich scipy sklearn').split():\n"
        "    sys.modules[name] = None\n"
        "from hear_audiomamba.onnx_runtime import OnnxEmbedder\n"
        "import csv\n"
        "csv.writer(sys.stdout).writerows(OnnxEmbedder(sys.argv[1]).predict_file(sys.argv[2]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(classifiers / "events.onnx"), str(file)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {row[3] for row in csv.reader(done.stdout.splitlines())} <= set(NAMES) and done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tagger", "hiermamba_nano", "hiermamba_tiny"])
def test_onnx_tags_as_tag_audio_does(name, tmp_path):
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    from hear_audiomamba.onnx_runtime import OnnxEmbedder

    if name == "tagger":
        model = load_model(write_tagger(tmp_path / "x.safetensors"), device="cpu")
    elif name == "hiermamba_tiny":  # whose clips of 10 s are stretched
        model = load_model(variant=name, depths=(1, 1, 1, 1), device="cpu")
    else:
        model = load_model(variant=name, device="cpu")
    session = OnnxEmbedder(export_onnx(model, tmp_path / "model.onnx", classes=True), threads=1)
    seconds = session.n_samples / session.sample_rate
    samples = noise(round(1.3 * session.n_samples))
    soundfile.write(tmp_path / "x.wav", samples.numpy(), session.sample_rate, subtype="FLOAT")
    expected = tag_audio(model, samples, session.sample_rate)
    if seconds == 10:  # where one training clip is 10.24 s, a recording no longer than that is one window
        assert expected.n_windows == 2
    agrees(session.score_file(tmp_path / "x.wav").probabilities.max(axis=0), expected.probabilities)
    assert session.tag_file(tmp_path / "x.wav", 1)[0][0] == expected.top(1)[0][1]
