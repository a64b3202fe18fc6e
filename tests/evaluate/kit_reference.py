"""Runs in the environment of HEAR's tools: writes what the kit's own code gives for inputs of the tests.

python kit_reference.py FOLDER      (reads inputs.npz, events.json and embeddings/, writes the rest)
"""

import json
import math
import os
import random
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from heareval.predictions import task_predictions as kit
from heareval.score import available_scores
from sklearn.model_selection import ParameterGrid


def grids() -> dict:
    out = {}
    for name, grid in (
        ("default", kit.PARAM_GRID),
        ("fast", kit.FAST_PARAM_GRID),
        ("faster", kit.FASTER_PARAM_GRID),
    ):
        for seed in (42, 7):
            kit.seed_everything(seed, workers=False)
            points = list(ParameterGrid(grid))
            random.shuffle(points)
            out[f"{name}-{seed}"] = [
                {k: getattr(v, "__name__", v) for k, v in point.items()} for point in points[:8]
            ]
    return out


def scores(inputs) -> dict:
    labels = {str(i): i for i in range(inputs["multiclass"].shape[1])}
    out = {}
    for name in ("top1_acc", "pitch_acc", "chroma_acc"):
        out[name] = available_scores[name](label_to_idx=labels)(inputs["multiclass"], inputs["one_hot"])
    for name in ("mAP", "d_prime", "aucroc"):
        for case in ("", "_ties", "_absent"):
            value = available_scores[name](label_to_idx=labels)(
                inputs["multilabel" + case], inputs["targets" + case]
            )
            out[name + case] = float(value)
    return out


def event_scores(cases) -> list:
    labels = {str(i): i for i in range(4)}
    names = [n for n in available_scores if n.startswith(("event", "segment"))]
    return [
        {n: dict(available_scores[n](label_to_idx=labels)(case["predicted"], case["target"])) for n in names}
        for case in cases
    ]


def found_events(inputs) -> list:
    predictions = {float(t): torch.from_numpy(p) for t, p in zip(inputs["times"], inputs["frames"])}
    idx_to_label = {i: str(i) for i in range(inputs["frames"].shape[1])}
    return [
        kit.create_events_from_prediction(
            predictions, idx_to_label, median_filter_ms=width, min_duration=shortest
        )
        for width in (0, 150, 250)
        for shortest in (0, 125, 250)
    ]


def configuration(**changes) -> dict:
    conf = {
        "hidden_layers": 1, "hidden_dim": 24, "dropout": 0.0, "lr": 3.2e-3, "patience": 5, "max_epochs": 60,
        "check_val_every_n_epoch": 3, "batch_size": 16, "hidden_norm": torch.nn.BatchNorm1d,
        "norm_after_activation": False, "embedding_norm": torch.nn.Identity,
        "initialization": torch.nn.init.xavier_uniform_, "optim": torch.optim.Adam,
    }  # fmt: skip
    return {**conf, **changes}


