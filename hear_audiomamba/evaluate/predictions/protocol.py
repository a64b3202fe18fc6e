"""HEAR's protocol of downstream training: the grid, which of its points are tried, and the splits.

Values and orders are those of `heareval` 2021.1.3 (`heareval/predictions/task_predictions.py`); a test compares them
with the installed kit.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...config import Config
from ...errors import ConfigError, DataError

KIT_SEED = 42
GRID_POINTS = 8
PRECISIONS = ("float32", "bfloat16")
"""In which the fast engine multiplies matrices; float32 is the kit's."""

_DEFAULT_GRID: dict[str, list[Any]] = {
    "hidden_layers": [1, 2],
    "hidden_dim": [1024],
    "dropout": [0.1],
    "lr": [3.2e-3, 1e-3, 3.2e-4, 1e-4],
    "patience": [20],
    "max_epochs": [500],
    "check_val_every_n_epoch": [3],
    "batch_size": [1024],
    "initialization": ["xavier_uniform_", "xavier_normal_"],
}
GRIDS: dict[str, dict[str, list[Any]]] = {
    "default": _DEFAULT_GRID,
    "fast": {**_DEFAULT_GRID, "max_epochs": [10, 50], "check_val_every_n_epoch": [3, 10]},
    "faster": {
        **_DEFAULT_GRID,
        "hidden_layers": [0, 1],
        "hidden_dim": [64, 128],
        "patience": [1, 3],
        "max_epochs": [10],
        "check_val_every_n_epoch": [1],
    },
}
_TASK_GRIDS: dict[str, dict[str, list[Any]]] = {"dcase2016_task2": {"check_val_every_n_epoch": [10]}}
_POSTPROCESSING_GRID: dict[str, list[float]] = {"median_filter_ms": [250], "min_duration": [125, 250]}


@dataclass(frozen=True)
class Point(Config):
    """One point of the grid: how one MLP is built and trained.

    Args:
        hidden_layers: hidden layers, each Linear, BatchNorm, Dropout, ReLU.
        hidden_dim: width of the hidden layers.
        dropout: probability of dropping a hidden unit.
        lr: Adam's learning rate.
        patience: checks without improvement after which training stops.
        max_epochs: most epochs trained.
        check_val_every_n_epoch: epochs between two checks of the validation score.
        batch_size: rows in a step; training rows keep their order.
        initialization: `xavier_uniform_` or `xavier_normal_`.
    """

    hidden_layers: int
    hidden_dim: int
    dropout: float
    lr: float
    patience: int
    max_epochs: int
    check_val_every_n_epoch: int
    batch_size: int
    initialization: str


@dataclass(frozen=True)
class Split:
    """Which of a task's splits serve for training, validation and test."""

    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def name(self) -> str:
        """The key of this split in the results: its test folds."""
        return "|".join(self.test)


def expand_grid(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """List all combinations of a grid, keys in alphabetical order, the last key changing fastest.

    Source: the order of scikit-learn's `ParameterGrid`.
    """
    keys = sorted(grid)
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*(grid[k] for k in keys))]


def sample_points(
    grid: str, metadata: Mapping[str, Any], *, seed: int = KIT_SEED, count: int = GRID_POINTS
) -> list[Point]:
    """Choose the grid points that are tried for a task.

    Args:
        grid: `default`, `fast` or `faster`.
        metadata: the task's `task_metadata.json`; it may override parts of the grid.
        seed: seed of the shuffle; the kit's own is 42.
        count: how many points to take.

    Returns:
        The points in the order in which the kit tries them.

    Raises:
        ConfigError: the grid is unknown, or the task overrides what cannot be varied here.

    Source: `task_predictions` of the kit, which shuffles all combinations with Python's generator.
    """
    if grid not in GRIDS:
        raise ConfigError(f"unknown grid {grid!r}; known: {', '.join(GRIDS)}")
    values = dict(GRIDS[grid])
    # The kit's key of the normalisation layers has one value only and sorts where it changes no order.
    values.update(_TASK_GRIDS.get(str(metadata.get("task_name")), {}))
    values.update(metadata.get("evaluation_params", {}).get("task_specific_param_grid", {}))
    points = [Point.from_dict(choice) for choice in expand_grid(values)]
    random.Random(seed).shuffle(points)
    return points[:count]


def postprocessing_choices(metadata: Mapping[str, Any]) -> list[dict[str, float]]:
    """List the post-processings of an event task that validation chooses from, in the kit's order."""
    grid = metadata.get("evaluation_params", {}).get("event_postprocessing_grid", _POSTPROCESSING_GRID)
    return expand_grid(grid)


def task_splits(metadata: Mapping[str, Any]) -> list[Split]:
    """List the splits of a task; the first is the one on which grid points are compared.

    Args:
        metadata: the task's `task_metadata.json`.

    Returns:
        One split for train/valid/test tasks; for k folds, k splits: test on one, validate on the next, train on the
        others, in sorted order.

    Raises:
        DataError: the split mode is unknown or the folds are too few or not unique.
    """
    mode = metadata["split_mode"]
    if mode == "trainvaltest":
        return [Split(("train",), ("valid",), ("test",))]
    if mode not in ("new_split_kfold", "presplit_kfold"):
        raise DataError(f"unknown split_mode {mode!r}; known: trainvaltest, new_split_kfold, presplit_kfold")
    folds = sorted(metadata["splits"])
    if len(folds) != len(set(folds)) or len(folds) < 3:
        raise DataError(f"k-fold tasks need three or more different folds, got {folds}")
    splits = []
    for i, test in enumerate(folds):
        valid = folds[(i + 1) % len(folds)]
        splits.append(Split(tuple(f for f in folds if f not in (test, valid)), (valid,), (test,)))
    return splits


def model_seed(seed: int, split: int, point: int) -> int:
    """Derive the seed of one MLP from the run's seed, the index of its split and of its grid point.

    Deviates: the kit draws all models of a run from one stream, so each depends on how long the earlier ones trained;
    here each has a stream of its own, so they can train side by side.
    """
    return int(np.random.SeedSequence([seed, split, point]).generate_state(1, np.uint64)[0] >> np.uint64(1))
