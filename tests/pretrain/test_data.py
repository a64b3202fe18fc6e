"""From files to crops: every source gives the same samples, and what cannot be read is told, not fatal."""

import dataclasses
import io
import json
import pickle
import tarfile

import numpy as np
import pytest
import soundfile
import soxr
import torch

from hear_audiomamba.errors import AudioReadError, ConfigError, DataError, DownloadError
from hear_audiomamba.io.download import OFFLINE_VARIABLES
from hear_audiomamba.models.families import build_modules
from hear_audiomamba.models.registry import find_variant
from hear_audiomamba.pretrain import pretrain
from hear_audiomamba.pretrain.config import AugmentConfig, DataConfig, MaskConfig
from hear_audiomamba.pretrain.data.batches import collate, start_method, training_batches
from hear_audiomamba.pretrain.data.clips import find_clips
from hear_audiomamba.pretrain.data.dataset import Crops
from hear_audiomamba.pretrain.data.inputs import rows_within, spectrogram
from hear_audiomamba.pretrain.data.masking import MaskSampler
from hear_audiomamba.pretrain.data.order import Order, class_weights, entries_by_length, kind_weights
from hear_audiomamba.pretrain.data.reading import read_crop, read_logmel, tile
from hear_audiomamba.pretrain.data.shards import expand_shards
from hear_audiomamba.pretrain.data.targets import Teacher

from ..web import Site, serving
from .conftest import events, losses, write_wav

CPU = torch.device("cpu")


def crops_of(data: DataConfig, **changes) -> Crops:
    clips = find_clips(data, "train")
    masks = [MaskSampler(MaskConfig(), (50, 5))]
    values = {"augmentation": AugmentConfig(), **changes}
    return Crops(clips, Order(np.arange(len(clips)), seed=3), data, 16000, 200, masks, **values)


def tar_of(corpus, path) -> None:
    """Pack a corpus's train clips as webdataset does, in two shards of one numbered pattern."""
    rows = [line.split(",") for line in (corpus / "manifest.csv").read_text().splitlines()[1:]]
    train = sorted((row for row in rows if row[1] == "train"), key=lambda row: row[0])
    for number, part in enumerate((train[:7], train[7:])):
        with tarfile.open(path / f"shard-{number:03d}.tar", "w") as tar:
            for name, _, kind, seconds, label in part:
                tar.add(corpus / name, name)
                note = json.dumps({"kind": kind, "seconds": float(seconds), "labels": [label]}).encode()
                info = tarfile.TarInfo(name.replace(".flac", ".json"))
                info.size = len(note)
                tar.addfile(info, io.BytesIO(note))


def test_a_crop_is_the_same_from_a_file_and_from_a_tar(corpus, tmp_path):
    tar_of(corpus, tmp_path)
    files = crops_of(DataConfig(path=str(corpus)))
    pattern = str(tmp_path / "shard-{000..001}.tar")
    for path in (pattern, str(tmp_path), str(tmp_path / "*.tar")):
        tars = crops_of(DataConfig(path=path, format="webdataset"))
        assert len(tars) == len(files) == 15 and tars.clips.kinds == files.clips.kinds
        for position in (0, 7, 100):
            np.testing.assert_array_equal(tars[position]["audio"], files[position]["audio"])
            np.testing.assert_array_equal(tars[position]["mask"], files[position]["mask"])


def test_shards_behind_urls_are_fetched_once(corpus, tmp_path, monkeypatch):
    for name in OFFLINE_VARIABLES:  # the loopback interface is no network
        monkeypatch.delenv(name, raising=False)
    tar_of(corpus, tmp_path)
    contents = {f"/shard-00{i}.tar": (tmp_path / f"shard-00{i}.tar").read_bytes() for i in (0, 1)}
    site = Site(contents)
    with serving(site) as address:
        first = expand_shards(f"{address}/shard-{{000..001}}.tar", str(tmp_path / "cache"))
        assert [path.read_bytes() for path in first] == list(contents.values())
        assert expand_shards(f"{address}/shard-{{000..001}}.tar", str(tmp_path / "cache")) == first
        assert len(site.asked) == 2
        with pytest.raises(DownloadError, match="404"):
            expand_shards(f"{address}/none-{{000..001}}.tar", str(tmp_path / "cache"))