def curve(name: str, folder: Path, conf: dict, splits: dict) -> dict:
    """Train with the kit's own function; keep, for every check, the weights, the predictions and the scores."""
    metadata = json.loads((folder / "task_metadata.json").read_text())
    vocabulary, nlabels = kit.label_vocab_nlabels(folder)
    label_to_idx = kit.label_vocab_as_dict(vocabulary, key="label", value="idx")
    functions = [available_scores[s](label_to_idx=label_to_idx) for s in metadata["evaluation"]]
    monitored = f"val_{functions[0]}"
    states, choices, seen = [], [], {"val": [], "test": []}
    kind = kit.EventPredictionModel if metadata["embedding_type"] == "event" else kit.ScenePredictionModel
    configure, score = kind.configure_optimizers, kind._score_epoch_end

    def state_of(model) -> dict:
        return {k: v.clone().numpy() for k, v in model.predictor.state_dict().items()}

    def remember_start(self):
        states.append(state_of(self))
        return configure(self)

    def remember_check(self, part, outputs):
        if part == "val":
            states.append(state_of(self))
        seen[part].append(np.concatenate([np.asarray(batch["prediction"]) for batch in outputs]))
        score(self, part, outputs)
        if part == "val" and kind is kit.EventPredictionModel:
            choices.append(dict(self.epoch_best_postprocessing[self.current_epoch]))

    kind.configure_optimizers, kind._score_epoch_end = remember_start, remember_check
    kit.seed_everything(1, workers=False)
    size = json.loads((folder / f"{metadata['splits'][0]}.embedding-dimensions.json").read_text())[1]
    result = kit.task_predictions_train(
        folder, size, metadata, splits, label_to_idx, nlabels, functions, conf, True, None, True, True
    )
    log = pd.read_csv(Path(result.trainer.logger.log_dir) / "metrics.csv")
    checks = log[log["val_score"].notna() | log["val_loss"].notna()]
    test = kit.task_predictions_test(folder, result, metadata, splits, label_to_idx, nlabels, True)
    kind.configure_optimizers, kind._score_epoch_end = configure, score
    kept = {f"{i}.{k}": v for i, state in enumerate(states) for k, v in state.items()}
    kept.update({f"{part}.{i}": v for part, rows in seen.items() for i, v in enumerate(rows)})
    np.savez(folder.parent.parent / f"curve-{name}.npz", **kept)
    return {
        "epochs": [int(e) for e in checks["epoch"]],
        "scores": [float(v) for v in checks[monitored]],
        "losses": [float(v) for v in checks["val_loss"]],
        "choices": choices,
        "best_epoch": result.epoch,
        "best_score": result.validation_score,
        "postprocessing": dict(result.postprocessing),
        "test": test,
    }


def masked_training(inputs, out: Path) -> None:
    """Train the kit's network with dropout, full batches, and keep the masks that torch drew."""
    torch.manual_seed(3)
    conf = configuration(hidden_layers=2, dropout=0.3, hidden_dim=24)
    network = kit.FullyConnectedPrediction(inputs["x"].shape[1], inputs["y"].shape[1], "multilabel", conf)
    kept = {f"start.{k}": v.clone().numpy() for k, v in network.state_dict().items()}
    masks = []
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.register_forward_hook(lambda m, given, made: masks.append((made != 0).numpy()))
    x, y = torch.from_numpy(inputs["x"]), torch.from_numpy(inputs["y"])
    adam = torch.optim.Adam(network.parameters(), lr=conf["lr"])
    for _ in range(12):
        adam.zero_grad()
        network.logit_loss(network.forward_logit(x), y).backward()
        adam.step()
    kept.update({f"end.{k}": v.numpy() for k, v in network.state_dict().items()})
    network.eval()
    np.savez(out, masks=np.stack(masks), logits=network.forward_logit(x).detach().numpy(), **kept)


def main(folder: Path) -> None:
    os.chdir(folder)
    inputs = np.load("inputs.npz")
    folds = {"train": ["fold02"], "valid": ["fold01"], "test": ["fold00"]}
    parts = {"train": ["train"], "valid": ["valid"], "test": ["test"]}
    report = {
        "grids": grids(),
        "splits": {str(n): kit.data_splits_from_folds([f"fold{i:02d}" for i in range(n)]) for n in (3, 5)},
        "scores": scores(inputs),
        "event_scores": event_scores(json.loads(Path("events.json").read_text(encoding="utf-8"))),
        "found_events": found_events(inputs),
        "curves": {
            "one": curve("one", folder / "embeddings/scene", configuration(), folds),
            "two": curve("two", folder / "embeddings/scene", configuration(hidden_layers=2, lr=1e-3), folds),
            "labels": curve("labels", folder / "embeddings/labels", configuration(), folds),
            "event": curve(
                "event", folder / "embeddings/event", configuration(max_epochs=24, batch_size=64), parts
            ),
        },
    }
    masked_training(inputs, folder / "masked.npz")
    strict = json.loads(json.dumps(report, default=float), parse_constant=lambda s: s)
    Path("reference.json").write_text(json.dumps(strict, allow_nan=False), encoding="utf-8")
    assert math.isfinite(report["scores"]["mAP"])


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
