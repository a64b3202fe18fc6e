"""Schedule, decay groups, weight average, augmentation, features of short clips, the probe."""

import json

import numpy as np
import pytest
import torch

from hear_audiomamba import load_model
from hear_audiomamba.config import LogMelConfig
from hear_audiomamba.embedding.pooling import pool_rows
from hear_audiomamba.errors import ConfigError
from hear_audiomamba.frontends.logmel import LogMel
from hear_audiomamba.models.families import build_modules
from hear_audiomamba.models.registry import find_variant
from hear_audiomamba.modules.mamba import MambaMixer
from hear_audiomamba.pretrain import pretrain
from hear_audiomamba.pretrain.config import AugmentConfig, OptimConfig, ProbeConfig
from hear_audiomamba.pretrain.data.augment import add_at_snr, augment, coloured_noise, draw_speed, reverberate
from hear_audiomamba.pretrain.data.inputs import rows_within, spec_augment, spectrogram
from hear_audiomamba.pretrain.run.build import build
from hear_audiomamba.pretrain.run.evaluation import Forward
from hear_audiomamba.pretrain.run.memory import freeze_unused
from hear_audiomamba.pretrain.run.optim import Schedule, WeightAverage, parameter_groups
from hear_audiomamba.pretrain.run.probe import Probe

from .conftest import QUIET, SMALL, command, events, losses, write_wav


def test_the_published_schedule():
    schedule = Schedule(OptimConfig(batch=1024, epochs=100, warmup_epochs=10), steps_per_epoch=20)
    assert schedule.peak == pytest.approx(6e-4) and (schedule.steps, schedule.warmup) == (2000, 200)
    assert schedule.lr(0) == pytest.approx(6e-4 / 200) and schedule.lr(199) == pytest.approx(6e-4)
    assert schedule.lr(1100) == pytest.approx(3e-4)
    assert schedule.lr(1999) < 1e-8


def test_constant_rate_with_cooldown():
    config = OptimConfig(lr=1.0, lr_batch=None, steps=100, warmup_steps=0, schedule="constant", cooldown=0.2)
    schedule = Schedule(config, 10)
    assert [schedule.lr(s) for s in (0, 80, 90, 99)] == pytest.approx([1.0, 1.0, 0.5, 0.05])


def test_a_short_run_keeps_its_share_of_warmup():
    assert Schedule(OptimConfig(steps=50, epochs=100, warmup_epochs=10), 1000).warmup == 5


@pytest.mark.parametrize("variant", ["ssam_tiny", "ssamba_tiny", "hiermamba_tiny"])
def test_biases_norms_tokens_and_time_constants_do_not_decay(variant):
    _, encoder = build_modules(find_variant(variant).config)
    names = {p: name for name, p in encoder.named_parameters()}
    decayed, free = ([names[p] for p in g["params"]] for g in parameter_groups(encoder, OptimConfig()))
    assert len(decayed) + len(free) == len(names)
    assert not any(n.endswith(("bias", "token", "pos_embed")) or "A_log" in n or "norm" in n for n in decayed)
    assert all(dict(encoder.named_parameters())[n].ndim >= 2 for n in decayed)
    assert any("in_proj" in n for n in decayed) and any("A_log" in n for n in free)


def test_the_backend_stays_with_the_model_in_every_thread(config):
    objective = build(config("backend=reference")).objective
    assert {part.backend for part in objective.modules() if isinstance(part, MambaMixer)} == {"reference"}
    with pytest.raises(ConfigError, match="backend: 'refrence' is not one of"):
        build(config("backend=refrence"))


def test_blocks_that_are_not_run_do_not_learn(config):
    run = config("model_options={embed_dim: 32, depth: 2, d_state: 4, expand: 2, trained_depth: 1}")
    parts = build(run)
    freeze_unused(parts, Forward(run, parts, torch.device("cpu")))
    learning = {name for name, p in parts.encoder.named_parameters() if p.requires_grad}
    assert {"mask_token", "cls_token", "pred.0.weight", "blocks.0.mixer.A_log"} <= learning
    assert not any(name.startswith("blocks.1.") for name in learning)
    assert all(p.grad is None for p in parts.objective.parameters())


def test_the_average_follows_the_weights():
    module = torch.nn.Linear(2, 2)
    average = WeightAverage(module, 0.5)
    with torch.no_grad():
        module.weight += 1.0
    before = average.values["weight"].clone()
    average.update(module, step=1000)
    torch.testing.assert_close(average.values["weight"], before + 0.5)


