"""The fast engine, its scores and its protocol against HEAR's own code, run in its own environment."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hear_audiomamba.evaluate.predictions.data import TaskData
from hear_audiomamba.evaluate.predictions.engine import Engine
from hear_audiomamba.evaluate.predictions.events import EVENT_SCORES, Events, find_events
from hear_audiomamba.evaluate.predictions.judge import Judge
from hear_audiomamba.evaluate.predictions.mlp import Dropout, MLPStack
from hear_audiomamba.evaluate.predictions.protocol import Point, sample_points, task_splits
from hear_audiomamba.evaluate.predictions.scores import SCENE_SCORES
from hear_audiomamba.evaluate.predictions.train import Check, Model, Stopper, train_stack

from .conftest import N_LABELS, Reference

POINT = Point(
    hidden_layers=1, hidden_dim=24, dropout=0.0, lr=3.2e-3, patience=5, max_epochs=60,
    check_val_every_n_epoch=3, batch_size=16, initialization="xavier_uniform_",
)  # fmt: skip
KIT_ONLY = ("hidden_norm", "embedding_norm", "norm_after_activation", "optim")


def own_state(kit_state: dict[str, np.ndarray], layers: int) -> dict[str, torch.Tensor]:
    """The kit's network (Linear, BatchNorm, Dropout, ReLU in a row) under this package's names."""
    names = {"weight": "scale", "bias": "shift", "running_mean": "mean", "running_var": "variance"}
    state = {}
    for i in range(layers):
        for kind in ("weight", "bias"):
            state[f"hidden.{i}.{kind}"] = kit_state[f"hidden.{4 * i}.{kind}"]
        for kit_name, own_name in names.items():
            state[f"hidden.{i}.{own_name}"] = kit_state[f"hidden.{4 * i + 1}.{kit_name}"]
    for kind in ("weight", "bias"):
        state[f"projection.{kind}"] = kit_state[f"projection.{kind}"]
    return {k: torch.from_numpy(np.array(v)) for k, v in state.items()}


@pytest.mark.parametrize("grid", ["default", "fast", "faster"])
@pytest.mark.parametrize("seed", [42, 7])
def test_the_grid_points_are_the_kits_in_its_order(reference: Reference, grid: str, seed: int) -> None:
    expected = [
        {k: v for k, v in point.items() if k not in KIT_ONLY}
        for point in reference.answers["grids"][f"{grid}-{seed}"]
    ]
    assert [p.to_dict() for p in sample_points(grid, {"task_name": "any"}, seed=seed)] == expected


@pytest.mark.parametrize("folds", [3, 5])
def test_the_splits_are_the_kits(reference: Reference, folds: int) -> None:
    names = [f"fold{i:02d}" for i in range(folds)]
    expected = reference.answers["splits"][str(folds)]
    for split, kit in zip(
        task_splits({"split_mode": "presplit_kfold", "splits": names}), expected, strict=True
    ):
        assert {"train": list(split.train), "valid": list(split.valid), "test": list(split.test)} == kit


def test_scene_scores_are_the_kits(reference: Reference) -> None:
    for name, expected in reference.answers["scores"].items():
        score, _, case = name.partition("_" if name.startswith(("mAP", "aucroc")) else "prime_")
        score = name if name in SCENE_SCORES else ("d_prime" if name.startswith("d_prime") else score)
        if score in ("top1_acc", "pitch_acc", "chroma_acc"):
            given = reference.inputs["multiclass"], reference.inputs["one_hot"]
        else:
            end = f"_{case}" if case else ""
            given = reference.inputs[f"multilabel{end}"], reference.inputs[f"targets{end}"]
        with np.errstate(all="ignore"):
            assert SCENE_SCORES[score](*given) == pytest.approx(float(expected), abs=1e-9, nan_ok=True), name


def test_event_scores_are_those_of_sed_eval(reference: Reference) -> None:
    index = {str(i): i for i in range(N_LABELS)}
    for case, expected in zip(reference.events, reference.answers["event_scores"], strict=True):
        predicted = {name: Events.from_rows(rows, index) for name, rows in case["predicted"].items()}
        target = {name: Events.from_rows(rows, index) for name, rows in case["target"].items()}
        for name, score in EVENT_SCORES.items():
            for part, value in score(predicted, target, N_LABELS).items():
                assert value == pytest.approx(float(expected[name][part]), abs=1e-12, nan_ok=True), (
                    name,
                    part,
                )


def test_events_are_found_as_the_kit_finds_them(reference: Reference) -> None:
    expected = iter(reference.answers["found_events"])
    for width in (0, 150, 250):
        for shortest in (0, 125, 250):
            found = find_events(
                reference.inputs["frames"],
                reference.inputs["times"],
                median_filter_ms=width,
                min_duration=shortest,
            )
            rows = [
                {"label": str(label), "start": start, "end": end}
                for label, start, end in zip(found.labels, found.starts, found.ends, strict=True)
            ]
            assert rows == next(expected)


TRAININGS = [
    ("one", "scene", {}),
    ("two", "scene", {"hidden_layers": 2, "lr": 1e-3}),
    ("labels", "labels", {}),
    ("event", "event", {"max_epochs": 24, "batch_size": 64}),
]


class Case:
    """A training of the kit's, with the data and the grid point it had."""

    def __init__(self, reference: Reference, name: str, task: str, point: dict) -> None:
        self.point, self.kit = POINT.replace(**point), reference.training(name)
        data = TaskData(reference.folder / "embeddings" / task)
        self.judge = Judge(data.metadata, data.labels)
        names = ("train", "valid", "test") if task == "event" else ("fold02", "fold01", "fold00")
        self.train, self.valid, self.test = (data.load([n]) for n in names)

    def stack(self, state: dict[str, torch.Tensor]) -> MLPStack:
        return MLPStack(
            [state],
            [0.0],
            hidden_layers=self.point.hidden_layers,
            dropout=Dropout([], 0.0),
            drop_probability=0.0,
            multilabel=self.judge.multilabel,
            device=torch.device("cpu"),
        )