def test_a_damaged_tar_is_named(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"not a tar")
    with pytest.raises(DataError, match="a.tar"):
        find_clips(DataConfig(path=str(tmp_path)), "train")


def test_samples_depend_on_their_position_only_not_on_workers(corpus):
    data = DataConfig(path=str(corpus))
    augmentation = AugmentConfig(gain=0.5, noise=0.5, mix=0.5, speed=0.5, reverb=0.5)
    found = []
    for workers, first, start in ((0, 0, "auto"), (2, 0, "auto"), (1, 3, "spawn")):
        crops = crops_of(dataclasses.replace(data, worker_start=start), augmentation=augmentation)
        loader = training_batches(
            crops, batch=4, micro=2, rank=0, world=1, steps=range(first, 5), workers=workers, device=CPU
        )
        found.append(list(loader)[-4:])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert torch.equal(a["audio"], b["audio"]) and torch.equal(a["mask"], b["mask"])


def test_workers_are_not_forked_beside_a_gpu_nor_on_other_systems():
    gpu = torch.device("cuda", 0)
    assert start_method("auto", CPU, "linux") == "fork" and start_method("auto", gpu, "linux") == "spawn"
    assert start_method("auto", CPU, "darwin") == start_method("auto", CPU, "win32") == "spawn"
    assert start_method("forkserver", gpu, "linux") == "forkserver"


def test_a_worker_is_sent_the_name_of_a_targets_file_not_its_content(tmp_path):
    np.save(tmp_path / "values.npy", np.arange(200000, dtype=np.float32).reshape(-1, 2))
    teacher = Teacher(np.load(tmp_path / "values.npy", mmap_mode="r"), 2, "mse", 1.0)
    sent = pickle.dumps(teacher)
    assert len(sent) < 10000
    np.testing.assert_array_equal(pickle.loads(sent).row(5), teacher.row(5))


def test_two_processes_share_a_step(corpus):
    crops = crops_of(DataConfig(path=str(corpus)))
    common = {"batch": 8, "steps": range(3), "workers": 0, "device": CPU}
    one = [b["audio"] for b in training_batches(crops, micro=4, rank=0, world=1, **common)]
    two = [[b["audio"] for b in training_batches(crops, micro=4, rank=r, world=2, **common)] for r in (0, 1)]
    for step in range(3):
        assert torch.equal(torch.cat([two[0][step], two[1][step]]), torch.cat(one[2 * step : 2 * step + 2]))


def test_an_epoch_visits_every_clip_once_in_a_new_order():
    order = Order(np.arange(10), seed=0)
    epochs = [[order.clip(10 * e + i) for i in range(10)] for e in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_weights_give_the_kinds_their_shares():
    kinds = ["music"] * 90 + ["speech"] * 9 + ["noise"]
    entries = entries_by_length(np.full(100, 4.0), 2.0)
    assert len(entries) == 200
    order = Order(entries, 0, kind_weights(entries, kinds, {"music": 1, "speech": 2, "noise": 1}))
    drawn = [kinds[order.clip(i)] for i in range(4000)]
    assert drawn.count("speech") / 4000 == pytest.approx(0.5, abs=0.03)
    assert drawn.count("noise") / 4000 == pytest.approx(0.25, abs=0.03)
    with pytest.raises(ConfigError, match="did you mean 'speech'"):
        kind_weights(entries, kinds, {"speach": 1})


def test_rare_classes_are_drawn_more_often():
    labels = [(0,)] * 9 + [(1,)]
    weights = class_weights(np.arange(10), labels, 2)
    assert weights[9] == pytest.approx(9 * weights[0])


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (44100, 2), (8000, 1)])
def test_a_crop_is_that_part_of_the_file(tmp_path, rate, channels):
    path = tmp_path / "a.wav"
    whole = write_wav(path, 3.0, rate, channels).mean(axis=1)
    crop = read_crop(path, 16000, 16000, start_seconds=1.0)
    expected = whole[rate:]
    if rate != 16000:
        expected = soxr.resample(expected[: rate + 1], rate, 16000, quality="HQ")
    np.testing.assert_allclose(crop, expected[:16000], atol=1e-6)
    assert read_crop(path, 16000, 16000, np.random.default_rng(0)).shape == (16000,)
    assert read_crop(path, 80000, 16000).shape[0] == pytest.approx(48000, abs=1)


