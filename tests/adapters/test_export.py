"""Exported models give what the HEAR API gives, in onnxruntime and in torch.export, for every family."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.torch_version import TorchVersion

from hear_audiomamba import load_model
from hear_audiomamba.adapters.clip_model import clip_model
from hear_audiomamba.adapters.eight_bits import quantise
from hear_audiomamba.adapters.export import export_onnx, export_torch
from hear_audiomamba.adapters.lowered import check_torch, convolution, scan
from hear_audiomamba.cli import main
from hear_audiomamba.embedding.tagging import tag_audio
from hear_audiomamba.errors import (
    CheckpointError,
    ConfigError,
    InputError,
    MissingPackageError,
    OutputError,
    UntrainedWeightsWarning,
)
from hear_audiomamba.frontends.base import power_by_products
from hear_audiomamba.onnx_runtime import METADATA_KEY
from hear_audiomamba.ops import causal_conv1d, selective_scan, selective_scan_2d

from ..tagger import write_tagger

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = {
    "ssam_tiny": {"depth": 2},
    "ssamba_tiny": {"depth": 2},
    "aum_tiny": {"depth": 2},
    "ssast_tiny": {"depth": 2},
    "hiermamba_tiny": {"depths": (1, 1, 1, 1)},
}


def model_of(name):
    return load_model(variant=name, device="cpu", **FAMILIES[name])


def noise_for(model, count, seconds=None):
    n_samples = round((seconds or model.config.window_seconds) * model.sample_rate)
    return torch.rand(count, n_samples, generator=torch.Generator().manual_seed(3)) - 0.5


def agrees(found, expected):
    """Float32 in another order of sums: within 1e-4 of the largest value."""
    found, expected = np.asarray(found), np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * float(np.abs(expected).max()))


@pytest.mark.parametrize("reverse", (False, True))
@pytest.mark.parametrize("groups", (1, 2))
def test_the_lowered_scan_is_the_scan(reverse, groups):
    torch.manual_seed(0)
    u, delta, z = torch.randn(3, 2, 9, 8)
    A, D, bias = -torch.rand(8, 4), torch.randn(8), torch.randn(8)
    B, C = torch.randn(2, 2, 9, groups, 4)
    expected = selective_scan(
        u, delta, A, B, C, D=D, z=z, delta_bias=bias, delta_softplus=True, reverse=reverse
    )
    found, _, _ = scan(u, delta, A, B, C, D, z, bias, None, True, reverse, 0, 0, False)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_lowered_scan_of_a_map_is_that_of_the_map():
    torch.manual_seed(0)
    height, width, channels, states = 3, 5, 6, 2
    u = torch.randn(2, height * width, channels)
    delta = torch.randn(2, height * width, 4, channels)
    A, D, bias = -torch.rand(4 * channels, states), torch.randn(4 * channels), torch.randn(4 * channels)
    B, C = torch.randn(2, 2, height * width, 4, states)
    expected = selective_scan_2d(
        u, delta, A, B, C, D=D, delta_bias=bias, height=height, width=width, delta_softplus=True
    )
    found, _, _ = scan(u, delta, A, B, C, D, None, bias, None, True, False, height, width, False)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reverse", (False, True))
def test_the_lowered_convolution_is_the_convolution(reverse):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 7, 6), torch.randn(6, 4), torch.randn(6)
    expected = causal_conv1d(x, weight, bias, reverse=reverse)
    found = convolution(x, weight, bias, True, reverse, None)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("n", "n_fft"), ((400, 400), (400, 512), (1024, 1024)))
def test_power_spectra_by_products(n, n_fft):
    frames = torch.randn(5, n, generator=torch.Generator().manual_seed(0))
    expected = torch.fft.rfft(frames.double(), n=n_fft).abs().square()
    # n_fft terms of float32 rounding in each of the two sums.
    torch.testing.assert_close(
        power_by_products(frames, n_fft).double(), expected, rtol=1e-4, atol=1e-6 * float(expected.max())
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_a_clip_model_is_the_model(name):
    model = model_of(name)
    audio = noise_for(model, 3)
    with torch.inference_mode():
        scene, embeddings = clip_model(model)(audio)
    agrees(scene, model.scene(audio))
    agrees(embeddings, model.timestamps(audio)[0])


def test_a_fine_tuned_file_with_classes_is_exported(tmp_path):
    file = write_tagger(tmp_path / "fine_tuned.safetensors")
    words = ["export", str(file), "--format", "torch-export", "--out", str(tmp_path / "x.pt2")]
    assert main([*words, "--classes"]) == 0
    model = load_model(file, device="cpu")
    files = {f"{METADATA_KEY}.json": ""}
    program = torch.export.load(tmp_path / "x.pt2", extra_files=files).module()
    assert json.loads(files[f"{METADATA_KEY}.json"])["variant"] == model.config.variant
    for count in (1, 2):
        # As long as the clips of its classes, and longer than its window.
        audio = noise_for(model, count, seconds=10)
        scene, embeddings, classes = program(audio)
        agrees(scene.detach(), model.scene(audio))
        agrees(embeddings.detach(), model.timestamps(audio)[0])
        agrees(classes.detach(), [tag_audio(model, clip, model.sample_rate).probabilities for clip in audio])


def test_onnx_for_any_number_of_clips(onnx_file):
    from hear_audiomamba.onnx_runtime import OnnxEmbedder

    model, path = onnx_file
    with pytest.warns(UntrainedWeightsWarning, match="had no trained weights"):
        session = OnnxEmbedder(path, threads=1)
    assert session.sample_rate == model.sample_rate and session.about["variant"] == model.config.variant
    for count in (1, 2, 5):
        audio = noise_for(model, count)
        agrees(session.scene(audio.numpy()), model.scene(audio))
    embeddings, times = session.timestamps(audio.numpy())
    expected, expected_times = model.timestamps(audio)
    agrees(embeddings, expected)
    np.testing.assert_allclose(times, expected_times, atol=1e-2)


def test_silence_and_quiet_clips_beside_loud_ones(onnx_file, tmp_path):
    """Silence and constant clips have no spread to divide by; a runtime could scale a batch by its loudest clip."""
    from hear_audiomamba.onnx_runtime import OnnxEmbedder

    model, path = onnx_file
    audio = noise_for(model, 5)
    audio[1:] *= torch.tensor([0.0, 1e-4, 1.0, 0.0])[:, None]
    audio[4] += 0.5
    expected = model.scene(audio).numpy()
    for file, tolerance in ((path, 1e-4), (quantise(path, tmp_path / "int8.onnx"), 0.05)):
        session = OnnxEmbedder(file, threads=1)
        found = session.scene(audio.numpy())
        np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max(), rtol=0)
        alone = np.concatenate([session.scene(clip[None]) for clip in audio.numpy()])
        np.testing.assert_allclose(alone, found, atol=1e-5, rtol=0)


def test_weights_in_eight_bits_are_those_of_the_encoders_products(onnx_file, tmp_path):
    import onnx

    _, path = onnx_file
    graph = onnx.load(quantise(path, tmp_path / "int8.onnx")).graph
    onnx.checker.check_model(str(tmp_path / "int8.onnx"))
    eight = [w for w in graph.initializer if w.data_type == onnx.TensorProto.INT8]
    # Of each mixer: input, output, B with C and delta, and delta again. The patch embedding.
    assert len(eight) == 4 * 2 + 1
    assert any(
        w.name == "features.filterbank" and w.data_type == onnx.TensorProto.FLOAT for w in graph.initializer
    )


def test_onnx_refuses_what_it_cannot_take(onnx_file, tmp_path):
    from hear_audiomamba.onnx_runtime import OnnxEmbedder

    session = OnnxEmbedder(onnx_file[1], threads=1)
    with pytest.raises(InputError, match=r"expected \(n_sounds, 32000\): 2 s at 16000 Hz"):
        session.scene(np.zeros((1, 100), np.float32))
    with pytest.raises(InputError, match="NaN"):
        session.scene(np.full((1, 32000), np.nan, np.float32))
    with pytest.raises(CheckpointError, match="no such file"):
        OnnxEmbedder(tmp_path / "no.onnx")
    (tmp_path / "x.onnx").write_bytes(b"\x08\x07garbage")
    with pytest.raises(CheckpointError, match=r"x\.onnx"):
        OnnxEmbedder(tmp_path / "x.onnx")


def test_files_without_torch(onnx_file, tmp_path):
    """A fresh interpreter that cannot import torch embeds a file."""
    model, path = onnx_file
    samples = noise_for(model, 1, seconds=5)[0].numpy() * 0.5
    soundfile.write(tmp_path / "noise.wav", samples, 16000, subtype="FLOAT")
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from hear_audiomamba.onnx_runtime import OnnxEmbedder\n"
        f"scenes, starts = OnnxEmbedder({str(path)!r}).embed_file({str(tmp_path / 'noise.wav')!r})\n"
        "import numpy; numpy.savez(sys.argv[1], scenes=scenes, starts=starts)\n"
    )
    out = tmp_path / "out.npz"
    done = subprocess.run(
        [sys.executable, "-c", program, str(out)], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = np.load(out)
    assert found["starts"].tolist() == [0.0, 2.0, 3.0]
    for scene, start in zip(found["scenes"], found["starts"], strict=True):
        clip = torch.from_numpy(samples[int(start * 16000) :][:32000])
        agrees(scene, model.scene(clip[None])[0])


def test_bad_wishes(tmp_path):
    model = model_of("ssam_tiny")
    for seconds in (0.001, 0.0, -3.0, float("nan"), float("inf"), 1e9):
        with pytest.raises(ConfigError, match=r"is not from 0\.01 \(one frame\) to 3600"):
            export_torch(model, tmp_path / "x", seconds=seconds)
    with pytest.raises(OutputError, match="directory"):
        export_torch(model, tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="source"):
        export_torch(model, tmp_path / "x", source="mp3")
    published = load_model(variant="ssam_tiny", depth=2, device="cpu", compat="published")
    with pytest.raises(ConfigError, match="compat"):
        export_torch(published, tmp_path / "x")
    assert main(["export", "ssam_tiny", "--format", "torch-export", "--int8"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_torch_export_of_every_family(name, tmp_path):
    model = model_of(name)
    program = torch.export.load(export_torch(model, tmp_path / "model.pt2")).module()
    for count in (1, 3):
        audio = noise_for(model, count)
        agrees(program(audio)[0].detach(), model.scene(audio))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"ssam_tiny"}))
def test_onnx_of_every_family(name, tmp_path):
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    from hear_audiomamba.onnx_runtime import OnnxEmbedder

    model = model_of(name)
    session = OnnxEmbedder(export_onnx(model, tmp_path / "model.onnx"), threads=1)
    assert session.classes == ()
    audio = noise_for(model, 3)
    agrees(session.scene(audio.numpy()), model.scene(audio))
    agrees(session.timestamps(audio.numpy())[0], model.timestamps(audio)[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ssam_tiny", "ssamba_tiny", "hiermamba_nano"])
def test_onnx_in_eight_bits_of_the_bundled_weights(name, tmp_path):
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    from hear_audiomamba.onnx_runtime import OnnxEmbedder

    model = load_model(variant=name, device="cpu")
    path = export_onnx(model, tmp_path / "model.onnx", int8=True)
    audio = noise_for(model, 4)
    found, expected = OnnxEmbedder(path, threads=1).scene(audio.numpy()), model.scene(audio).numpy()
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() > 0.999


def test_a_torch_that_cannot_export_is_named_before_any_work():
    for version in ("2.4.0", "2.7.1+cpu"):
        with pytest.raises(
            MissingPackageError, match=f"exporting needs torch 2.8 or newer, here is {version[:5]}"
        ):
            check_torch(TorchVersion(version))
    for version in ("2.8.0", "2.13.0+cpu"):
        check_torch(TorchVersion(version))
