"""Fine-tuning the bundled weights against logistic regression on their frozen embeddings, on a HEAR task with folds.

    PYTHONPATH=benchmarks python benchmarks/finetune.py TASK [SETTING=VALUE …] [--fold fold00] [--seeds 0 1 2] \
        [--work build/finetune] [--json FILE]

TASK is the folder of a task. One fold is tested, the next one validates, the others train, as in
`hear-audiomamba finetune`. The regression has the same training clips; three of its scores are kept: with the penalty
that is best on the validation fold ("frozen"), with the one that is best on the test fold, which no user could know
("frozen_best"), and with the first penalty, trained on the validation fold too ("frozen_more"). Settings are those
of `hear-audiomamba finetune`. Runs that are in --work already are not done again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import soundfile
import torch
from timing import write

from hear_audiomamba import load_model
from hear_audiomamba.pretrain import pretrain, read_config
from hear_audiomamba.pretrain.run.runlog import read_log

INVERSE_PENALTIES = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)


def main() -> None:
    """Print each score, and write all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("task", type=Path, help="folder of a task with folds")
    parser.add_argument("settings", nargs="*", help="of `hear-audiomamba finetune`, KEY=VALUE")
    parser.add_argument("--fold", default="fold00", help="the fold to test on")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("build/finetune"), help="where the runs are kept")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    row = {
        "benchmark": "fine-tuning",
        "task": args.task.name,
        "test_fold": args.fold,
        "settings": args.settings,
    }
    row.update(frozen_scores(args.task, args.fold))
    print({name: value for name, value in row.items() if name.startswith("frozen")}, flush=True)
    row["runs"] = []
    for seed in args.seeds:
        row["runs"].append(finetuned(args, seed))
        row["finetuned_mean"] = float(np.mean([run["accuracy"] for run in row["runs"]]))
        write(args.json, row)
    print(f"fine-tuned: mean {row['finetuned_mean']:.4f} of {len(row['runs'])} seeds")


def frozen_scores(task: Path, test: str) -> dict[str, float | int]:
    """Return the accuracies of logistic regressions on the test fold."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = json.loads((task / "task_metadata.json").read_text())["splits"]
    valid = folds[(folds.index(test) + 1) % len(folds)]
    data = {fold: embedded(task, fold) for fold in folds}

    def joined(names: list[str]) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate([data[n][0] for n in names]), np.concatenate([data[n][1] for n in names])

    def fitted(names: list[str], inverse: float):
        return make_pipeline(StandardScaler(), LogisticRegression(C=inverse, max_iter=2000)).fit(
            *joined(names)
        )

    train = [fold for fold in folds if fold not in (test, valid)]
    models = {inverse: fitted(train, inverse) for inverse in INVERSE_PENALTIES}
    best = max(models, key=lambda inverse: models[inverse].score(*data[valid]))
    return {
        "train_clips": len(joined(train)[1]),
        "test_clips": len(data[test][1]),
        "frozen": float(models[best].score(*data[test])),
        "frozen_best": float(max(model.score(*data[test]) for model in models.values())),
        "frozen_more": float(fitted([*train, valid], best).score(*data[test])),
    }


def embedded(task: Path, fold: str) -> tuple[np.ndarray, np.ndarray]:
    """Return scene embeddings and labels of a fold's clips, by the bundled default."""
    model = load_model(device="cpu")
    labels = {name: str(own[0]) for name, own in json.loads((task / f"{fold}.json").read_text()).items()}
    scenes = []
    for name in labels:
        samples, _ = soundfile.read(task / "16000" / fold / name, dtype="float32")
        scenes.append(model.scene(torch.from_numpy(samples)[None])[0].numpy())
    return np.stack(scenes), np.array(list(labels.values()))


def finetuned(args: argparse.Namespace, seed: int) -> dict[str, float | int]:
    """Return what one run scores on the test fold."""
    out = args.work / f"{args.task.name}-{args.fold}-{seed}"
    words = [f"data.path={args.task}", f"run.out={out}", f"finetune.fold={args.fold}", f"seed={seed}"]
    log = out / "log.jsonl"
    if not (log.exists() and any(event["event"] == "test" for event in read_log(log))):
        pretrain(read_config("default", [*words, *args.settings]), resume=True)
    valid = [event["accuracy"] for event in read_log(log) if event["event"] == "valid"]
    test = next(event for event in read_log(log) if event["event"] == "test")
    run = {"seed": seed, "steps": test["step"], "best_step": test["best_step"]}
    run |= {"valid_at_start": valid[0], "valid_best": max(valid), "accuracy": test["accuracy"]}
    print(run, flush=True)
    return run


if __name__ == "__main__":
    main()