@pytest.fixture(params=TRAININGS, ids=lambda p: p[0])
def case(reference: Reference, request: pytest.FixtureRequest) -> Case:
    return Case(reference, *request.param)


# Scores, the choice of post-processing and early stopping compare numbers with thresholds and with one another: the
# last bit of a product, which depends on the processor, can flip them. So what is arithmetic (weights, predictions) is
# held to the kit's within a tolerance, and what decides is given the kit's own numbers and held to it exactly.


def test_from_the_same_weights_training_gives_the_kits_weights(case: Case) -> None:
    layers = case.point.hidden_layers
    states = [own_state(state, layers) for state in case.kit.states]
    epochs = case.kit.log["epochs"]
    # It must not stop by itself: a score that flips would end it at another epoch than the kit's.
    endless = case.point.replace(patience=10**6, max_epochs=epochs[-1] + 1)
    checks = 0

    def rising(logits: torch.Tensor) -> Check:
        nonlocal checks
        checks += 1  # so that the last check is the best and its weights are kept
        return Check(float(checks))

    with torch.inference_mode():
        # Twice the same model in one stack: they must not disturb each other, and both must follow the kit.
        trained = train_stack(
            [Model(endless, states[0], seed) for seed in (0, 1)],
            case.train,
            case.valid,
            rising,
            multilabel=case.judge.multilabel,
            maximize=True,
        )
    assert [epoch for epoch, _ in trained[0].curve] == epochs
    for result in trained:
        for key, value in result.state.items():
            # The bias before a normalisation has no gradient but rounding, which Adam blows up to full steps; the
            # running mean follows it. Nothing else depends on either while training.
            if key.startswith("hidden") and key.endswith((".bias", ".mean")):
                continue
            # Rounding alone leaves 1e-7. Where it moves a row across the kink of a ReLU, the gradient of one of a
            # batch's 16 rows changes once, and with it one step of Adam, which is at most the learning rate.
            assert torch.allclose(value, states[-1][key], rtol=1e-4, atol=case.point.lr / 10), key
    assert checks == 2 * len(epochs)


