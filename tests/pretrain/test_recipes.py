"""Every recipe learns: a few clips are overfitted to near zero, and every bundled configuration is sound."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
import torch

from hear_audiomamba import load_model
from hear_audiomamba.errors import ConfigError, DataError
from hear_audiomamba.models.bundled import bundled_path
from hear_audiomamba.models.weights import read_safetensors
from hear_audiomamba.pretrain import pretrain, read_config
from hear_audiomamba.pretrain.data.batches import collate
from hear_audiomamba.pretrain.run.build import build
from hear_audiomamba.pretrain.run.evaluation import Evaluation, Forward

from .conftest import losses

OVERFIT = ["optim.warmup_steps=10", "optim.weight_decay=0", "optim.ema=null", "run.log_every=10"]


@pytest.fixture(scope="session")
def four_clips(corpus, tmp_path_factory):
    """Return a function that writes a manifest of four clips of a length in seconds, two of each kind."""

    def make(seconds: float) -> Path:
        folder = tmp_path_factory.mktemp("four")
        with open(corpus / "manifest.csv", encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if float(row["seconds"]) == 2.0]
        chosen = []
        for i, row in enumerate([*rows[:2], *rows[-2:]]):
            samples, rate = soundfile.read(corpus / row["path"])
            middle = (len(samples) - round(seconds * rate)) // 2
            soundfile.write(folder / f"{i}.flac", samples[middle:][: round(seconds * rate)], rate)
            chosen.append({**row, "path": f"{i}.flac", "seconds": seconds, "split": "train"})
        with open(folder / "manifest.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, chosen[0])
            writer.writeheader()
            writer.writerows(chosen)
        return folder / "manifest.csv"

    return make


def test_ssam_overfits_a_few_clips(config, four_clips):
    run = config(
        f"data.path={four_clips(0.5)}", "data.crop_seconds=0.5", "optim.steps=120", "optim.lr=6e-3",
        "mask.ratio=0.1", "model_options={embed_dim: 64, depth: 2, d_state: 4, patch_size: [4, 16]}", *OVERFIT,
    )  # fmt: skip
    found = losses(pretrain(run).out)
    assert found[120] < 0.15 * found[10]


def test_ssamba_overfits_a_few_clips(config, four_clips):
    run = config(
        f"data.path={four_clips(1)}", "data.crop_seconds=1", "mask.count=4", "mask.cluster=[1,2]",
        "optim.steps=120", "optim.lr=3e-3", "optim.batch=4", "optim.schedule=cosine",
        "model_options={embed_dim: 48, depth: 2, d_state: 4}", *OVERFIT,
        name="ssamba_tiny", small=False,
    )  # fmt: skip
    found = losses(pretrain(run).out)
    assert found[120] < 0.6 * found[10]


def test_the_hierarchical_encoder_overfits_a_few_labelled_clips(config, four_clips):
    run = config(
        f"data.path={four_clips(1)}", "data.crop_seconds=1", "optim.steps=40", "optim.lr=2e-3",
        "augment.mixup=0", "augment.spec_time=0", "augment.spec_freq=0", *OVERFIT,
        "model_options={dim: 16, depths: [1, 1, 1, 1], num_classes: 2, canvas_frames: 256, fold: 1, drop_path: 0.0}",
        name="hiermamba_tiny", small=False,
    )  # fmt: skip
    found = losses(pretrain(run).out)
    assert found[40] < 0.05 * found[10]


@pytest.fixture
def targets(corpus, tmp_path):
    """Embeddings of twelve crops by two made-up teachers, and a label for half of them."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "targets"
    folder.mkdir()
    with open(corpus / "manifest.csv", encoding="utf-8", newline="") as file:
        paths = [row["path"] for row in csv.DictReader(file)][:12]
    table = {"path": paths, "start_seconds": [0.0, 0.25] * 6, "seconds": [2.0] * 12}
    pyarrow.parquet.write_table(pyarrow.table(table), folder / "crops.parquet")
    wide = rng.normal(3.0, 2.0, (12, 16)).astype(np.float16)
    np.save(folder / "wide.npy", wide)
    np.save(folder / "narrow.npy", rng.normal(size=(12, 3)).astype(np.float16))
    label = np.where(np.arange(12) % 2, np.nan, np.arange(12) // 6)[:, None].astype(np.float16)
    np.save(folder / "label.npy", label)
    mean, std = wide.astype(np.float32).mean(0), wide.astype(np.float32).std(0)
    np.save(folder / "wide_std.npy", std)
    scores = [label[:, 0] * 0.8 + 0.1, 0.9 - label[:, 0] * 0.8, np.full(len(label), 0.02)]
    np.save(folder / "scores.npy", np.stack(scores, axis=1))
    teachers = {
        "wide": {"dim": 16, "licence": "CC0", "source": "test", "mean": mean.tolist(), "std": "wide_std.npy"},
        "narrow": {"dim": 3, "licence": "CC0", "source": "test"},
        "label": {"dim": 1, "licence": "CC0", "source": "test", "loss": "cross_entropy", "classes": 2},
        "scores": {"dim": 3, "licence": "CC0", "source": "test", "loss": "bce", "labels": ["a", "b", "c"]},
    }
    (folder / "targets.json").write_text(json.dumps({"teachers": teachers}))
    return folder


def test_distillation_overfits_its_teachers_and_leaves_no_head_in_the_model(config, targets):
    run = config(
        f"distill.targets={targets}", "recipe=distill", "optim.steps=80", "optim.lr=4e-3", "optim.batch=11",
        "distill.teachers={wide: 2, narrow: 1, label: 1}", *OVERFIT,
    )  # fmt: skip
    outcome = pretrain(run)
    found = losses(outcome.out)
    assert found[80] < 0.35 * found[10]
    assert not any("heads" in key for key in read_safetensors(outcome.out / "model.safetensors")[0])
    load_model(outcome.out / "model.safetensors", device="cpu")


def test_a_tagging_head_learns_a_teachers_scores_beside_the_rows(config, targets):
    small = "model_options={dim: 16, depths: [1, 1, 1, 1], num_classes: 3}"
    tags = [
        f"distill.targets={targets}",
        "distill.tags=scores",
        "distill.teachers={wide: 1, scores: 5}",
        small,
    ]
    run = config(
        *tags, "recipe=distill", "model=hiermamba_nano", "data.crop_seconds=1.92", "optim.steps=40",
        "optim.lr=4e-3", "optim.batch=11", "data.short_clips=pad", *OVERFIT, small=False,
    )  # fmt: skip
    outcome = pretrain(run)
    found = losses(outcome.out)
    assert found[40] < 0.8 * found[10]
    model = load_model(outcome.out / "model.safetensors", device="cpu")
    assert model.config.labels == ("a", "b", "c")
    frames = torch.randn(2, 192, 96) * 20 - 40
    clip, _ = model.encoder.tag(frames)
    rows, logits = model.encoder.rows_and_tags(frames)
    assert torch.allclose(clip, logits, atol=1e-5) and torch.equal(rows, model.encoder.embed_frames(frames))
    with pytest.raises(ConfigError, match=r"distill\.tags: 'wide' must be one of"):
        build(config(*tags, "recipe=distill", "model=hiermamba_nano", "distill.tags=wide", small=False))
    with pytest.raises(ConfigError, match=r"distill\.tags: ssam_tiny_200_16x4 has no tagging head"):
        build(config(*tags[:3], "recipe=distill"))


def test_distillation_goes_with_masked_modelling(config, targets):
    run = config(f"distill.targets={targets}", "optim.steps=3", "run.valid_every=3", "optim.batch=8")
    outcome = pretrain(run)
    assert outcome.finished and set(losses(outcome.out)) == {1, 2, 3}


def test_heads_of_another_run_are_taken_along_where_they_fit(config, targets):
    teach = [f"distill.targets={targets}", "recipe=distill"]
    first = pretrain(config(*teach, "optim.steps=2", "optim.ema=null", out="first"))
    heads = dict(build(config(*teach, f"init={first.out}")).objective.heads.named_parameters())
    stored, _ = read_safetensors(first.out / "checkpoints/step-00000002/training.safetensors")
    assert heads and all(torch.equal(value, stored[f"state/heads.{name}"]) for name, value in heads.items())
    mlp = [*teach, "distill.head=mlp"]
    started, fresh = build(config(*mlp, f"init={first.out}")).objective, build(config(*mlp)).objective
    for new, own in zip(started.heads.parameters(), fresh.heads.parameters()):
        assert torch.equal(new, own)


def test_a_teachers_valid_loss_is_the_mean_over_the_crops_it_knows(config, targets, corpus):
    table = pyarrow.parquet.read_table(targets / "crops.parquet")
    split = pyarrow.array(["train"] * 7 + ["valid"] * 5)
    pyarrow.parquet.write_table(table.append_column("split", split), targets / "crops.parquet")
    np.save(targets / "narrow.npy", np.where(np.arange(12)[:, None] < 7, 1.0, np.nan).astype(np.float16))
    run = config(
        f"distill.targets={targets}", "recipe=distill", "data.valid_split=valid", "optim.micro_batch=2",
        "distill.teachers={wide: 1, narrow: 1, label: 1}",
    )  # fmt: skip
    parts = build(run)
    forward, heads = Forward(run, parts, torch.device("cpu")), parts.objective.heads
    evaluation = Evaluation(run, parts, forward, None, micro=2, probing=False)
    found = evaluation.valid_losses()
    assert "teacher_narrow" not in found  # it knows none of the valid crops
    heads.coverage = dict.fromkeys(heads.names, 1.0)
    known = [crop for crop in map(parts.valid.__getitem__, range(5)) if np.isfinite(crop["target_label"])]
    with torch.no_grad():
        alone = [float(forward(collate([crop]), parts.objective)["teacher_label"]) for crop in known]
    assert len(alone) == 2 and found["teacher_label"] == pytest.approx(sum(alone) / 2, rel=1e-4)


def test_the_scene_vector_of_a_run_is_that_of_its_model(config, targets):
    small = "embed_dim: 32, depth: 2, d_state: 4, expand: 2"
    run = config(
        f"distill.targets={targets}", "recipe=distill", "optim.steps=1",
        f"model_options={{{small}, scene_pooling: mean_plus_max}}",
    )  # fmt: skip
    assert build(run).objective.scene_pooling == "mean_plus_max"
    assert load_model(pretrain(run).out / "model.safetensors", device="cpu").scene_pooling == "mean_plus_max"


def test_targets_that_do_not_fit_are_named(config, targets, corpus, tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'wide'"):
        pretrain(config(f"distill.targets={targets}", "distill.teachers={wyde: 1}"))
    with pytest.raises(ConfigError, match="augment.mix "):
        config(f"distill.targets={targets}", "augment.mix=0.1")
    np.save(targets / "narrow.npy", np.zeros((5, 3), np.float16))
    with pytest.raises(DataError, match="lists 12 crops"):
        pretrain(config(f"distill.targets={targets}"))
    with pytest.raises(DataError, match="targets.json"):
        pretrain(config(f"distill.targets={tmp_path}"))


@pytest.mark.parametrize(
    "path", sorted(bundled_path("pretrain_configs").glob("*.yaml")), ids=lambda p: p.stem
)
def test_bundled_configurations_can_be_read(path):
    targets = ["distill.targets=z"] if "distilled" in path.stem else []
    run = read_config(path.stem, ["data.path=x", "run.out=y", *targets])
    assert run.recipe in ("ssam", "ssamba", "tagging")
