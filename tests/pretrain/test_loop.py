"""Runs: what they write, and that they can be stopped, killed, resumed and spread over processes."""

import signal
import time

import pytest
import torch

from hear_audiomamba import load_model
from hear_audiomamba.errors import CheckpointError, ConfigError, DataError
from hear_audiomamba.models.weights import own_metadata, read_safetensors
from hear_audiomamba.pretrain import Diverged, pretrain
from hear_audiomamba.pretrain.data.batches import collate
from hear_audiomamba.pretrain.run import memory
from hear_audiomamba.pretrain.run.build import build
from hear_audiomamba.pretrain.run.distributed import choose_device
from hear_audiomamba.pretrain.run.evaluation import Forward
from hear_audiomamba.pretrain.run.grow import deepen
from hear_audiomamba.pretrain.run.memory import bytes_per_clip, choose_micro_batch

from .conftest import QUIET, SMALL, command, events, losses


def test_a_run_leaves_a_model_that_load_model_opens(config):
    run = config(
        "optim.steps=4", "run.checkpoint_every=2", "run.valid_every=2", "run.keep=1", "optim.ema=0.9"
    )
    outcome = pretrain(run)
    assert outcome.finished and outcome.step == 4
    names = [path.name for path in (outcome.out / "checkpoints").iterdir() if path.is_dir()]
    best = [e["loss"] for e in events(outcome.out, "valid")]
    kept = {"step-00000004", f"step-0000000{2 * (1 + best.index(min(best)))}"}
    assert set(names) == kept
    model = load_model(outcome.out / "model.safetensors", device="cpu")
    assert model.scene(torch.zeros(1, 16000)).shape == (1, 160)
    _, notes = own_metadata(read_safetensors(outcome.out / "model.safetensors")[1])
    assert notes["step"] == 4 and notes["run"]["optim"]["steps"] == 4 and "torch" in notes["versions"]
    # The file holds the averaged weights, the training state the live ones.
    training = read_safetensors(outcome.out / "checkpoints" / "step-00000004" / "training.safetensors")[0]
    live = training["state/encoder.blocks.0.mixer.in_proj.weight"]
    assert not torch.equal(live, model.encoder.blocks[0].mixer.in_proj.weight)


def test_resumed_losses_are_those_of_a_run_never_stopped(config):
    whole = pretrain(
        config("optim.steps=6", "augment.gain=0.5", "augment.mix=0.5", "optim.ema=0.9", out="whole")
    )
    run = config("optim.steps=6", "augment.gain=0.5", "augment.mix=0.5", "optim.ema=0.9", "run.max_seconds=0")
    stopped = pretrain(run)  # after its first step
    assert stopped.step == 1 and not stopped.finished
    run = config("optim.steps=6", "augment.gain=0.5", "augment.mix=0.5", "optim.ema=0.9", "data.workers=2")
    resumed = pretrain(run, resume=True)
    expected, found = losses(whole.out), losses(resumed.out)
    assert list(found) == [1, 2, 3, 4, 5, 6]
    for step, loss in expected.items():
        assert found[step] == pytest.approx(loss, abs=1e-6)
    a, b = (
        load_model(o.out / "model.safetensors", device="cpu").encoder.state_dict() for o in (whole, resumed)
    )
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_killed_and_resumed_with_other_workers_gives_the_same_losses(config, corpus, tmp_path):
    options = ["optim.steps=12", "run.checkpoint_every=3"]
    whole = pretrain(config(*options, out="whole"))
    words = ["ssam_tiny", f"data.path={corpus}", f"run.out={tmp_path / 'killed'}", "optim.batch=4",
             "optim.lr_batch=null", *QUIET, *SMALL, *options]  # fmt: skip
    process = command(*words)
    log = tmp_path / "killed" / "log.jsonl"
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline and process.poll() is None:
        if log.exists() and '"checkpoint"' in log.read_text():
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    resumed = command(*words, "data.workers=1", "--resume")
    out, err = resumed.communicate(timeout=900)
    assert resumed.returncode == 0, err
    assert "finished at step 12" in out
    found = losses(tmp_path / "killed")
    assert list(found) == list(range(1, 13))
    for step, loss in losses(whole.out).items():
        assert found[step] == pytest.approx(loss, abs=1e-6)