def test_augmentation_keeps_length_and_range_and_depends_on_the_generator_alone():
    config = AugmentConfig(gain=1.0, noise=1.0, mix=1.0, reverb=1.0, speed=1.0)
    samples = np.random.default_rng(0).uniform(-1, 1, 8000).astype(np.float32)
    found = [
        augment(samples, 16000, config, np.random.default_rng(7), lambda: samples[::-1]) for _ in range(2)
    ]
    np.testing.assert_array_equal(*found)
    assert found[0].shape == (8000,) and found[0].dtype == np.float32 and np.abs(found[0]).max() <= 1.0
    assert not np.array_equal(found[0], samples)
    assert np.array_equal(augment(samples, 16000, AugmentConfig(), np.random.default_rng(7)), samples)
    speeds = [draw_speed(config, np.random.default_rng(i)) for i in range(100)]
    assert min(speeds) > 0.8 and max(speeds) < 1.25 and min(speeds) < 0.9 < 1.1 < max(speeds)


def test_noise_lies_where_its_ratio_says_and_falls_as_its_slope_says():
    rng = np.random.default_rng(0)
    samples = rng.standard_normal(16000).astype(np.float32)
    noise = coloured_noise(16000, 2.0, rng)
    added = add_at_snr(samples, noise, 10.0) - samples
    assert 10 * np.log10(np.mean(samples**2) / np.mean(added**2)) == pytest.approx(10.0, abs=1e-3)
    power = np.abs(np.fft.rfft(noise)) ** 2
    assert power[100:200].mean() / power[1000:2000].mean() == pytest.approx(100, rel=0.5)


def test_an_echo_begins_with_the_sound_itself():
    click = np.zeros(4000, np.float32)
    click[100] = 1.0
    wet = reverberate(click, 16000, 0.1, np.random.default_rng(0))
    assert np.abs(wet[:100]).max() < 1e-6 and wet[100] == pytest.approx(1.0, abs=1e-4)
    assert np.mean(wet[101:500] ** 2) > 100 * np.mean(wet[1500:1700] ** 2)


def test_a_padded_clip_is_normalised_by_itself():
    frontend = LogMel(LogMelConfig())
    audio = torch.rand(2, 32000) - 0.5
    audio[1, 8000:] = 0.0
    features = spectrogram(frontend, {"audio": audio, "length": torch.tensor([32000, 8000])}, 200)
    torch.testing.assert_close(features[0], frontend(audio[:1])[0, :200])
    torch.testing.assert_close(features[1, :51], frontend(audio[1:, :8000])[0])
    assert not features[1, 51:].any()


@pytest.mark.parametrize("pooling", ["mean", "mean_plus_max"])
def test_the_scene_vector_of_a_padded_clip_is_what_the_embedder_gives(noise, pooling):
    model = load_model(variant="ssam_tiny", depth=2, scene_pooling=pooling, device="cpu")
    frontend, encoder = model.features, model.encoder
    lengths = torch.tensor([32000, 16000, 12345, 100])
    audio = noise(4, 32000)
    for clip, length in zip(audio, lengths):
        clip[length:] = 0.0
    with torch.no_grad():
        features = spectrogram(frontend, {"audio": audio, "length": lengths}, 200)
        n_rows = rows_within(frontend, encoder, {"length": lengths}, 200)
        scenes = pool_rows(encoder.embed_frames(features), pooling, n_rows)
    for clip, length, scene in zip(audio, lengths, scenes):
        torch.testing.assert_close(scene, model.scene(clip[None, :length])[0], atol=1e-5, rtol=1e-4)


def test_spec_filter_moves_each_mel_bin_by_a_smooth_line():
    torch.manual_seed(0)
    features = torch.randn(3, 50, 40) * torch.tensor([1.0, 2.0, 5.0])[:, None, None]
    found = spec_augment(features, torch.rand(3, 12), AugmentConfig(spec_filter=0.5))
    moved = found - features
    line = moved.mean(dim=1)
    assert (moved - line[:, None]).abs().max() < 1e-5  # the same in every frame
    scale = features.std(dim=(1, 2))[:, None]
    assert ((line / scale).abs() <= 0.5 + 1e-5).all() and (line / scale).std() > 0.1
    # From one point to the next, at most 1.0, are (40 - 1) / 5 bins.
    assert (line / scale).diff(dim=1).abs().max() <= 5 / 39 + 1e-5