def test_the_kits_weights_give_the_kits_predictions(case: Case) -> None:
    for state, expected, loss in zip(
        case.kit.states[1:], case.kit.valid, case.kit.log["losses"], strict=True
    ):
        logits = case.stack(own_state(state, case.point.hidden_layers)).logits(case.valid.embeddings)[0]
        # Sums of at most 24 float32 products, through three layers and a sigmoid or softmax of slope at most 1.
        assert np.allclose(case.judge.probabilities(logits).numpy(), expected, atol=1e-5)
        assert case.judge.loss(logits, case.valid.targets) == pytest.approx(float(loss), rel=1e-5)


def test_the_kits_predictions_give_the_kits_scores_and_choices(case: Case) -> None:
    log = case.kit.log
    checks = [case.judge.choose(p, case.valid) for p in case.kit.valid]
    # The kit logs its scores as float32.
    assert [c.score for c in checks] == pytest.approx(
        [float(v) for v in log["scores"]], rel=1e-6, nan_ok=True
    )
    assert [c.postprocessing for c in checks] == (log["choices"] or [{}] * len(checks))
    for key, value in case.judge.score(case.kit.test, case.test, log["postprocessing"]).items():
        assert value == pytest.approx(float(log["test"][key]), rel=1e-6, nan_ok=True), key


def test_the_kits_scores_end_a_training_where_the_kit_ended_it(case: Case) -> None:
    log = case.kit.log
    stopper = Stopper(case.point, case.judge.maximize)
    choices = log["choices"] or [{}] * len(log["epochs"])
    ended = [
        stopper.check(epoch, Check(float(score), choice), dict)
        for epoch, score, choice in zip(log["epochs"], log["scores"], choices, strict=True)
    ]
    assert not any(ended[:-1])
    assert ended[-1] or log["epochs"][-1] == case.point.max_epochs - 1
    assert stopper.result.epoch == log["best_epoch"]
    assert stopper.result.score == pytest.approx(float(log["best_score"]), rel=1e-6)
    assert stopper.result.postprocessing == log["postprocessing"]


class _Replay(Dropout):
    """Gives out recorded masks instead of drawing."""

    def __init__(self, masks: np.ndarray) -> None:
        super().__init__([0], 0.3)
        self.masks = iter(masks)

    def kept(self, rows: int, width: int, device: torch.device) -> torch.Tensor:
        return torch.from_numpy(next(self.masks))


def test_dropout_normalisation_and_adam_are_the_kits(reference: Reference) -> None:
    kept = dict(np.load(reference.folder / "masked.npz"))
    start, end = (
        own_state({k.removeprefix(f"{part}."): v for k, v in kept.items() if k.startswith(part)}, 2)
        for part in ("start", "end")
    )
    stack = MLPStack(
        [start],
        [3.2e-3],
        hidden_layers=2,
        dropout=_Replay(kept["masks"]),
        drop_probability=0.3,
        multilabel=True,
        device=torch.device("cpu"),
    )
    x, y = (torch.from_numpy(reference.inputs[k]) for k in "xy")
    for _ in range(12):
        stack.train_batch(x, y)
    for key, value in stack.state(0).items():
        # The bias before a normalisation has no gradient but rounding, which Adam blows up to full steps.
        if key.startswith("hidden") and key.endswith((".bias", ".mean")):
            continue
        assert torch.allclose(value, end[key], atol=2e-5), key
    assert np.allclose(stack.logits(x)[0].numpy(), kept["logits"], atol=0.02)


def test_the_engine_reports_what_the_kit_reports(reference: Reference) -> None:
    engine = Engine(reference.folder / "embeddings" / "scene", grid="faster", grid_points=3)
    report = engine.run([42])[42]
    assert set(report["fold00"]) >= {"test_loss", "test_score", "test_top1_acc", "validation_score", "epoch"}
    folds = [report[f"fold{i:02d}"]["test_top1_acc"] for i in range(3)]
    assert report["aggregated_scores"]["test_top1_acc_mean"] == pytest.approx(np.mean(folds))
    assert report["aggregated_scores"]["test_top1_acc_std"] == pytest.approx(np.std(folds, ddof=1))
    assert report["score_mode"] == "max" and len(report["grid"]) == 3
    assert not any(math.isnan(f) for f in folds)