def test_sigterm_saves_and_says_how_to_go_on(config, corpus, tmp_path):
    words = ["ssam_tiny", f"data.path={corpus}", f"run.out={tmp_path / 'run'}", "optim.batch=4",
             *QUIET, *SMALL, "optim.steps=100000"]  # fmt: skip
    process = command(*words)
    log = tmp_path / "run" / "log.jsonl"
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline and not (log.exists() and '"train"' in log.read_text()):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 3 and "--resume" in out, err
    assert events(tmp_path / "run", "end")[0]["reason"] == "SIGTERM"
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))


def test_a_batch_is_split_until_it_fits_and_stays_so_on_resume(config, monkeypatch):
    run = config("optim.steps=2", "optim.batch=8", "run.max_seconds=0")
    forward = Forward(run, parts := build(run), torch.device("cpu"))
    clip = bytes_per_clip(parts, forward)
    assert choose_micro_batch(run, parts, forward, None) == 8
    monkeypatch.setattr(memory, "CPU_BYTES", 1.3 * 4.5 * clip)
    assert choose_micro_batch(run, parts, forward, None) == 4
    monkeypatch.setattr(memory, "CPU_BYTES", 1)
    assert choose_micro_batch(run, parts, forward, None) == 1
    assert choose_micro_batch(config("optim.batch=8", "optim.micro_batch=2"), parts, forward, None) == 2
    monkeypatch.setattr(memory, "CPU_BYTES", 1.3 * 2.5 * clip)
    out = pretrain(run).out
    monkeypatch.undo()
    pretrain(run, resume=True)
    assert [e["micro_batch"] for e in events(out, "start")] == [2, 2]


def test_what_a_clip_keeps_grows_with_depth_and_not_with_checkpointing(config):
    sizes = {}
    for depth, saving in ((2, "false"), (4, "false"), (4, "true")):
        model = f"model_options={{embed_dim: 32, depth: {depth}, d_state: 4, expand: 2}}"
        run = config(model, f"activation_checkpointing={saving}")
        parts = build(run)
        sizes[depth, saving] = bytes_per_clip(parts, Forward(run, parts, torch.device("cpu")))
    assert 1.6 * sizes[2, "false"] < sizes[4, "false"] < 2.2 * sizes[2, "false"]
    assert sizes[4, "true"] < 0.5 * sizes[4, "false"]


