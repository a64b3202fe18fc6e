"""Logistic regression on frozen scene embeddings of HEAR tasks with folds: quick, and nearly free of chance.

    PYTHONPATH=benchmarks python benchmarks/logistic_probe.py TASKS_DIR hear_audiomamba hear_audiomamba@w.safetensors \
        'peers{"peer": "yamnet"}' exported.onnx [--tasks NAME …]

An exported model takes clips of one length only: that of `hear-audiomamba export --seconds`. Every fold is tested
once by a classifier trained on the others, on standardised embeddings, with the better of two penalties. Accuracy;
for several labels a clip the mean average precision over classes that the fold holds. The benchmark itself trains a
small network instead: `hear-audiomamba evaluate`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor

from hear_audiomamba.onnx_runtime import OnnxEmbedder

PENALTIES = (3e-3, 3e-2)
BATCH = 32


def main() -> None:
    """Print a row of scores for each model, and all of them as JSON at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("tasks_dir", type=Path, help="folder of unpacked HEAR tasks")
    parser.add_argument(
        "models",
        nargs="+",
        help="MODULE, MODULE@WEIGHTS, either with a JSON object behind it, or FILE.onnx",
    )
    parser.add_argument("--tasks", nargs="*", help="parts of task names; default: all with folds")
    args = parser.parse_args()
    folders = [
        f for f in task_folders(args.tasks_dir) if not args.tasks or any(t in f.name for t in args.tasks)
    ]
    rows = {}
    for model in args.models:
        begin = time.monotonic()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            embed = scene_embedder(model)
        scores = {folder.name.partition("-")[0]: score_task(folder, embed) for folder in folders}
        scores["mean"] = float(np.mean(list(scores.values())))
        rows[model] = {name: round(value, 4) for name, value in scores.items()}
        print(
            model, *(f"{k} {v:.3f}" for k, v in scores.items()), f"{time.monotonic() - begin:.0f} s", sep="  "
        )
    print(json.dumps(rows, indent=2))


def task_folders(tasks_dir: Path) -> list[Path]:
    """Return the folders of tasks with folds."""
    return [path for path in sorted(tasks_dir.iterdir()) if (path / "fold00.json").is_file()]


def scene_embedder(text: str) -> Callable[[Tensor], Tensor]:
    """Return the scene embedding function of `MODULE[@WEIGHTS][{options}]` or of an exported model."""
    if text.endswith(".onnx"):
        session = OnnxEmbedder(text)
        return lambda audio: torch.from_numpy(session.scene(audio.numpy()))
    source, brace, tail = text.partition("{")
    module_name, _, weights = source.partition("@")
    module = importlib.import_module(module_name)
    model = module.load_model(weights, **(json.loads(brace + tail) if brace else {})).eval()
    return lambda audio: module.get_scene_embeddings(audio, model)


class ProbeTask(NamedTuple):
    """The clips of a task with folds: `(n,)` waveforms, `(n, C)` labels as 0 and 1, `(n,)` folds."""

    clips: list[np.ndarray]
    truth: Tensor
    fold: Tensor
    several: bool


def read_task(folder: Path) -> ProbeTask:
    """Read a task's clips at 16 kHz and their labels."""
    clips, labels, folds = [], [], []
    for fold, listing in enumerate(sorted(folder.glob("fold??.json"))):
        for name, names in json.loads(listing.read_text(encoding="utf-8")).items():
            clips.append(soundfile.read(folder / "16000" / listing.stem / name, dtype="float32")[0])
            labels.append(names)
            folds.append(fold)
    metadata = json.loads((folder / "task_metadata.json").read_text(encoding="utf-8"))
    known = sorted({name for names in labels for name in names})
    truth = torch.tensor([[name in names for name in known] for names in labels], dtype=torch.float32)
    return ProbeTask(clips, truth, torch.tensor(folds), metadata["prediction_type"] == "multilabel")


def score_task(folder: Path, embed: Callable[[Tensor], Tensor]) -> float:
    """Return a task's score, averaged over its folds."""
    task = read_task(folder)
    return score_rows(task, embed_clips(task.clips, embed))


def score_rows(task: ProbeTask, rows: Tensor) -> float:
    """Return the score of a task's embeddings `(n, K)`, averaged over its folds."""
    return max(
        float(
            np.mean(
                [
                    score_fold(rows, task.truth, task.fold == k, task.several, penalty)
                    for k in sorted(set(task.fold.tolist()))
                ]
            )
        )
        for penalty in PENALTIES
    )


def embed_clips(clips: list[np.ndarray], embed: Callable[[Tensor], Tensor]) -> Tensor:
    """Return `(n, K)` of clips of any lengths, those of one length in batches."""
    rows: list[Tensor] = [torch.empty(0)] * len(clips)
    lengths = {len(clip) for clip in clips}
    for length in sorted(lengths):
        same = [i for i, clip in enumerate(clips) if len(clip) == length]
        for first in range(0, len(same), BATCH):
            part = same[first : first + BATCH]
            with torch.inference_mode():
                found = embed(torch.from_numpy(np.stack([clips[i] for i in part])))
            for index, row in zip(part, found.float()):
                rows[index] = row
    return torch.stack(rows).clone()


def score_fold(rows: Tensor, truth: Tensor, test: Tensor, several: bool, penalty: float) -> float:
    """Train on the other folds and return the score on this one."""
    from sklearn.metrics import average_precision_score

    mean, std = rows[~test].mean(0), rows[~test].std(0) + 1e-6
    scaled = (rows - mean) / std
    logits = fit(scaled[~test], truth[~test], several, penalty)(scaled[test])
    if not several:
        return float((logits.argmax(1) == truth[test].argmax(1)).float().mean())
    present = truth[test].sum(0) > 0
    return float(average_precision_score(truth[test][:, present], logits[:, present], average="macro"))


def fit(rows: Tensor, truth: Tensor, several: bool, penalty: float) -> Callable[[Tensor], Tensor]:
    """Return a logistic regression's logits; `penalty` is half the factor of the squared weights."""
    weight = torch.zeros(rows.shape[1], truth.shape[1], requires_grad=True)
    bias = torch.zeros(truth.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=60, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = rows @ weight + bias
        if several:
            each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").sum(1)
        else:
            each = -(logits.log_softmax(1) * truth).sum(1)
        loss = each.mean() + 0.5 * penalty * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return lambda other: (other @ weight + bias).detach()


if __name__ == "__main__":
    main()