def test_spec_augment_blanks_one_stretch_each_way():
    features = torch.randn(3, 100, 64)
    chance = torch.tensor(
        [[0.999, 0.5, 0.999, 0.0, 0, 0], [0.0, 0.5, 0.0, 0.5, 0, 0], [0.5, 0.999, 0.5, 0.999, 0, 0]]
    )
    found = spec_augment(features, chance, AugmentConfig(spec_time=20, spec_freq=8))
    changed = found != features
    assert changed[0, :, -1].sum() == 20 and changed[0, 0].sum() == 8 and changed[0, 0, :8].all()
    assert torch.equal(found[1], features[1])
    assert changed[2, -10:].all() and changed[2, :, -4:].all()


@pytest.fixture
def tasks(tmp_path):
    """Two tasks in HEAR's layout: tones low or high (three folds), and an event task."""
    for name, kind in (("tones", "scene"), ("sounds", "event")):
        folder = tmp_path / "tasks" / f"{name}-v1.0.0"
        folder.mkdir(parents=True)
        meta = {"embedding_type": kind, "prediction_type": "multiclass", "split_mode": "new_split_kfold"}
        meta["splits"] = ["fold00", "fold01", "fold02"]
        (folder / "task_metadata.json").write_text(json.dumps(meta))
        for fold in meta["splits"]:
            rows = {}
            for index in range(8):
                samples = write_wav(folder / "16000" / fold / f"{index}.wav", 0.5, seed=index)[:, 0]
                if index % 2:
                    import soundfile

                    low = np.convolve(samples, np.ones(50) / 50, mode="same")
                    soundfile.write(folder / "16000" / fold / f"{index}.wav", low, 16000)
                rows[f"{index}.wav"] = ["low" if index % 2 else "high"]
            (folder / f"{fold}.json").write_text(json.dumps(rows))
    return tmp_path / "tasks"


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_the_probe_tells_what_can_be_told(tasks, small_model, kind):
    config = ProbeConfig(tasks_dir=str(tasks), kind=kind, folds=2)
    scores = Probe(config, small_model.features, small_model.config).scores(small_model.encoder)
    assert scores == {"tones": 1.0}


def test_probes_are_logged_and_choose_the_best_checkpoint(tasks, config):
    run = pretrain(config(f"probe.tasks_dir={tasks}", "probe.every=1", "optim.steps=2"))
    assert [e["step"] for e in events(run.out, "probe")] == [0, 1, 2]
    assert json.loads((run.out / "checkpoints" / "best.json").read_text())["metric"] == "probe"


def test_the_best_checkpoint_is_the_probes_also_where_validation_comes_between(tasks, config):
    run = pretrain(
        config(
            f"probe.tasks_dir={tasks}", "probe.every=2", "run.valid_every=1", "optim.steps=5", "run.keep=1"
        )
    )
    scores = {e["step"]: e["mean"] for e in events(run.out, "probe") if e["step"]}
    best = json.loads((run.out / "checkpoints" / "best.json").read_text())
    assert best["metric"] == "probe" and scores[best["step"]] == best["value"] == max(scores.values())
    assert (run.out / "checkpoints" / f"step-{best['step']:08d}" / "model.safetensors").is_file()


def test_two_processes_compute_what_one_does_and_come_to_the_end_with_a_probe(
    tasks, config, corpus, tmp_path
):
    options = ["optim.steps=4", "optim.batch=8", "optim.micro_batch=4"]
    one = pretrain(config(*options, out="one"))
    words = ["ssam_tiny", f"data.path={corpus}", f"run.out={tmp_path / 'two'}", "optim.lr_batch=null",
             *QUIET, *SMALL, *options,
             f"probe.tasks_dir={tasks}", "probe.every=3", "run.valid_every=2"]  # fmt: skip
    process = command(*words, processes=2)
    try:
        _, err = process.communicate(timeout=900)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert [e["step"] for e in events(tmp_path / "two", "probe")] == [0, 3, 4]
    expected, found = losses(one.out), losses(tmp_path / "two")
    assert list(found) == [1, 2, 3, 4]
    for step, loss in expected.items():
        assert found[step] == pytest.approx(loss, abs=1e-5)


def test_a_probe_that_cannot_be_is_said_before_training(tasks, config, tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'tones'"):
        pretrain(config(f"probe.tasks_dir={tasks}", "probe.tasks=[tone]"))
    with pytest.raises(ConfigError, match="no HEAR task"):
        pretrain(config(f"probe.tasks_dir={tmp_path}"))