def test_each_process_gets_a_gpu_of_its_own():
    assert choose_device(None, False, 0, 0).type == "cpu"
    assert choose_device("cuda", True, 3, 4) == torch.device("cuda", 3)
    assert choose_device("cuda:1", False, 0, 2) == torch.device("cuda", 1)
    with pytest.raises(ConfigError, match="use device=cuda,"):
        choose_device("cuda:0", True, 1, 4)
    for name in ("mps", "foo", "meta", "cuda:7"):
        with pytest.raises(ConfigError, match=name):
            choose_device(name, False, 0, 4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_activation_checkpointing_changes_no_number(config, precision):
    common = ["optim.steps=2", f"precision={precision}"]
    plain = pretrain(config(*common, out="plain"))
    saving = pretrain(config(*common, "activation_checkpointing=true", out="saving"))
    assert losses(plain.out) == losses(saving.out)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_stays_near_float32(config, precision):
    full = losses(pretrain(config("optim.steps=3", out="full")).out)
    half = pretrain(config("optim.steps=3", f"precision={precision}", out="half"))
    for step, loss in losses(half.out).items():
        assert loss == pytest.approx(full[step], rel=0.02)


def test_the_loss_scale_of_float16_is_kept(config):
    whole = pretrain(config("optim.steps=4", "precision=float16", out="whole"))
    run = config("optim.steps=4", "precision=float16", "run.max_seconds=0")
    while not pretrain(run, resume=True).finished:
        pass
    assert losses(whole.out) == pytest.approx(losses(whole.out.parent / "run"), abs=1e-6)


def test_tensorboard_gets_the_log(config):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = pretrain(config("optim.steps=2", "run.tensorboard=true", "run.picture_every=2"))
    events = EventAccumulator(str(run.out / "tensorboard")).Reload()
    assert [e.value for e in events.Scalars("train/loss")] == pytest.approx(list(losses(run.out).values()))
    assert events.Images("reconstruction")


@pytest.mark.slow
def test_compiled_training_stays_near_eager(config):
    eager = losses(pretrain(config("optim.steps=2", "backend=torch", out="eager")).out)
    compiled = losses(pretrain(config("optim.steps=2", "backend=torch", "compile=true", out="compiled")).out)
    for step in eager:
        assert compiled[step] == pytest.approx(eager[step], rel=1e-4)


def test_bad_runs_are_refused_before_any_work(config, corpus, tmp_path):
    for words, kind, text in [
        (["optim.micro_batch=3"], ConfigError, "micro_batch"),
        (["mask.count=250"], ConfigError, "250 masked patches"),
        (["run.min_free_gb=1e9"], DataError, "GB free"),
        (["init=nothing.safetensors"], CheckpointError, "no such file"),
        (["device=cuda:99"], ConfigError, "cuda:99"),
        (["recipe=ssamba"], ConfigError, "heads"),
        (["recipe=tagging"], ConfigError, "classifier"),
        (["data.weights={noise: 1}"], ConfigError, "noise"),
        (["probe.every=1"], ConfigError, "tasks_dir"),
    ]:
        with pytest.raises(kind, match=text):
            pretrain(config(*words))
    assert not (tmp_path / "run").exists()


def test_a_folder_with_a_run_is_not_overwritten_nor_resumed_as_another_model(config):
    pretrain(config("optim.steps=1"))
    with pytest.raises(ConfigError, match="already holds a run"):
        pretrain(config("optim.steps=2"))
    with pytest.raises(CheckpointError, match="model_options"):
        pretrain(config("optim.steps=2", "model_options={embed_dim: 48, depth: 2}"), resume=True)


def test_changed_settings_are_named_on_resume(config, caplog):
    pretrain(config("optim.steps=1"))
    pretrain(config("optim.steps=2", "optim.weight_decay=0.1", "data.workers=1"), resume=True)
    assert "optim.steps, optim.weight_decay" in caplog.text and "workers" not in caplog.text


def test_weights_of_another_model_are_refused_as_a_start(config):
    first = pretrain(config("optim.steps=1", out="first"))
    with pytest.raises(CheckpointError, match="wrong shape"):
        pretrain(config("optim.steps=1", f"init={first.out}", small=False))
    started = pretrain(config("optim.steps=1", f"init={first.out}", "optim.lr=0", out="second"))
    a, b = (read_safetensors(o.out / "model.safetensors")[0] for o in (first, started))
    assert all(torch.equal(a[key], b[key]) for key in a if "blocks" in key and "bias" in key)


def test_a_deeper_model_starts_as_the_shallow_one(config):
    first = pretrain(config("optim.steps=1", out="first"))
    deeper = ["model_options={embed_dim: 32, depth: 4, d_state: 4, expand: 2}", f"init={first.out}"]
    shallow, deep = build(config(f"init={first.out}")).encoder, build(config(*deeper)).encoder
    features = torch.randn(2, 200, 80)
    torch.testing.assert_close(deep(features), shallow(features), rtol=0, atol=1e-5)
    trained = pretrain(config(*deeper, "optim.steps=2", out="second"))
    state, _ = read_safetensors(trained.out / "model.safetensors")
    assert state["blocks.3.mixer.out_proj.weight"].abs().max() > 0
    with pytest.raises(CheckpointError, match="4 blocks do not fit into 2"):
        deepen(state, shallow)


def test_a_loss_that_is_not_finite_ends_the_run_with_advice(config):
    with pytest.raises(Diverged, match="lower optim.lr"):
        pretrain(config("optim.steps=30", "optim.lr=100", "optim.warmup_steps=0"))


def test_pictures_show_mask_and_reconstruction(config):
    run = pretrain(config("optim.steps=1", "run.picture_every=1"))
    for name in ("step-00000001.png", "course.png"):
        assert (run.out / "pictures" / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_micro_batches_of_like_length_without_padding_learn_the_same(config):
    padded = ["data.short_clips=pad", "optim.batch=8", "optim.steps=3", "objective.loss_on=masked"]
    whole = pretrain(config(*padded, out="whole"))
    parts = pretrain(config(*padded, "optim.micro_batch=2", out="parts"))
    assert losses(parts.out) == pytest.approx(losses(whole.out), rel=1e-4)


def test_a_batch_ends_with_its_longest_clip(config):
    run = config("data.short_clips=pad")
    parts = build(run)
    forward = Forward(run, parts, torch.device("cpu"))
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, features, batch):
            seen.append((features.shape[1], batch["mask"].shape[1]))

    batch = collate([parts.train[i] for i in range(4)])
    batch["length"] = torch.tensor([8000, 4000, 1600, 7999])
    forward(batch, Spy())
    assert seen == [(52, 13 * 5)]  # 13 rows of 4 frames have their centre in half a second; 5 patches each
