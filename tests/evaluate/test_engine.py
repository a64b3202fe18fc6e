"""The fast engine by itself: stacks, seeds, bad folders."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from hear_audiomamba.errors import ConfigError, DataError
from hear_audiomamba.evaluate.predictions.data import TaskData
from hear_audiomamba.evaluate.predictions.engine import Engine
from hear_audiomamba.evaluate.predictions.mlp import Dropout, initial_state
from hear_audiomamba.evaluate.predictions.protocol import Point, model_seed, sample_points

from .conftest import event_embeddings, scene_embeddings


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scene_embeddings(tmp_path_factory.mktemp("scene") / "made")


def test_results_do_not_depend_on_stacking_or_threads(scene: Path) -> None:
    reports = [
        Engine(scene, grid="faster", grid_points=6, threads=threads, stack_models=models).run([42, 43])
        for threads, models in ((1, 1), (1, 100), (2, 2))
    ]
    for report in reports[1:]:
        for seed in (42, 43):
            assert report[seed]["aggregated_scores"]["test_top1_acc_mean"] == pytest.approx(
                reports[0][seed]["aggregated_scores"]["test_top1_acc_mean"], abs=0.03
            )
            first, other = (r[seed]["grid"] for r in (reports[0], report))
            assert [g["epochs"] for g in first] == [g["epochs"] for g in other]


def test_the_same_run_twice_gives_the_same_numbers(scene: Path) -> None:
    one, two = (Engine(scene, grid="faster", grid_points=2, threads=1).run([7])[7] for _ in range(2))
    assert one == two


def test_seeds_differ_and_share_their_grid_points_unless_asked(scene: Path) -> None:
    engine = Engine(scene, grid="faster", grid_points=4)
    assert engine.points(42) == engine.points(43)
    own = Engine(scene, grid="faster", grid_points=4, grid_seed=None)
    assert own.points(42) == engine.points(42) != own.points(43)
    assert model_seed(42, 0, 0) != model_seed(43, 0, 0) != model_seed(43, 1, 0)


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_it_learns_what_can_be_learnt(tmp_path: Path, kind: str) -> None:
    folder = scene_embeddings(tmp_path / "easy", kind=kind, rows=120, size=24)
    report = Engine(folder, grid="faster", grid_points=4).run([42])[42]
    name = "test_top1_acc_mean" if kind == "multiclass" else "test_mAP_mean"
    assert report["aggregated_scores"][name] > 0.8


def test_events_are_scored_on_the_test_split(tmp_path: Path) -> None:
    report = Engine(event_embeddings(tmp_path / "events"), grid="faster", grid_points=6).run([42])[42]
    assert set(report["test"]) >= {
        "test_event_onset_200ms_fms",
        "test_event_onset_200ms_fms_recall",
        "test_segment_1s_er",
    }
    assert "aggregated_scores" not in report
    assert [name for name, _ in report["postprocessing"]] == ["median_filter_ms", "min_duration"]


def test_a_nan_score_ends_a_training_and_is_counted(tmp_path: Path) -> None:
    folder = event_embeddings(tmp_path / "events", files=2)
    metadata = json.loads((folder / "task_metadata.json").read_text())
    # No event is ever long enough, and the F-measure of no events is NaN.
    metadata["evaluation_params"] = {
        "event_postprocessing_grid": {"median_filter_ms": [250], "min_duration": [1e9]}
    }
    (folder / "task_metadata.json").write_text(json.dumps(metadata))
    report = Engine(folder, grid="faster", grid_points=2).run([42])[42]
    assert report["ended_by_nan"] == 2
    assert [g["epochs"] for g in report["grid"]] == [1, 1]
    assert all(g["validation_score"] == -float("inf") for g in report["grid"])


def test_initial_weights_have_the_kits_spread() -> None:
    point = Point(2, 512, 0.1, 1e-3, 20, 500, 3, 1024, "xavier_normal_")
    state = initial_state(point, 256, 10, seed=1)
    assert state["hidden.0.weight"].std() == pytest.approx((2 / (256 + 512)) ** 0.5, rel=0.02)
    assert state["hidden.1.weight"].std() == pytest.approx(2**0.5 * (2 / 1024) ** 0.5, rel=0.02)
    assert state["projection.weight"].std() == pytest.approx(2**0.5 * (2 / 522) ** 0.5, rel=0.05)
    assert state["hidden.0.bias"].abs().max() <= 1 / 16
    assert torch.equal(initial_state(point, 256, 10, seed=1)["hidden.0.weight"], state["hidden.0.weight"])


def test_dropout_keeps_the_right_share_and_every_model_its_own() -> None:
    kept = Dropout([1, 2], 0.1).kept(500, 333, torch.device("cpu"))
    assert kept.shape == (500, 666)
    assert kept.float().mean() == pytest.approx(0.9, abs=0.002)
    assert not torch.equal(kept[:, :333], kept[:, 333:])


def test_a_task_may_change_its_grid_but_not_with_unknown_keys() -> None:
    changed = {
        "task_name": "x",
        "evaluation_params": {"task_specific_param_grid": {"max_epochs": [5], "lr": [0.1]}},
    }
    assert {(p.max_epochs, p.lr) for p in sample_points("default", changed)} == {(5, 0.1)}
    assert {
        p.check_val_every_n_epoch for p in sample_points("default", {"task_name": "dcase2016_task2"})
    } == {10}
    with pytest.raises(ConfigError, match="momentum"):
        sample_points("default", {"evaluation_params": {"task_specific_param_grid": {"momentum": [0.9]}}})
    with pytest.raises(ConfigError, match="known"):
        sample_points("fastest", {})


def _damage_nan(folder: Path) -> None:
    values = np.fromfile(folder / "fold01.embeddings.npy", np.float32)
    values[30] = np.nan
    values.tofile(folder / "fold01.embeddings.npy")


def _damage_size(folder: Path) -> None:
    path = folder / "fold01.embeddings.npy"
    path.write_bytes(path.read_bytes()[:-40])


def _damage_label(folder: Path) -> None:
    with (folder / "fold01.target-labels.pkl").open("wb") as file:
        pickle.dump([["low"]] * 39 + [["shrill"]], file)


def _damage_count(folder: Path) -> None:
    with (folder / "fold01.target-labels.pkl").open("wb") as file:
        pickle.dump([["low"]] * 39, file)


class _Payload:
    def __reduce__(self):
        return (Path.touch, (Path("/tmp/hear_audiomamba_must_not_exist"),))


def _damage_pickle(folder: Path) -> None:
    with (folder / "fold01.target-labels.pkl").open("wb") as file:
        pickle.dump([_Payload()], file)


def _damage_dimensions(folder: Path) -> None:
    (folder / "fold01.embedding-dimensions.json").write_text(json.dumps([80, 6]))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_damage_nan, "1 of 40 embeddings are NaN or infinite, first in row 2"),
        (_damage_size, "expected 40 x 12"),
        (_damage_label, "'shrill' is not in the vocabulary"),
        (_damage_count, "40 embeddings and 39 labels"),
        (_damage_pickle, "refused"),
        (_damage_dimensions, "sizes differ"),
    ],
)
def test_damaged_folders_are_refused_by_file_and_reason(tmp_path: Path, damage, said: str) -> None:
    folder = scene_embeddings(tmp_path / "bad")
    damage(folder)
    with pytest.raises(DataError, match=said):
        TaskData(folder).load(["fold00", "fold01"])
    assert not Path("/tmp/hear_audiomamba_must_not_exist").exists()


def test_bfloat16_products_learn_as_well(tmp_path: Path) -> None:
    folder = scene_embeddings(tmp_path / "easy", rows=120, size=24)
    scores = [
        Engine(folder, grid="faster", grid_points=4, precision=p).run([42])[42]["aggregated_scores"]
        for p in ("float32", "bfloat16")
    ]
    assert scores[1]["test_top1_acc_mean"] == pytest.approx(scores[0]["test_top1_acc_mean"], abs=0.03)
    with pytest.raises(ConfigError, match="float16"):
        Engine(folder, precision="float16")
