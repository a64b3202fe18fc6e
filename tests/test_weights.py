"""Weights: the authors' files as released, ours, the manifest and the hub; nothing unsafe is ever run."""

from __future__ import annotations

import argparse
import os
import pickle
import struct
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from hear_audiomamba import UntrainedWeightsWarning, get_scene_embeddings, load_model
from hear_audiomamba.errors import CheckpointError, ConfigError, VariantError
from hear_audiomamba.models import weights
from hear_audiomamba.models.convert import convert, read_checkpoint
from hear_audiomamba.models.registry import find_variant
from hear_audiomamba.models.weights import load_strict, save_weights


@pytest.fixture(scope="module")
def state():
    """The tensors of a two-block SSAM under the authors' names."""
    return load_model(variant="ssam_tiny", depth=2, device="cpu").encoder.state_dict()


def published_file(path, state):
    """Write what the authors' training loop writes: weights beside pickled arguments."""
    ml_collections = pytest.importorskip("ml_collections")
    config = ml_collections.ConfigDict({"model": {"type": "mamba_ssast_tiny", "dims": (200, 80)}, "lr": 1e-4})
    config.epochs = ml_collections.FieldReference(100)
    arguments = argparse.Namespace(config=config, output_dir="runs", device="cuda", lr=None)
    optimizer = {
        "state": {0: {"step": torch.tensor(3.0)}},
        "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.95)}],
    }
    content = {
        "model": state,
        "optimizer": optimizer,
        "epoch": 99,
        "scaler": {"scale": 65536.0},
        "args": arguments,
    }
    torch.save(content, path)
    return path


def test_the_authors_file(tmp_path, state, noise):
    path = published_file(tmp_path / "checkpoint-99.pth", state)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)  # why the restricted reader is needed at all
    model = load_model(path, device="cpu")
    assert model.config.family == "ssam" and model.encoder.depth == 2
    own = tmp_path / "own.safetensors"
    save_weights(own, state, model.config)
    audio = noise(1, 20_000)
    assert torch.equal(
        get_scene_embeddings(audio, model), get_scene_embeddings(audio, load_model(own, device="cpu"))
    )


def test_reading_leaves_the_unpickler_as_strict_as_before(tmp_path, state):
    before = set(torch.serialization.get_safe_globals())
    read_checkpoint(published_file(tmp_path / "a.pth", state))
    assert set(torch.serialization.get_safe_globals()) == before


def test_safetensors_with_the_authors_keys(tmp_path, state):
    path = tmp_path / "authors.safetensors"
    save_file({f"module.{k}": v.clone() for k, v in state.items()}, path)
    assert load_model(path, device="cpu").encoder.depth == 2


def test_convert_keeps_every_bit(tmp_path, state):
    source, target = published_file(tmp_path / "c.pth", state), tmp_path / "out" / "c.safetensors"
    convert(source, target)
    config, tensors, notes = read_checkpoint(target)
    assert config.encoder.depth == 2 and notes == {"converted_from": "c.pth"}
    assert tensors.keys() == state.keys() and all(torch.equal(tensors[k], state[k]) for k in state)


def test_half_size(tmp_path, state):
    source = published_file(tmp_path / "c.pth", state)
    convert(source, tmp_path / "full.safetensors")
    convert(source, tmp_path / "half.safetensors", dtype=torch.float16)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.52 * (
        tmp_path / "full.safetensors"
    ).stat().st_size
    model = load_model(tmp_path / "half.safetensors", device="cpu")
    assert {p.dtype for p in model.encoder.parameters()} == {torch.float32}