def test_speed_changes_pitch_and_tempo(tmp_path):
    time = np.arange(32000) / 16000
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 500 * time), 16000)
    crop = read_crop(tmp_path / "a.wav", 8000, 16000, start_seconds=0.0, speed=1.5)
    assert np.abs(np.fft.rfft(crop)).argmax() * 2 == pytest.approx(750, abs=2)


def test_silent_places_of_a_file_are_passed_over(tmp_path):
    samples = np.zeros(160000, np.float32)
    samples[80000:] = 0.1
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    rng = np.random.default_rng(0)
    silent = sum(np.abs(read_crop(tmp_path / "a.wav", 1600, 16000, rng)).max() < 1e-4 for _ in range(100))
    assert silent < 30  # half of them if the place were taken as it comes


@pytest.mark.parametrize("content", [b"", b"RIFF", b"fLaC\x00\x00"])
def test_what_is_not_audio_is_an_error_with_its_name(tmp_path, content):
    (tmp_path / "bad.wav").write_bytes(content)
    with pytest.raises(AudioReadError, match="bad.wav"):
        read_crop(tmp_path / "bad.wav", 100, 16000)


def test_nan_in_a_file_is_an_error(tmp_path):
    soundfile.write(tmp_path / "nan.wav", np.array([0.1, np.nan], np.float32), 16000, subtype="FLOAT")
    with pytest.raises(AudioReadError, match="NaN"):
        read_crop(tmp_path / "nan.wav", 2, 16000)


def test_short_clips_are_tiled_or_padded(tmp_path):
    samples = write_wav(tmp_path / "train" / "a.wav", 0.5)[:, 0]
    tiled = crops_of(DataConfig(path=str(tmp_path)))[0]
    np.testing.assert_array_equal(tiled["audio"], np.tile(samples, 4))
    padded = crops_of(DataConfig(path=str(tmp_path), short_clips="pad"))[0]
    np.testing.assert_array_equal(padded["audio"][:8000], samples)
    assert padded["length"] == 8000 and not padded["audio"][8000:].any()
    assert tile(samples, 100).shape == (100,)


def test_corrupt_files_are_replaced_counted_and_named(corpus, config, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for index in range(3):
        write_wav(folder / f"good-{index}.wav", 1.0, seed=index)
        (folder / f"bad-{index}.wav").write_bytes(b"RIFF....")
    run = pretrain(config(f"data.path={folder}", "optim.steps=3", "data.workers=1"))
    assert {e["path"] for e in events(run.out, "skipped")} == {f"bad-{i}.wav" for i in range(3)}
    assert events(run.out, "train")[-1]["skipped"] == 3
    assert all(np.isfinite(loss) for loss in losses(run.out).values())


def test_a_corpus_of_corrupt_files_ends_with_one_line(config, tmp_path):
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "bad.wav").write_bytes(b"")
    with pytest.raises(DataError, match="in a row"):
        pretrain(config(f"data.path={tmp_path / 'only'}", "optim.steps=1"))


