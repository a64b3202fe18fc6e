"""The trained weights in the repository: listed, whole, loaded offline by their variant's name, better than noise."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import pytest
import torch

from hear_audiomamba import get_scene_embeddings, get_timestamp_embeddings, load_model
from hear_audiomamba.cli import main
from hear_audiomamba.embedding.tagging import audioset_classes, tag_audio
from hear_audiomamba.io.audio import load_audio
from hear_audiomamba.io.files import sha256_of
from hear_audiomamba.models.bundled import bundled_path
from hear_audiomamba.models.manifest import manifest

WEIGHTS = bundled_path("weights")
BUNDLED = {name: entry for name, entry in manifest()["weights"].items() if entry.get("file")}
EXAMPLES = bundled_path("tasks.txt").parent / "examples" / "audio"
OFFLINE = """
import socket, sys, warnings
def refuse(*arguments, **options): raise OSError("no network in this test")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
warnings.simplefilter("error")
import torch
from hear_audiomamba import get_scene_embeddings, load_model
model = load_model(variant=sys.argv[1], device="cpu")
out = get_scene_embeddings(torch.sin(torch.arange(16000) / 20)[None], model)
assert out.shape == (1, model.scene_embedding_size) and out.isfinite().all()
"""


def test_the_folder_holds_what_the_manifest_names_and_nothing_else():
    files = {path.name for path in WEIGHTS.glob("*.safetensors")}
    assert files == {entry["file"] for entry in BUNDLED.values()}
    assert sum((WEIGHTS / name).stat().st_size for name in files) < 60e6


@pytest.mark.parametrize("name", BUNDLED)
def test_an_entry_is_true(name):
    entry = BUNDLED[name]
    path = WEIGHTS / entry["file"]
    assert sha256_of(path) == entry["sha256"]
    assert path.stat().st_size == entry["bytes"] < 20e6
    assert entry["licence"] and entry["source"] and entry["recipe"]
    assert (WEIGHTS / f"{name}.md").is_file(), "no model card"


@pytest.mark.parametrize("variant", ["ssam_tiny_200_16x4", "ssamba_tiny", "hiermamba_nano"])
def test_a_variant_loads_its_weights_offline_and_without_a_warning(variant):
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, variant], capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("variant", ["ssamba_tiny", "hiermamba_nano"])
def test_embeddings_have_their_contract(variant):
    model = load_model(variant=variant, device="cpu")
    audio = torch.from_numpy(load_audio(EXAMPLES / "music_koto.flac", model.sample_rate))[None, :48000]
    scene = get_scene_embeddings(audio, model)
    rows, times = get_timestamp_embeddings(audio, model)
    assert scene.dtype == rows.dtype == torch.float32
    assert scene.shape == (1, model.scene_embedding_size)
    assert rows.shape == (1, times.shape[1], model.timestamp_embedding_size)
    assert (times.diff() > 0).all() and times.max() <= 3000


def test_the_default_of_the_family_has_a_short_name():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_model(variant="hiermamba", device="cpu").config.variant == "hiermamba_nano"


def test_tags_have_names_of_audioset():
    model = load_model(variant="hiermamba_nano", device="cpu")
    assert len(model.config.labels) == 521
    assert set(model.config.labels) <= {name for _, name in audioset_classes()}
    assert model.config.labels[0] == "Speech"


@pytest.mark.parametrize(("file", "wanted"), [("speech_english.wav", "Speech"), ("music_koto.flac", "Music")])
def test_speech_is_called_speech_and_music_music(file, wanted):
    model = load_model(variant="hiermamba_nano", device="cpu")
    audio = torch.from_numpy(load_audio(EXAMPLES / file, model.sample_rate))
    assert wanted in [name for _, name, _ in tag_audio(model, audio, model.sample_rate).top(2)]


def test_tag_works_without_a_model_named(capsys):
    file = EXAMPLES / "speech_english.wav"
    assert main(["tag", str(file), "--json", "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert said["model"] == "hiermamba_nano" and "untrained" not in said
    assert said["labels"][0]["label"] == "Speech" and said["labels"][0]["id"] == "/m/09x0r"
