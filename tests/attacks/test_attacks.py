"""Attacks that are known, each by itself; and a few seconds of those that are not."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from hear_audiomamba.archive.read import read_scenes
from hear_audiomamba.archive.sources import find_sources
from hear_audiomamba.embedding.embedder import AudioEmbedder
from hear_audiomamba.errors import AudioMambaError
from hear_audiomamba.evaluate.study.suite import load_suite
from hear_audiomamba.models.convert import read_checkpoint
from hear_audiomamba.pretrain.settings import read_config

from . import seeds
from .fuzz import attack, damaged
from .targets import make_targets

ROOT = Path(__file__).parents[2]


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def canary(tmp_path):
    path = tmp_path / "ran"
    yield path
    assert not path.exists(), "what a file held was run"


def refused(read, *args):
    with pytest.raises(AudioMambaError) as caught:
        read(*args)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["pth", "pt", "ckpt", "bin", "safetensors"])
def test_pickles_are_not_run(tmp_path, canary, ending):
    path = tmp_path / f"model.{ending}"
    path.write_bytes(pickle.dumps({"model": Payload(canary)}))
    refused(read_checkpoint, path)
    torch.save({"model": Payload(canary)}, path)
    refused(read_checkpoint, path)


@pytest.mark.parametrize("name", ["scene-00000.npy", "a.npz"])
def test_pickles_in_arrays_are_not_run(tmp_path, canary, name):
    content = np.array([Payload(canary)], dtype=object)
    if name.endswith("npz"):
        np.savez(tmp_path / name, scene=content, config=content)
    else:
        np.save(tmp_path / name, content, allow_pickle=True)
        (tmp_path / name).with_suffix(".jsonl").write_text('{"config": {}}\n{"path": "a", "row": 0}\n')
    refused(lambda: list(read_scenes(tmp_path)))


@pytest.mark.parametrize("size", [1 << 62, 1 << 40, 100 << 20])
def test_headers_that_promise_what_is_not_there(tmp_path, size):
    path = tmp_path / "model.safetensors"
    path.write_bytes(
        struct.pack("<Q", size) + b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
    )
    refused(read_checkpoint, path)
    facts = {"descr": "<f4", "fortran_order": False, "shape": (size, 80)}
    with open(tmp_path / "scene-00000.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, facts)
    (tmp_path / "scene-00000.jsonl").write_text('{"config": {}}\n')
    refused(lambda: list(read_scenes(tmp_path)))


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.npy", b"\x93NUMPY" + b"\0" * (64 << 20))
    refused(lambda: list(read_scenes(tmp_path)))


@pytest.mark.parametrize("text", ["!!python/object/apply:os.mkdir ['{}']", "a: !!python/name:os.system"])
def test_yaml_makes_no_objects(tmp_path, canary, text):
    path = tmp_path / "a.yaml"
    path.write_text(text.format(canary))
    refused(load_suite, path)
    refused(read_config, path)


def test_yaml_that_grows_is_bounded(tmp_path):
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    (tmp_path / "a.yaml").write_text("\n".join(lines))  # 2^60 items, were they copied
    refused(load_suite, tmp_path / "a.yaml")
    refused(read_config, tmp_path / "a.yaml")


def test_names_in_tars_and_manifests_lead_nowhere(tmp_path):
    names = ["../../up.wav", "/etc/cron.wav", "a/../../b.wav", "..", "C:\\x.wav", "x\0y.wav", "~/z.wav"]
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in names:
            info = tarfile.TarInfo(name.replace("\0", "") + ("" if name.endswith(".wav") else ".wav"))
            info.size = len(seeds.audio("wav"))
            archive.addfile(info, io.BytesIO(seeds.audio("wav")))
        link = tarfile.TarInfo("link.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    rows = [json.dumps({"path": f"{i}.wav", "name": name}) for i, name in enumerate(names)]
    (tmp_path / "list.jsonl").write_text("\n".join(rows))
    out = tmp_path / "out"
    for path in (tmp_path / "a.tar", tmp_path / "list.jsonl"):
        sources = find_sources([path])
        assert len(sources) >= len(names) - 1
        for source in sources:
            assert (out / source.name).resolve().is_relative_to(out.resolve())
            assert "link" not in source.name


def test_a_weights_file_does_not_choose_what_is_built(tmp_path):
    from safetensors.torch import save_file

    from hear_audiomamba import load_model
    from hear_audiomamba.models.weights import METADATA_KEY

    tensors, description = seeds.state()
    for change in (
        {"family": "__import__('os').system('true')"}, {"encoder": {"depth": 10**9}}, {"encoder": {"embed_dim": -1}},
        {"features": {"sample_rate": "16000"}}, {"encoder": {"depth": float("nan")}},
    ):  # fmt: skip
        held = json.loads(description)
        for key, value in change.items():
            held["config"][key] = {**held["config"][key], **value} if isinstance(value, dict) else value
        path = tmp_path / "a.safetensors"
        save_file(tensors, path, {METADATA_KEY: json.dumps(held)})
        with pytest.raises(AudioMambaError):
            model = load_model(str(path), device="cpu")
            assert not isinstance(model, AudioEmbedder)


def test_every_reader_reads_what_is_well_formed(tmp_path):
    targets = make_targets(tmp_path / "seeds")
    assert len({target.name for target in targets}) == len(targets) > 40
    (tmp_path / "attacked").mkdir()
    for target in targets:
        assert attack(target, target.seed, tmp_path / "attacked") is None, target.name


def test_damage_is_the_same_for_the_same_seed():
    import random

    seed = seeds.table("csv")
    assert damaged(seed, random.Random(3)) == damaged(seed, random.Random(3)) != seed


def test_a_few_seconds_of_damaged_files(tmp_path):
    """From a seed of its own on, so that a failure can be repeated; `make fuzz` goes where nobody was."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.attacks.fuzz", "--seconds", "8", "--seed", "20240", "--keep",
         str(tmp_path / "kept")], cwd=ROOT, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) > 20
