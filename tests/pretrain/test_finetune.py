"""Fine-tuning: labels in any form, a model that tells classes apart, and the pretraining loop's promises."""

import csv
import json
import shutil
import signal
import time

import numpy as np
import pytest
import soundfile
import torch

from hear_audiomamba import load_model
from hear_audiomamba.cli import main
from hear_audiomamba.embedding.tagging import tag_audio
from hear_audiomamba.errors import ConfigError, DataError
from hear_audiomamba.io.labels import LabelError
from hear_audiomamba.models.bundled import bundled_path
from hear_audiomamba.models.families import build_modules, with_options
from hear_audiomamba.models.registry import find_variant
from hear_audiomamba.models.weights import read_safetensors, save_weights
from hear_audiomamba.pretrain import pretrain, read_config
from hear_audiomamba.pretrain.config import OptimConfig
from hear_audiomamba.pretrain.data.labelled import labelled_clips
from hear_audiomamba.pretrain.objectives.finetune import Finetuning, SceneHead
from hear_audiomamba.pretrain.run.build import build
from hear_audiomamba.pretrain.run.optim import Schedule, WeightAverage, layer_numbers, parameter_groups
from hear_audiomamba.pretrain.run.scores import score

from .conftest import QUIET, command, events, losses

CONFIGS = sorted(bundled_path("finetune_configs").glob("*.yaml"))
PUBLISHED = [path.stem for path in CONFIGS if path.stem not in ("default", "ssamba_finetune")]
PLAIN = [f"augment.{name}=0" for name in ("mixup", "noise", "gain", "spec_time", "spec_freq", "spec_filter")]


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A file of a small SSAM with random weights, for runs to start from."""
    model = with_options(find_variant("ssam_tiny").config, {"embed_dim": 32, "depth": 2, "d_state": 4})
    torch.manual_seed(0)
    _, encoder = build_modules(model)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    return save_weights(path, encoder.state_dict(), model.replace(encoder=encoder.config))


@pytest.fixture(scope="session")
def tones(tmp_path_factory):
    """A folder a class: twelve half-second clips each of a low and of a high tone in noise."""
    root = tmp_path_factory.mktemp("tones")
    for number, (name, hertz) in enumerate((("high", 3000), ("low", 400))):
        (root / name).mkdir()
        for index in range(12):
            rng = np.random.default_rng((number, index))
            seconds = np.arange(8000) / 16000
            tone = 0.3 * np.sin(2 * np.pi * hertz * (1 + 0.02 * rng.standard_normal()) * seconds)
            samples = tone + 0.1 * rng.standard_normal(8000)
            soundfile.write(root / name / f"{index}.wav", samples.astype(np.float32), 16000)
    return root


@pytest.fixture
def task(tones, tmp_path):
    """The same as a HEAR task of three folds."""
    folder = tmp_path / "tones-v1.0.0"
    meta = {"embedding_type": "scene", "prediction_type": "multiclass", "split_mode": "new_split_kfold"}
    meta["splits"] = [f"fold0{i}" for i in range(3)]
    for number, fold in enumerate(meta["splits"]):
        (folder / "16000" / fold).mkdir(parents=True)
        rows = {}
        for name in ("high", "low"):
            for index in range(number, 12, 3):
                shutil.copy(tones / name / f"{index}.wav", folder / "16000" / fold / f"{name}{index}.wav")
                rows[f"{name}{index}.wav"] = [name]
        (folder / f"{fold}.json").write_text(json.dumps(rows))
    (folder / "task_metadata.json").write_text(json.dumps(meta))
    return folder


@pytest.fixture
def finetune(tones, weights, tmp_path):
    """Return a function that reads a configuration of a fine-tuning run small enough for a test."""

    def make(*overrides: str, name: str = "default", out: str = "run", labels=tones, init=weights):
        start = [f"init={init}"] if init is not None else []
        common = [f"data.path={labels}", f"run.out={tmp_path / out}", "optim.batch=8", "optim.epochs=2"]
        return read_config(name, [*common, *start, *QUIET, *overrides])

    return make


def test_two_tones_are_told_apart_on_clips_held_back(finetune, tones):
    outcome = pretrain(
        finetune(
            "optim.epochs=12", "optim.lr=5e-3", "optim.layer_decay=1", "finetune.valid_share=0.34", *PLAIN
        )
    )
    valid = [e["accuracy"] for e in events(outcome.out, "valid")]
    assert len(valid) == 13 and max(valid) == 1.0 and outcome.finished
    best = json.loads((outcome.out / "checkpoints" / "best.json").read_text())
    assert best["metric"] == "score" and valid[best["step"] // 2] == 1.0
    # What is left as the run's model is the best one, and it is a model like any other.
    kept = outcome.out / "checkpoints" / f"step-{best['step']:08d}" / "model.safetensors"
    assert kept.read_bytes() == (outcome.out / "model.safetensors").read_bytes()
    model = load_model(outcome.out / "model.safetensors", device="cpu")
    scenes = {}
    for name in ("high", "low"):
        clips = [soundfile.read(tones / name / f"{i}.wav", dtype="float32")[0] for i in range(12)]
        scenes[name] = model.scene(torch.from_numpy(np.stack(clips)))
    between = (scenes["high"].mean(0) - scenes["low"].mean(0)).norm()
    assert between > 2 * max(scenes[name].std(0).norm() for name in scenes)


def test_a_head_that_starts_as_the_probe_is_as_good_as_it_before_the_first_step(finetune, task):
    probe = pretrain(finetune("optim.steps=1", "optim.lr=0", *PLAIN, labels=task)).out
    zero = pretrain(
        finetune("finetune.head_start=zero", "optim.steps=1", "optim.lr=0", *PLAIN, labels=task, out="zero")
    ).out
    assert [e["step"] for e in events(probe, "valid")] == [0, 1]
    assert [e["step"] for e in events(zero, "valid")] == [1]
    # All classes alike: the loss of two is log 2, with smoothed labels as with others.
    assert events(zero, "valid")[0]["loss"] == pytest.approx(np.log(2), abs=1e-5)
    start, after = events(probe, "valid")
    assert start["accuracy"] == 1.0 and start["loss"] < 0.5
    assert after["loss"] == pytest.approx(start["loss"], abs=1e-6)


def test_an_average_of_weights_starts_at_the_probe(finetune, task):
    out = pretrain(finetune("optim.ema=0.9", "optim.steps=1", "optim.lr=0", *PLAIN, labels=task)).out
    start, after = events(out, "valid")
    assert start["loss"] < 0.5 and after["loss"] == pytest.approx(start["loss"], abs=1e-6)


def test_training_that_spoils_the_model_leaves_the_probe(finetune, task, weights):
    run = finetune("optim.steps=2", "optim.lr=0.1", "optim.warmup_steps=0", "run.keep=1", *PLAIN, labels=task)
    outcome = pretrain(run)
    valid = events(outcome.out, "valid")
    assert valid[0]["accuracy"] == 1.0 and min(e["loss"] for e in valid[1:]) > valid[0]["loss"]
    before, after = read_safetensors(weights)[0], read_safetensors(outcome.out / "model.safetensors")[0]
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert events(outcome.out, "test")[0]["best_step"] == 0
    assert pretrain(run, resume=True).finished


def test_the_fitted_head_is_where_its_loss_does_not_fall_any_more():
    rng = torch.Generator().manual_seed(0)
    scenes = torch.randn(60, 5, generator=rng) * torch.tensor([1.0, 10.0, 0.1, 1.0, 3.0]) + 4
    labels = torch.eye(3)[torch.randint(3, (60,), generator=rng)]
    head = SceneHead(5, 3)
    head.standardise(scenes)
    head.fit(scenes, lambda logits: torch.nn.functional.cross_entropy(logits, labels.double()), penalty=0.1)
    rows, weight = (scenes - head.mean) / head.scale, head.linear.weight.detach()
    errors = (torch.softmax(head(scenes), 1) - labels).detach() / len(rows)
    torch.testing.assert_close(errors.T @ rows, -0.1 * weight, atol=1e-5, rtol=0)
    torch.testing.assert_close(errors.sum(0), torch.zeros(3), atol=1e-5, rtol=0)
    assert weight.abs().max() > 0.05


def test_the_head_reads_what_the_model_embeds(finetune, tones):
    run = finetune("optim.steps=2", *PLAIN)
    out = pretrain(run).out
    objective = build(run).objective
    assert isinstance(objective, Finetuning) and objective.head is not None
    step = json.loads((out / "checkpoints" / "best.json").read_text())["step"]
    stored, _ = read_safetensors(out / "checkpoints" / f"step-{step:08d}" / "training.safetensors")
    head = SceneHead(160, 2)
    head.load_state_dict(
        {k.removeprefix("state/head."): v for k, v in stored.items() if k.startswith("state/head.")}
    )
    model = load_model(out / "model.safetensors", device="cpu")
    clips = labelled_clips(run).valid
    audio = [soundfile.read(clips.root / path, dtype="float32")[0] for path in clips.paths]
    truth = torch.eye(2)[torch.tensor([labels[0] for labels in clips.labels])]
    with torch.no_grad():
        accuracy = score(head(model.scene(torch.from_numpy(np.stack(audio)))), truth, "single")
    logged = {e["step"]: e["accuracy"] for e in events(out, "valid")}
    assert accuracy == pytest.approx(logged[step])


def test_a_hear_task_is_tested_on_one_fold_and_chosen_on_the_next(finetune, task):
    outcome = pretrain(finetune("finetune.fold=fold02", "optim.steps=2", labels=task))
    assert outcome.scores.keys() == {"loss", "accuracy"}
    assert events(outcome.out, "test")[0]["clips"] == 8
    parts = labelled_clips(finetune("finetune.fold=fold02", labels=task))

    def folds(clips):
        return {(clips.root / path).parent.name for path in clips.paths}

    assert folds(parts.test) == {"fold02"}
    assert folds(parts.valid) == {"fold00"}
    assert folds(parts.train) == {"fold01"}
    with pytest.raises(ConfigError, match="did you mean 'fold02'"):
        labelled_clips(finetune("finetune.fold=fold03", labels=task))


def test_tables_with_splits_stretches_and_several_labels(finetune, tones, tmp_path):
    with open(tmp_path / "labels.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "start", "end", "split"])
        for index in range(12):
            split = "train" if index < 8 else "valid" if index < 10 else "test"
            writer.writerow([tones / "low" / f"{index}.wav", "low", 0.1, 0.3, split])
            writer.writerow(
                [tones / "high" / f"{index}.wav", "high;low" if index % 2 else "high", 0, 0.4, split]
            )
    run = finetune("optim.steps=2", "finetune.kind=multi", labels=tmp_path / "labels.csv")
    parts = labelled_clips(run)
    assert (parts.kind, parts.classes) == ("multi", ("high", "low"))
    assert (len(parts.train), len(parts.valid), len(parts.test)) == (16, 4, 4)
    crops = build(run).train
    low = next(i for i in range(16) if "low/" in crops.clips.paths[crops.order.clip(i)])
    assert crops[low]["length"] == 3200  # 0.2 s of the file, and not all of it
    assert pretrain(run).scores.keys() == {"loss", "map"}


def test_labels_without_splits_hold_back_a_share_of_each_class_and_never_split_a_file(
    finetune, tones, tmp_path
):
    parts = labelled_clips(finetune("finetune.valid_share=0.25"))
    held = [parts.classes[label[0]] for label in parts.valid.labels]
    assert held.count("high") == held.count("low") == 3 and len(parts.train) == 18
    assert not set(parts.train.paths) & set(parts.valid.paths)
    assert labelled_clips(finetune("seed=1")).valid.paths != labelled_clips(finetune("seed=2")).valid.paths


def kill_and_resume(out, words, *more):
    """Run in a process of its own, kill it after a checkpoint, and give the same words again."""
    process = command(*words)
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline and process.poll() is None:
        if (out / "log.jsonl").exists() and '"checkpoint"' in (out / "log.jsonl").read_text():
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    resumed = command(*words, *more, "--resume")
    _, err = resumed.communicate(timeout=900)
    assert resumed.returncode == 0, err


def test_resumed_and_killed_runs_give_the_same_losses(finetune, tones, weights, tmp_path):
    options = ["optim.steps=9", "run.checkpoint_every=2", "optim.ema=0.9"]
    whole = losses(pretrain(finetune(*options, out="whole")).out)
    words = ["default", f"data.path={tones}", f"run.out={tmp_path / 'killed'}", f"init={weights}",
             "optim.batch=8", "optim.epochs=2", *QUIET, *options]  # fmt: skip
    kill_and_resume(tmp_path / "killed", words, "data.workers=1")
    assert losses(tmp_path / "killed") == pytest.approx(whole, abs=1e-6) and len(whole) == 9
    ends = [events(folder, "valid")[-1] for folder in (tmp_path / "whole", tmp_path / "killed")]
    assert ends[0] == pytest.approx(ends[1], abs=1e-6)


def test_two_processes_compute_what_one_does(finetune, tones, weights, tmp_path):
    options = ["optim.steps=4", "optim.micro_batch=4"]
    one = pretrain(finetune(*options, out="one"))
    words = ["default", f"data.path={tones}", f"run.out={tmp_path / 'two'}", f"init={weights}", "optim.batch=8",
             "optim.epochs=2", *QUIET, *options]  # fmt: skip
    process = command(*words, processes=2)
    try:
        _, err = process.communicate(timeout=900)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert losses(tmp_path / "two") == pytest.approx(losses(one.out), abs=1e-5)


def test_patience_ends_a_run_that_no_longer_gets_better_and_is_kept_over_a_resume(finetune):
    options = ["optim.lr=0", "optim.epochs=40", "run.patience=3", *PLAIN]
    stopped = pretrain(finetune(*options, "run.max_seconds=0"))
    assert not stopped.finished
    outcome = pretrain(finetune(*options), resume=True)
    assert outcome.finished and 4 <= len(events(outcome.out, "valid")) <= 5
    again = pretrain(finetune(*options), resume=True)
    assert again.finished and again.loss is None and again.step == outcome.step


def test_layers_learn_at_their_own_rates_and_frozen_ones_not_at_all(finetune, weights):
    rates_and_layers = ["optim.layer_decay=0.5", "optim.head_rate=3", "optim.frozen_layers=2"]
    # From a probe, two steps may not make the model better, and then it stays as it was.
    run = finetune(*rates_and_layers, "optim.steps=2", "finetune.head_start=zero")
    objective = build(run).objective
    names = {p: name for name, p in objective.named_parameters()}
    rates = {names[p]: g["rate"] for g in parameter_groups(objective, run.optim) for p in g["params"]}
    assert rates["head.linear.weight"] == 3 and rates["encoder.encoder_norm.weight"] == 1
    assert rates["encoder.blocks.1.mixer.in_proj.weight"] == 0.5
    assert not any(
        name.startswith(("encoder.blocks.0.", "encoder.patch_embed", "encoder.cls")) for name in rates
    )
    before, after = read_safetensors(weights)[0], read_safetensors(pretrain(run).out / "model.safetensors")[0]
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("blocks.1" in name for name in moved) and not any("blocks.0" in name for name in moved)
    with pytest.raises(ConfigError, match="has 4 layers below its head"):
        build(finetune("optim.frozen_layers=4"))


@pytest.mark.parametrize(
    "variant", ["ssam_tiny", "ssamba_tiny", "aum_tiny", "hiermamba_tiny", "ssast_tiny_patch"]
)
def test_every_parameter_has_a_layer(variant):
    _, encoder = build_modules(find_variant(variant).config)
    numbers = layer_numbers(
        [f"encoder.{name}" for name, _ in encoder.named_parameters()] + ["head.linear.weight"]
    )
    blocks = encoder.depth
    assert set(numbers.values()) == set(range(blocks + 3))
    assert numbers["head.linear.weight"] == blocks + 2
    assert all(number == 0 for name, number in numbers.items() if "patch_embed" in name)


def test_the_rate_falls_in_steps_and_weights_are_averaged_at_epochs_ends():
    schedule = Schedule(
        OptimConfig(lr=1.0, lr_batch=None, batch=1, epochs=10, warmup_epochs=0, schedule="step", decay_start=4,
                    decay_every=2, decay_factor=0.5), 10,
    )  # fmt: skip
    assert [schedule.lr(step) for step in (0, 39, 40, 59, 60, 99)] == [1, 1, 0.5, 0.5, 0.25, 0.125]
    module = torch.nn.Linear(1, 1)
    average = WeightAverage(module, at=(20, 30))
    for step in range(40):
        with torch.no_grad():
            module.weight.fill_(step + 1.0)
        average.update(module, step)
        expected = step + 1 if step < 20 else 20 if step < 29 else 25
        assert average.values["weight"].item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", ("bce", "cross_entropy"))
def test_a_model_with_a_head_of_its_own_tags_with_the_labels(finetune, tones, tmp_path, loss):
    model = with_options(find_variant("ssamba_tiny").config, {"embed_dim": 48, "depth": 2, "d_state": 4})
    torch.manual_seed(0)
    _, encoder = build_modules(model)
    start = save_weights(tmp_path / "ssamba.safetensors", encoder.state_dict(), model)
    out = pretrain(
        finetune(
            "optim.warmup_steps=0",
            "optim.lr=1e-3", "optim.steps=100", "optim.schedule=constant",
            "augment.mixup=0", "augment.spec_freq=0", "augment.spec_time=0",
            "data.crop_seconds=0.5", f"finetune.loss={loss}", name="ssamba_speech_commands", init=start,
        )
    ).out  # fmt: skip
    model = load_model(out / "model.safetensors", device="cpu")
    assert model.config.labels == ("high", "low") and model.config.encoder.time_stride == 10
    assert model.config.single_label == (loss == "cross_entropy")
    assert max(e["accuracy"] for e in events(out, "valid")) == 1.0
    for name in ("high", "low"):
        samples, rate = soundfile.read(tones / name / "3.wav", dtype="float32")
        tags = tag_audio(model, samples, rate)
        assert tags.top(1)[0][1] == name
        # What one label a clip was learned from gives shares of one; else each class is a question of its own.
        assert loss == "bce" or tags.frames.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_positions_of_a_pretrained_file_are_fitted_to_overlapping_patches(finetune, tmp_path):
    model = with_options(find_variant("ssamba_tiny").config, {"embed_dim": 48, "depth": 2, "d_state": 4})
    _, encoder = build_modules(model)
    with torch.no_grad():  # a table that says where it is: 64 time steps and 8 bands
        table = encoder.pos_embed[0, 1:].view(8, 64, 48)
        table[..., 0], table[..., 1] = torch.arange(64.0), torch.arange(8.0)[:, None]
    path = save_weights(tmp_path / "ssamba.safetensors", encoder.state_dict(), model)
    parts = build(finetune(name="ssamba_esc50", init=path))
    assert parts.n_frames == 506 and parts.encoder.config.grid == (50, 12)
    fitted = parts.encoder.pos_embed.detach()
    torch.testing.assert_close(parts.encoder.positions(50).detach(), fitted)
    # Of a shorter time the middle is kept; more bands than before lie between the old ones.
    after = fitted[0, 1:].view(12, 50, 48)
    torch.testing.assert_close(after[..., 0], (torch.arange(50.0) + 7).expand(12, 50))
    assert (after[:, 0, 1].diff() >= 0).all() and after[0, 0, 1] == 0 and after[-1, 0, 1] == 7


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_bundled_configurations_can_be_read(path):
    run = read_config(path.stem, ["data.path=x", "run.out=y"])
    assert run.recipe == "finetune" and run.optim.lr_batch is None


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_configuration_runs_as_it_is_killed_or_not(task, tmp_path, name):
    words = [name, f"data.path={task}", "model=ssamba_tiny", "optim.steps=2", "run.valid_every=1", *QUIET]
    assert main(["finetune", *words, f"run.out={tmp_path / 'whole'}"]) == 0
    kill_and_resume(tmp_path / "killed", [*words, f"run.out={tmp_path / 'killed'}"])
    whole, killed = (losses(tmp_path / run) for run in ("whole", "killed"))
    assert len(whole) == 2 and all(np.isfinite(loss) for loss in whole.values())
    assert killed == pytest.approx(whole, abs=1e-6)


def test_a_fine_tuned_model_finds_its_classes_in_recordings(tones, weights, tmp_path, capsys):
    words = ["optim.steps=4", "optim.batch=8", f"init={weights}", "data.crop_seconds=0.5", *QUIET]
    run = tmp_path / "run"
    assert main(["finetune", str(tones), "--out", str(run), *words]) == 0
    assert f"for `predict --model`: {run / 'classifier.safetensors'}" in capsys.readouterr().out
    moved = run.rename(tmp_path / "moved")  # the classifier finds the model beside it
    table = tmp_path / "found.csv"
    words = [
        "--model",
        str(moved / "classifier.safetensors"),
        "--out",
        str(table),
        "--workers",
        "0",
        "--quiet",
    ]
    assert main(["predict", str(tones), *words, "--probabilities", str(tmp_path / "all.csv")]) == 0
    with open(tmp_path / "all.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    right = [max(("high", "low"), key=lambda name: float(row[name])) in row["path"] for row in rows]
    assert len(rows) >= 20 and np.mean(right) > 0.9
    # A finished run that is resumed writes the same file again.
    before = (moved / "classifier.safetensors").read_bytes()
    assert (
        main(
            [
                "finetune",
                str(tones),
                "--out",
                str(moved),
                "optim.steps=4",
                "optim.batch=8",
                f"init={weights}",
                "data.crop_seconds=0.5",
                *QUIET,
                "--resume",
            ]
        )
        == 0
    )
    assert (moved / "classifier.safetensors").read_bytes() == before


def test_the_command_line_takes_labels_or_a_configuration(tones, weights, tmp_path, capsys):
    words = ["optim.steps=2", "optim.batch=8", f"init={weights}", *QUIET]
    assert main(["finetune", str(tones), "--out", str(tmp_path / "a"), *words]) == 0
    assert "finished at step 2" in capsys.readouterr().out
    assert (
        main(["finetune", "default", f"data.path={tones}", f"run.out={tmp_path / 'b'}", "--dry-run", *words])
        == 0
    )
    assert "test " not in (shown := capsys.readouterr().out) and "20 clips" in shown
    assert main(["finetune", "ssamba_esc", "--out", str(tmp_path / "c")]) == 1
    assert "did you mean 'ssamba_esc50'" in capsys.readouterr().err


def test_bad_labels_and_settings_are_named_before_any_work(finetune, tones, tmp_path):
    (tmp_path / "labels.csv").write_text("path,label\nmissing.wav,a\nother.wav,b\n")
    with pytest.raises(LabelError, match="no such file") as caught:
        pretrain(finetune(labels=tmp_path / "labels.csv"))
    assert len(caught.value.problems) >= 2
    rows = "".join(f"{tones}/low/{i}.wav,{'ab'[i % 2]},fold{i % 2}\n" for i in range(8))
    (tmp_path / "folds.csv").write_text("path,label,split\n" + rows)
    with pytest.raises(DataError, match="takes three"):
        pretrain(finetune(labels=tmp_path / "folds.csv"))
    with pytest.raises(ConfigError, match="no tagging head of its own"):
        pretrain(finetune("finetune.head=model"))
    for words, text in (
        (["distill.targets=x", *PLAIN], "learns from labels"),
        (["data.format=logmel"], "stored log-mels"),
        (["data.weights={a: 1}"], "data.balance=classes"),
        (["optim.ema=0.9", "optim.average_epochs=[1, 2]"], "two averages"),
        (["optim.average_epochs=[3, 2]"], "average_epochs"),
    ):
        with pytest.raises(ConfigError, match=text):
            finetune(*words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_scores(kind):
    logits = torch.tensor([[2.0, 0.5], [0.0, 1.0], [3.0, 0.0]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    # The first class has one clip, which comes second; those of the other come first and last of three.
    expected = 2 / 3 if kind == "single" else (1 / 2 + (1 / 1 + 2 / 3) / 2) / 2
    assert score(logits, labels, kind) == pytest.approx(expected)
