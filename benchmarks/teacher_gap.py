"""How much of YAMNet's features a model's scene embeddings hold, on sounds of the corpus and on those of a task.

    PYTHONPATH=.:benchmarks python benchmarks/teacher_gap.py CORPUS TARGETS TASK [ssam_tiny_200_16x4 | WEIGHTS …]

CORPUS and TARGETS are what `recipes/weights/run.sh` made, TASK is a folder of a HEAR task with folds. A ridge
regression from embeddings to YAMNet's 1,024 features is fitted on crops of the corpus. Printed is the share of the
features' variance that it leaves unexplained (1 is no better than each feature's mean over the same sounds, which
the regression does not know) on other crops of effects that the corpus holds, on effects of packages that no model
was trained on, and on the task; and how much the features vary there, in units of the crops of the fit. Nothing is
trained on the task.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import torch
from logistic_probe import embed_clips, read_task
from torch import Tensor

from hear_audiomamba import get_scene_embeddings, load_model
from hear_audiomamba.embedding.embedder import AudioEmbedder
from recipes.corpus.crops import Crop, read_crop
from recipes.corpus.targets import read_crops
from recipes.corpus.teachers import Teacher, make_teacher

N_FIT, N_SEEN, PENALTY, BATCH = 4000, 800, 0.05, 32
# A feature that is next to never active would rule the mean.
LEAST_STD = 1e-3


def main() -> None:
    """Print a row for each model, and all as JSON at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("targets", type=Path)
    parser.add_argument("task", type=Path)
    parser.add_argument("models", nargs="*", default=["ssam_tiny_200_16x4"])
    args = parser.parse_args()
    crops = _crops(args.corpus, args.targets)
    sounds = {name: [read_crop(args.corpus, crop) for crop in some] for name, some in crops.items()}
    sounds["the task"] = read_task(args.task).clips
    teacher = make_teacher("yamnet", args.corpus)
    features = {name: _features(teacher, clips) for name, clips in sounds.items()}
    mean, std = features["fit"].mean(0), features["fit"].std(0) + LEAST_STD
    wanted = {name: (values - mean) / std for name, values in features.items()}
    rows: dict[str, dict[str, float]] = {
        "variance": {name: float(values.var(0).mean()) for name, values in wanted.items()}
    }
    for name in args.models:
        rows[name] = _unexplained(load_model(name, device="cpu"), sounds, wanted)
    for name, row in rows.items():
        print(name, *(f"{place}: {value:.2f}" for place, value in row.items()), sep="  ")
    print(json.dumps(rows, indent=2))


def _crops(corpus: Path, targets: Path) -> dict[str, list[Crop]]:
    """Return the crops of the fit, others of effects that were heard, and effects that were not."""
    with (corpus / "manifest.csv").open(newline="", encoding="utf-8") as file:
        clips = {row["path"]: row for row in csv.DictReader(file)}
    crops = [crop for crop in read_crops(targets / "crops.parquet") if crop[0] in clips]
    rng = np.random.default_rng(0)
    train = [crop for crop in crops if clips[crop[0]]["split"] == "train"]
    effects = [crop for crop in crops if clips[crop[0]]["kind"] == "effect"]
    heard = [crop for crop in effects if clips[crop[0]]["split"] == "train"]
    seen = [heard[i] for i in rng.choice(len(heard), N_SEEN, replace=False)]
    files = {crop[0] for crop in seen}
    rest = [crop for crop in train if crop[0] not in files]
    return {
        "fit": [rest[i] for i in rng.choice(len(rest), N_FIT, replace=False)],
        "effects heard": seen,
        "effects of other packages": [crop for crop in effects if clips[crop[0]]["split"] == "valid"],
    }


def _features(teacher: Teacher, clips: list[np.ndarray]) -> Tensor:
    parts = [clips[first : first + BATCH] for first in range(0, len(clips), BATCH)]
    return torch.from_numpy(np.concatenate([teacher.embed(part, [""] * len(part)) for part in parts])).float()


def _unexplained(
    model: AudioEmbedder, sounds: dict[str, list[np.ndarray]], wanted: dict[str, Tensor]
) -> dict[str, float]:
    rows = {
        name: embed_clips(clips, lambda audio: get_scene_embeddings(audio, model))
        for name, clips in sounds.items()
    }
    mean, std = rows["fit"].mean(0), rows["fit"].std(0) + 1e-6
    rows = {name: (values - mean) / std for name, values in rows.items()}
    fit, truth = rows["fit"], wanted["fit"]
    inner = fit.T @ fit / len(fit) + PENALTY * torch.eye(fit.shape[1])
    weight = torch.linalg.solve(inner, fit.T @ truth / len(fit))
    result = {}
    for name, values in rows.items():
        left = (values @ weight - wanted[name]).square().mean()
        result[name] = float(left / (wanted[name] - wanted[name].mean(0)).square().mean())
    return result


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
