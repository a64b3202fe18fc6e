"""The run: what comes out is what the model gives one by one, in every format, and nothing is ever lost."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from hear_audiomamba import load_model
from hear_audiomamba.archive import clips, decode, run
from hear_audiomamba.archive.journal import Journal
from hear_audiomamba.archive.options import EmbedOptions
from hear_audiomamba.archive.read import read_all_scenes
from hear_audiomamba.archive.run import Resources, embed_sources
from hear_audiomamba.archive.sources import find_sources
from hear_audiomamba.errors import ConfigError, DataError
from hear_audiomamba.io.audio import load_audio
from hear_audiomamba.io.process import is_out_of_memory

from .conftest import TINY, digest_tree, embed_one, write_noise

BOTH = EmbedOptions(timestamps=True)
HERE = Resources(workers=0)


@pytest.fixture
def short_memory(monkeypatch):
    """Take every clip of more than a second for a long one, read in blocks of a third of a second."""
    monkeypatch.setattr(clips, "WHOLE_SECONDS", 1.0)
    monkeypatch.setattr(decode, "BLOCK_SECONDS", 1 / 3)
    monkeypatch.setattr(clips, "SPILL_BYTES", 10_000)


@pytest.mark.parametrize("variant", ["ssam_tiny", "ssamba_tiny", "ssast_tiny_200_16x4"])
def test_batches_of_any_files_give_what_one_by_one_gives(make_archive, tmp_path, variant):
    depth = 2 if variant == "ssamba_tiny" else 1
    model = load_model(variant=variant, depth=depth, device="cpu", max_batch_windows=7)
    folder = make_archive(12)
    embed_sources(find_sources([folder]), model, tmp_path / "out", BOTH, HERE)
    for path in folder.rglob("*.wav"):
        check_npz(model, path, tmp_path / "out" / f"{path.relative_to(folder)}.npz")


def check_npz(model, path: Path, result: Path, atol: float = 1e-5) -> None:
    scene, rows, times = embed_one(model, path)
    with np.load(result) as held:
        np.testing.assert_allclose(held["scene"], scene, atol=atol)
        np.testing.assert_allclose(held["embeddings"], rows, atol=atol)
        np.testing.assert_array_equal(held["timestamps"], times)
        assert json.loads(str(held["config"]))["model"] == model.config.variant


def test_long_files_in_blocks_give_what_whole_ones_give(tiny_model, make_archive, tmp_path, short_memory):
    folder = make_archive(6)
    embed_sources(find_sources([folder]), tiny_model, tmp_path / "out", BOTH, HERE)
    for path in folder.rglob("*.wav"):
        check_npz(tiny_model, path, tmp_path / "out" / f"{path.relative_to(folder)}.npz")


def test_interpolated_timestamps_of_long_files(make_archive, tmp_path, short_memory):
    model = load_model(variant="ssamba_tiny", depth=2, device="cpu")  # rows 160 ms apart
    folder = make_archive(2, (2.5, 4.0))
    embed_sources(find_sources([folder]), model, tmp_path / "out", BOTH, HERE)
    for path in folder.rglob("*.wav"):
        # Kaldi's filterbank takes the clip's mean off first; in blocks that rounds differently.
        check_npz(model, path, tmp_path / "out" / f"{path.relative_to(folder)}.npz", atol=5e-5)


@pytest.mark.parametrize("variant", ["ssam_tiny", "ssamba_tiny"])
def test_smoothed_timestamps_of_long_files(variant, make_archive, tmp_path, short_memory, monkeypatch):
    monkeypatch.setattr(clips, "TIMESTAMPS_AT_ONCE", 7)
    model = load_model(variant=variant, depth=2, timestamp_smoothing_ms=90.0, device="cpu")
    folder = make_archive(3, (0.1, 4.0))
    embed_sources(find_sources([folder]), model, tmp_path / "out", BOTH, HERE)
    for path in folder.rglob("*.wav"):
        check_npz(model, path, tmp_path / "out" / f"{path.relative_to(folder)}.npz", atol=5e-5)


def test_windows_normalised_by_themselves(tiny_model, tmp_path, monkeypatch):
    path = write_noise(tmp_path / "a.wav", 5.0)
    options = EmbedOptions(normalize="window")
    embed_sources(find_sources([path]), tiny_model, tmp_path / "whole", options, HERE)
    monkeypatch.setattr(clips, "WHOLE_SECONDS", 1.0)
    embed_sources(find_sources([path]), tiny_model, tmp_path / "long", options, HERE)
    whole, long = (np.load(tmp_path / name / "a.wav.npz")["scene"] for name in ("whole", "long"))
    np.testing.assert_allclose(long, whole, atol=1e-5)
    assert np.abs(whole - embed_one(tiny_model, path)[0]).max() > 1e-3, (
        "differs from the clip's own statistics"
    )


def test_maxima_of_long_and_short_files(make_archive, tmp_path, short_memory):
    model = load_model(**TINY, scene_pooling="mean_plus_max", max_batch_windows=2)
    folder = make_archive(5, (0.3, 9.0))
    embed_sources(find_sources([folder]), model, tmp_path / "out", BOTH, HERE)
    for path in folder.rglob("*.wav"):
        check_npz(model, path, tmp_path / "out" / f"{path.relative_to(folder)}.npz")


def test_published_runtime(make_archive, tmp_path):
    model = load_model(**{**TINY, "embed_dim": 24}, compat="published")
    folder = make_archive(3, (0.5, 3.0))
    embed_sources(find_sources([folder]), model, tmp_path / "out", BOTH, HERE)
    for path in folder.rglob("*.wav"):
        check_npz(model, path, tmp_path / "out" / f"{path.relative_to(folder)}.npz")


@pytest.mark.parametrize("format", ["parquet", "npy"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_shards_hold_what_npz_files_hold(tiny_model, make_archive, tmp_path, format, dtype):
    folder = make_archive(7, (0.3, 3.0))
    options = EmbedOptions(timestamps=True, format=format, dtype=dtype, shard_sources=3)
    embed_sources(find_sources([folder]), tiny_model, tmp_path / "out", options, HERE)
    table = read_all_scenes(tmp_path / "out")
    assert len(table) == 7 and len(list((tmp_path / "out").glob(f"scene-*.{format}"))) == 3
    tolerance = 1e-5 if dtype == "float32" else 2e-3
    for path, duration, scene in zip(table.paths, table.duration, table.embeddings):
        np.testing.assert_allclose(scene, embed_one(tiny_model, Path(path))[0], atol=tolerance)
        assert duration == len(load_audio(path, 16000)) / 16000
    check_timestamps(tiny_model, tmp_path / "out", format, table.paths[0], tolerance)
    assert len(table.provenance["weights_sha256"]) == 64


def check_timestamps(model, out: Path, format: str, first: str, tolerance: float) -> None:
    _, rows, times = embed_one(model, Path(first))
    if format == "parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(out / "timestamps-00000.parquet")
        assert str(table.schema.field("embedding").type).startswith("fixed_size_list<")
        held = np.array(table.column("embedding").to_pylist())[: len(rows)]
        when = table.column("time_ms").to_numpy()[: len(rows)]
    else:
        line = json.loads((out / "timestamps-00000.jsonl").read_text().splitlines()[1])
        assert line["rows"] == len(rows)
        held = np.load(out / "timestamps-00000.npy", mmap_mode="r")[: len(rows)]
        when = line["first_ms"] + line["step_ms"] * np.arange(len(rows))
    np.testing.assert_allclose(held, rows, atol=tolerance)
    np.testing.assert_allclose(when, times, atol=1e-3)


def test_segments_are_embedded_as_clips_of_their_own(tiny_model, tmp_path):
    path = write_noise(tmp_path / "a.wav", 3.4)
    embed_sources(find_sources([path]), tiny_model, tmp_path / "out", EmbedOptions(segment_seconds=1.5), HERE)
    samples = torch.from_numpy(load_audio(path, 16000))
    with np.load(tmp_path / "out" / "a.wav.npz") as held:
        np.testing.assert_array_equal(held["start"], [0.0, 1.5, 3.0])
        np.testing.assert_allclose(held["duration"], [1.5, 1.5, 0.4])
        for scene, piece in zip(held["scene"], samples.split(24000)):
            np.testing.assert_allclose(scene, tiny_model.scene(piece[None])[0], atol=1e-5)
    with pytest.raises(ConfigError, match="segments have scene embeddings only"):
        EmbedOptions(segment_seconds=1.0, timestamps=True)


def test_manifest_rows_are_stretches(tiny_model, tmp_path):
    path = write_noise(tmp_path / "a.wav", 3.0)
    (tmp_path / "list.csv").write_text("path,start,duration\na.wav,0.5,1.0\na.wav,,\n")
    embed_sources(find_sources([tmp_path / "list.csv"]), tiny_model, tmp_path / "out", resources=HERE)
    samples = torch.from_numpy(load_audio(path, 16000))
    with np.load(tmp_path / "out" / "a@0.5+1.wav.npz") as held:
        np.testing.assert_allclose(held["scene"], tiny_model.scene(samples[None, 8000:24000])[0], atol=1e-5)


@pytest.mark.parametrize("format", ["npz", "parquet"])
def test_workers_devices_and_repeats_give_the_same_bytes(tiny_model, make_archive, tmp_path, format):
    sources = find_sources([make_archive(30, (0.1, 2.5))])
    options = EmbedOptions(timestamps=True, format=format, shard_sources=12)
    for name, resources in {
        "here": HERE, "again": HERE, "workers": Resources(workers=2),
        "devices": Resources(workers=0, devices=("cpu", "cpu")),
    }.items():  # fmt: skip
        embed_sources(sources, tiny_model, tmp_path / name, options, resources)
    trees = [digest_tree(tmp_path / name) for name in ("here", "again", "workers", "devices")]
    assert trees[0] == trees[1] == trees[2] == trees[3]


def test_a_thousand_files_with_fifty_corrupt(tiny_model, make_archive, tmp_path):
    folder = make_archive(950, (0.02, 0.1))
    sources = find_sources([folder])
    clean = embed_sources(sources, tiny_model, tmp_path / "clean", EmbedOptions(format="npy"), HERE)
    assert clean.failed == 0 and not (tmp_path / "clean" / "errors.jsonl").exists()
    for index in range(50):
        bad = folder / f"group{index % 3}" / f"clip{index * 19:04d}x.wav"
        bad.write_bytes([b"", b"no audio", b"RIFF" + bytes(100)][index % 3])
    summary = embed_sources(find_sources([folder]), tiny_model, tmp_path / "out", EmbedOptions(format="npy"))
    assert (summary.sources, summary.embedded, summary.failed) == (1000, 950, 50)
    lines = [json.loads(line) for line in (tmp_path / "out" / "errors.jsonl").read_text().splitlines()]
    assert len(lines) == 50 and all(line["path"].endswith("x.wav") and line["reason"] for line in lines)
    a, b = (read_all_scenes(tmp_path / name) for name in ("clean", "out"))
    assert a.paths == b.paths
    np.testing.assert_allclose(a.embeddings, b.embeddings, atol=1e-5)


def test_a_second_run_does_only_what_is_new_or_changed(tiny_model, make_archive, tmp_path):
    folder = make_archive(6, (0.1, 0.3))
    out = tmp_path / "out"
    options = EmbedOptions(shard_sources=2)
    assert embed_sources(find_sources([folder]), tiny_model, out, options, HERE).resumed == 0
    assert embed_sources(find_sources([folder]), tiny_model, out, options, HERE).resumed == 6
    write_noise(folder / "group0" / "new.wav", 0.2)
    summary = embed_sources(find_sources([folder]), tiny_model, out, options, HERE)
    assert (summary.resumed, summary.embedded) == (6, 7)
    before = np.load(out / "group1" / "clip0001.wav.npz")["scene"]
    write_noise(folder / "group1" / "clip0001.wav", 0.25, seed=99)
    summary = embed_sources(find_sources([folder]), tiny_model, out, options, HERE)
    assert summary.resumed == 5 and summary.embedded == 7
    assert np.abs(np.load(out / "group1" / "clip0001.wav.npz")["scene"] - before).max() > 1e-4


def test_other_settings_never_meet_old_results(tiny_model, make_archive, tmp_path):
    sources, out = find_sources([make_archive(2, (0.1, 0.2))]), tmp_path / "out"
    embed_sources(sources, tiny_model, out, resources=HERE)
    other_precision = load_model(**TINY, precision="bfloat16")
    other_weights = load_model(**TINY)
    with torch.no_grad():
        other_weights.encoder.cls_token += 1
    for model, options, what in (
        (tiny_model, EmbedOptions(dtype="float16"), "options.dtype: float32 there, float16 now"),
        (other_precision, EmbedOptions(), "precision: float32 there, bfloat16 now"),
        (other_weights, EmbedOptions(), "weights_sha256"),
    ):
        with pytest.raises(DataError, match=what):
            embed_sources(sources, model, out, options, HERE)
    summary = embed_sources(sources, other_weights, out, resources=Resources(workers=0, overwrite=True))
    assert summary.resumed == 0
    check = np.load(out / "group0" / "clip0000.wav.npz")["scene"]
    np.testing.assert_allclose(check, embed_one(other_weights, Path(sources[0].path))[0], atol=1e-5)


def test_files_of_others_are_not_written_over(tiny_model, make_archive, tmp_path):
    sources, out = find_sources([make_archive(1, (0.1, 0.2))]), tmp_path / "out"
    (out / "group0").mkdir(parents=True)
    (out / "group0" / "clip0000.wav.npz").write_text("precious")
    with pytest.raises(DataError, match="exists and no run on record made it"):
        embed_sources(sources, tiny_model, out, resources=HERE)
    assert (out / "group0" / "clip0000.wav.npz").read_text() == "precious"


def test_failed_files_are_remembered_and_tried_again_on_request(tiny_model, make_archive, tmp_path):
    folder = make_archive(3, (0.1, 0.2))
    bad, good = folder / "group0" / "bad.wav", folder / "group0" / "clip0000.wav"
    bad.symlink_to(tmp_path / "later.wav")
    sources, out = find_sources([folder]), tmp_path / "out"
    assert embed_sources(sources, tiny_model, out, resources=HERE).failed == 1
    os.link(good, tmp_path / "later.wav")
    again = embed_sources(sources, tiny_model, out, resources=Resources(workers=0, retry_errors=True))
    assert again.failed == 0 and not (out / "errors.jsonl").exists()


def test_shares_together_are_the_whole(tiny_model, make_archive, tmp_path):
    sources = find_sources([make_archive(20, (0.1, 0.5))])
    options = EmbedOptions(format="parquet", shard_sources=3)
    embed_sources(sources, tiny_model, tmp_path / "whole", options, HERE)
    for index in (2, 0, 1):
        share = Resources(workers=0, share=(index, 3))
        summary = embed_sources(sources, tiny_model, tmp_path / "shares", options, share)
        assert 0 < summary.embedded < 20
    assert digest_tree(tmp_path / "shares") == digest_tree(tmp_path / "whole")


def test_two_processes_do_not_write_to_one_folder(tiny_model, make_archive, tmp_path):
    sources, out = find_sources([make_archive(2, (0.1, 0.2))]), tmp_path / "out"
    settings = json.loads(run.describe(tiny_model, EmbedOptions()).to_json())
    with Journal(out, settings), pytest.raises(DataError, match="another process is writing there"):
        embed_sources(sources, tiny_model, out, resources=HERE)
    with Journal(out, settings, share=(0, 2)):
        with pytest.raises(DataError, match="another process"):
            embed_sources(sources, tiny_model, out, resources=HERE)
        with pytest.raises(DataError, match="another process"):
            embed_sources(sources, tiny_model, out, resources=Resources(workers=0, share=(0, 2)))
        embed_sources(sources, tiny_model, out, resources=Resources(workers=0, share=(1, 2)))
    assert embed_sources(sources, tiny_model, out, resources=HERE).embedded == 2


def test_out_of_memory_halves_the_batch_and_goes_on(tiny_model, make_archive, tmp_path, monkeypatch):
    folder = make_archive(9, (2.0, 4.0))
    sources = find_sources([folder])
    embed_sources(sources, tiny_model, tmp_path / "clean", resources=HERE)
    inner = type(tiny_model).encode_windows

    def limited(self, windows):
        if len(windows) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return inner(self, windows)

    monkeypatch.setattr(type(tiny_model), "encode_windows", limited)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        summary = embed_sources(sources, tiny_model, tmp_path / "out", resources=HERE)
    assert summary.embedded == 9 and len(caught) == 1
    assert "out of memory" in str(caught[0].message)
    for path in folder.rglob("*.wav"):
        name = f"{path.relative_to(folder)}.npz"
        a, b = (np.load(tmp_path / out / name)["scene"] for out in ("clean", "out"))
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_other_errors_of_the_model_are_not_taken_for_full_memory(tiny_model):
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 bytes"))
