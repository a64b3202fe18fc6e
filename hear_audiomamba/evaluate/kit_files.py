"""Reading what HEAR's runners leave behind: embeddings folders and score files."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..io.files import read_json

SCORES_FILE = "test.predicted-scores.json"
DONE_EMBEDDINGS = ".done.embeddings"
DONE_PREDICTIONS = "prediction-done.json"
_CHUNK = 2**24


def finish_embeddings(folder: Path) -> None:
    """Check the embeddings of a task and drop what predictions do not need.

    Args:
        folder: written by the embeddings runner for one task.

    Raises:
        DataError: the runner did not finish, a file has the wrong size, or embeddings are not finite.
    """
    if not (folder / DONE_EMBEDDINGS).exists():
        raise DataError(f"{folder.name}: the embeddings runner did not finish")
    metadata = read_json(folder / "task_metadata.json")
    for split in metadata["splits"]:
        rows, size = json.loads((folder / f"{split}.embedding-dimensions.json").read_text(encoding="utf-8"))
        path = folder / f"{split}.embeddings.npy"
        if path.stat().st_size != 4 * rows * size:
            raise DataError(f"{folder.name}: {path.name} has not the size of {rows} x {size} numbers")
        values = np.memmap(path, dtype=np.float32, mode="r").reshape(rows, size)
        step = max(1, _CHUNK // size)
        bad = [~np.isfinite(values[i : i + step]).all(1) for i in range(0, rows, step)]
        count = int(sum(b.sum() for b in bad))
        if count:
            raise DataError(
                f"{folder.name}: {count} of {rows} embeddings of split {split} are NaN or infinite"
            )
        # Each clip's own file repeats what the split's array holds.
        if (folder / split).is_dir():
            shutil.rmtree(folder / split)


def read_scores(path: Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Read a score file of the kit or of the fast engine.

    Args:
        path: the file.
        metadata: of its task.

    Returns:
        `score` (name of the task's own score), `value` (folds averaged), `scores` (every score's mean over folds),
        `folds` (the task's own score by test fold), `hparams`, `epochs` (best epoch by fold).

    Raises:
        DataError: the file is cut short, lacks a fold, or a score in it is no number.
    """
    report = read_json(path)
    if metadata["split_mode"] == "trainvaltest":
        splits = ["test"]
    else:
        splits = sorted(metadata["splits"])
    missing = [s for s in splits if s not in report]
    if missing:
        raise DataError(f"{path}: half-written, no results for {', '.join(missing)}")
    names = list(metadata["evaluation"])
    folds = {s: {n: float(report[s].get(f"test_{n}", math.nan)) for n in names} for s in splits}
    first = names[0]
    for split, scores in folds.items():
        if not math.isfinite(scores[first]):
            raise DataError(
                f"{path.name}: {first} of {split} is {scores[first]}: not defined for these predictions and labels "
                "(no event was predicted, or a class that the score needs is not there)"
            )
    means = {n: float(np.mean([folds[s][n] for s in splits])) for n in names}
    return {
        "score": first,
        "value": means[first],
        "scores": means,
        "folds": {s: folds[s][first] for s in splits},
        "hparams": report.get("hparams", {}),
        "epochs": {s: report[s].get("epoch") for s in splits},
    }


def count_ended_by_nan(logs: Path, score: str) -> int:
    """Count trainings that the kit ended because their validation score was not a number.

    The runner says nothing when this happens: such a grid point simply has the worst score.

    Args:
        logs: folder of Lightning's CSV logs.
        score: name of the score that is monitored.
    """
    count = 0
    for path in logs.rglob("metrics.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            values = [row.get(f"val_{score}") or "" for row in csv.DictReader(file)]
        seen = [v for v in values if v]
        count += bool(seen) and not math.isfinite(float(seen[-1]))
    return count