@pytest.mark.parametrize("name", ["ssam_tiny", "ssamba_tiny", "hiermamba_tiny"])
def test_stored_log_mels_are_what_the_encoder_sees_of_their_audio(tmp_path, name):
    frontend, encoder = build_modules(find_variant(name).config)
    (tmp_path / "logmel").mkdir()
    for stem, seconds in (("a", 2.0), ("b", 0.5)):  # as long as a crop, and shorter
        samples = write_wav(tmp_path / "audio" / f"{stem}.wav", seconds, frontend.sample_rate)[:, 0]
        np.save(tmp_path / "logmel" / f"{stem}.npy", frontend.log_mel(torch.from_numpy(samples)[None])[0])
    features, rows = {}, {}
    for kind in ("audio", "logmel"):
        data = DataConfig(path=str(tmp_path / kind), format=kind, short_clips="pad")
        crop_frames = frontend.n_frames(2 * frontend.sample_rate)
        order = Order(np.arange(2), seed=0)
        crops = Crops(find_clips(data, None), order, data, frontend.sample_rate, crop_frames, [])
        batch = collate([crops[i] for i in range(2)])
        n_frames = encoder.fit_frames(200)
        features[kind] = spectrogram(frontend, batch, n_frames)
        rows[kind] = rows_within(frontend, encoder, batch, n_frames)
    # Noise has no silent bins, so that float32 gives all values to a few parts in a million.
    torch.testing.assert_close(features["logmel"], features["audio"], atol=1e-4, rtol=1e-5)
    assert torch.equal(rows["logmel"], rows["audio"])


def test_a_run_on_stored_log_mels_and_what_it_skips(config, tmp_path):
    folder = tmp_path / "mels"
    folder.mkdir()
    rng = np.random.default_rng(0)
    np.save(folder / "a.npy", rng.normal(-8, 3, (500, 80)).astype(np.float32))
    np.save(folder / "other.npy", rng.normal(-8, 3, (500, 64)).astype(np.float32))
    run = pretrain(config(f"data.path={folder}", "data.format=logmel", "optim.steps=2"))
    assert run.finished
    skipped = events(run.out, "skipped")
    assert [e["path"] for e in skipped] == ["other.npy"] and "64 mel bins" in skipped[0]["reason"]
    np.testing.assert_array_equal(read_logmel(folder / "a.npy", 200, None), np.load(folder / "a.npy")[:200])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda p: None, "does not exist"),
        (lambda p: p.mkdir(), "holds no audio"),
        (lambda p: p.write_text("text"), "neither a folder nor"),
    ],
)
def test_a_path_without_audio_is_named(tmp_path, make, text):
    make(tmp_path / "data")
    with pytest.raises(DataError, match=text):
        find_clips(DataConfig(path=str(tmp_path / "data")), "train")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "no rows"),
        ("file,split\na.wav,train\n", "no column 'path'"),
        ("path,split\na.wav,test\n", "no row has the split 'train'; there are test"),
        ("path,seconds\na.wav,long\n", "line 2: seconds is 'long'"),
    ],
)
def test_a_manifest_that_does_not_fit_is_explained(tmp_path, content, text):
    (tmp_path / "manifest.csv").write_text(content)
    with pytest.raises(DataError, match=text):
        find_clips(DataConfig(path=str(tmp_path)), "train")


def test_json_manifests(tmp_path):
    write_wav(tmp_path / "a.wav", 1.0)
    (tmp_path / "list.json").write_text(json.dumps({"data": [{"wav": "a.wav", "labels": "x,y"}]}))
    clips = find_clips(DataConfig(path=str(tmp_path / "list.json")), "train")
    assert clips.paths == ["a.wav"] and clips.label_names == ("x", "y") and clips.labels == [(0, 1)]
    (tmp_path / "list.jsonl").write_text('{"path": "a.wav", "seconds": 1}\n')
    assert find_clips(DataConfig(path=str(tmp_path / "list.jsonl")), "train").seconds[0] == 1.0