class Payload:
    """What an attacker would pickle."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("place", ["args", "model", "top"])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_payload_is_refused_and_not_run(tmp_path, state, place, legacy):
    trap = tmp_path / "ran"
    content = {"model": dict(state), "args": None}
    if place == "model":
        content["model"]["extra"] = Payload(trap)
    elif place == "args":
        content["args"] = argparse.Namespace(config=Payload(trap))
    else:
        content = Payload(trap)
    path = tmp_path / "evil.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="cannot be read safely") as caught:
        load_model(path)
    assert not trap.exists() and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["builtins.eval", "builtins.getattr", "torch.hub.load", "subprocess.Popen"])
def test_no_other_name_is_allowed(tmp_path, name):
    module, _, attribute = name.rpartition(".")
    path = tmp_path / "name.pth"
    path.write_bytes(b"\x80\x02c" + f"{module}\n{attribute}\n".encode() + b"(X\x01\x00\x00\x001tR.")
    with pytest.raises(CheckpointError):
        load_model(path)


def damaged(kind, path, state):
    config = find_variant("ssam_tiny").config
    save_weights(path, state, config.replace(encoder=config.encoder.replace(depth=2)))
    data = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "oversized header":
        path.write_bytes(struct.pack("<Q", 1 << 40) + data[8:])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("404: not found")
    elif kind == "bad description":
        save_file({"a": torch.zeros(1)}, path, {weights.METADATA_KEY: "{"})
    return path


@pytest.mark.parametrize("kind", ["truncated", "oversized header", "empty", "text", "bad description"])
def test_a_damaged_file_is_named(tmp_path, state, kind):
    path = damaged(kind, tmp_path / "damaged.safetensors", state)
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert kind == "bad description" or "damaged.safetensors" in str(caught.value)


@pytest.mark.parametrize("size", [0, 10, 5000])
def test_a_truncated_pytorch_file_is_named(tmp_path, state, size):
    path = published_file(tmp_path / "cut.pth", state)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"cut\.pth"):
        load_model(path)


def test_keys_that_do_not_fit_are_named(state):
    encoder = load_model(variant="ssam_tiny", depth=2, device="cpu").encoder
    wrong = {k: v for k, v in state.items() if k != "blocks.1.norm.weight"}
    wrong["blocks.9.norm.weight"] = torch.zeros(192)
    wrong["cls_token"] = torch.zeros(1, 1, 7)
    with pytest.raises(CheckpointError) as caught:
        load_strict(encoder, wrong, "file")
    for part in (
        "missing blocks.1.norm.weight",
        "unexpected blocks.9.norm.weight",
        "cls_token (1, 1, 7) instead",
    ):
        assert part in str(caught.value)


def test_heads_may_be_left_out(tmp_path, state, noise):
    config = load_model(variant="ssam_tiny", depth=2, device="cpu").config
    lean = {k: v for k, v in state.items() if not k.startswith(("pred.", "mask_token"))}
    model = load_model(save_weights(tmp_path / "lean.safetensors", lean, config), device="cpu")
    assert torch.isfinite(get_scene_embeddings(noise(1, 100), model)).all()


def test_another_model_than_asked_for(tmp_path, state):
    path = published_file(tmp_path / "c.pth", state)
    with pytest.raises(
        CheckpointError, match=r"looks like ssam \(embed_dim 192, depth 2\), not ssam_small_200"
    ):
        load_model(path, variant="ssam_small")
    torch.save({"model": {"fc.weight": torch.zeros(2, 2)}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"not a checkpoint of ssam.*fc\.weight"):
        load_model(tmp_path / "other.pth")


def test_no_such_file_or_model(tmp_path):
    with pytest.raises(CheckpointError, match="no such file, folder or model; did you mean 'ssam_tiny"):
        load_model("ssam_tinny")
    with pytest.raises(CheckpointError, match=r"without model\.safetensors"):
        load_model(tmp_path)
    with pytest.raises(VariantError, match="did you mean 'ssam_tiny"):
        load_model(variant="ssam_tny")
    with pytest.raises(ConfigError, match="unknown option 'presicion' .* did you mean 'precision'"):
        load_model(presicion="bfloat16")


def test_untrained_is_said_and_repeatable(noise):
    with pytest.warns(UntrainedWeightsWarning, match="random"):
        first = load_model(variant="ssam_small", depth=1, device="cpu")
    torch.manual_seed(123)
    second = load_model(variant="ssam_small", depth=1, device="cpu")
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.encoder.state_dict().values(), second.encoder.state_dict().values())
    )
    state = torch.random.get_rng_state()
    load_model(variant="ssam_small", depth=1, device="cpu")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_writing_is_atomic(tmp_path, state, monkeypatch):
    config = find_variant("ssam_tiny").config
    path = save_weights(tmp_path / "w.safetensors", state, config)
    before = path.read_bytes()

    def fail(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr("hear_audiomamba.models.weights.save_file", fail)
    with pytest.raises(OSError, match="space"):
        save_weights(path, state, config)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_clone_loads_the_default_offline(tmp_path):
    program = (
        "import warnings; warnings.simplefilter('ignore'); import hear_audiomamba as h\n"
        "print(h.load_model(device='cpu').config.variant)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "ssam_tiny_200_16x4"
