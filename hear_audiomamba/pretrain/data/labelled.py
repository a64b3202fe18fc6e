"""Labelled audio as the clips of a run: which train, which validate, which test."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ...errors import ConfigError, DataError, counted, did_you_mean
from ...io.labels import LabelRow, LabelTable, read_labels
from ..config import FinetuneConfig, PretrainConfig
from .clips import Clips

Kind = Literal["single", "multi"]
_SPLIT_STREAM = 7  # of the random numbers that choose validation clips


@dataclass(frozen=True)
class Labelled:
    """The clips of a fine-tuning run.

    Attributes:
        kind: "single" label a clip, or "multi"ple.
        classes: names of the labels, in the order of the outputs.
        train, valid, test: the clips; test may be empty.
    """

    kind: Kind
    classes: tuple[str, ...]
    train: Clips
    valid: Clips
    test: Clips


def labelled_clips(config: PretrainConfig) -> Labelled:
    """Read the labels of a run and divide them.

    Labels with the splits train and valid keep them, and test where there is one. Those with folds test
    on `finetune.fold` (the first by default) and validate on the next. Those without splits hold back
    `finetune.valid_share` of each class; clips of one file stay together.

    Raises:
        LabelError: the labels have problems; all are named at once.
        DataError: there is nothing to train or to validate on.
        ConfigError: the fold is not there.
    """
    table, kind = _read(Path(config.data.path).expanduser(), config.finetune)
    parts = _divide(table, config)
    clips = {name: _clips(rows, table.classes) for name, rows in parts.items()}
    for name in ("train", "valid"):
        if not len(clips[name]):
            raise DataError(f"{config.data.path}: no clips to {name}; splits are {', '.join(table.splits)}")
    return Labelled(kind, table.classes, clips["train"], clips["valid"], clips["test"])


def _read(labels: Path, config: FinetuneConfig) -> tuple[LabelTable, Kind]:
    if config.kind != "auto":
        return read_labels(labels, kind=config.kind), config.kind
    table = read_labels(labels, overlaps="merge")
    if table.kind == "events":  # each stretch with a start and an end is a clip
        kind: Kind = "multi" if any(len(row.labels) != 1 for row in table.rows) else "single"
        return read_labels(labels, kind=kind), kind
    return table, table.kind


def _divide(table: LabelTable, config: PretrainConfig) -> dict[str, list[LabelRow]]:
    splits = table.splits
    if not splits:
        return _hold_back(table.rows, config)
    if {"train", "valid", "test"}.issuperset(splits):
        if "valid" not in splits:
            held = _hold_back([row for row in table.rows if row.split == "train"], config)
            return {**held, "test": [row for row in table.rows if row.split == "test"]}
        return {name: [row for row in table.rows if row.split == name] for name in ("train", "valid", "test")}
    test = config.finetune.fold or splits[0]
    if test not in splits:
        raise ConfigError(f"finetune.fold: {test!r} is not in the labels; {did_you_mean(test, splits)}")
    if len(splits) < 3:
        raise DataError(
            f"{config.data.path}: {counted(len(splits), 'fold')}; to train, validate and test takes three"
        )
    valid = splits[(splits.index(test) + 1) % len(splits)]
    return {
        "train": [row for row in table.rows if row.split not in (test, valid)],
        "valid": [row for row in table.rows if row.split == valid],
        "test": [row for row in table.rows if row.split == test],
    }


def _hold_back(rows: Sequence[LabelRow], config: PretrainConfig) -> dict[str, list[LabelRow]]:
    """Choose files of each class for validation, so that no file is on both sides."""
    rng = np.random.default_rng((config.seed, _SPLIT_STREAM))
    files: dict[tuple[str, ...], list[str]] = defaultdict(list)
    labels: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        labels[row.path].update(row.labels)
    for path, own in labels.items():
        files[tuple(sorted(own))].append(path)
    held: set[str] = set()
    for _, paths in sorted(files.items()):
        # At least one of each class where it has two, and never all of them.
        n = min(len(paths) - 1, max(1, round(config.finetune.valid_share * len(paths))))
        held.update(paths[i] for i in rng.permutation(len(paths))[:n])
    return {
        "train": [row for row in rows if row.path not in held],
        "valid": [row for row in rows if row.path in held],
        "test": [],
    }


def _clips(rows: Sequence[LabelRow], classes: Sequence[str]) -> Clips:
    index = {name: i for i, name in enumerate(classes)}
    root = Path(os.path.commonpath([os.path.dirname(os.path.abspath(row.path)) for row in rows] or ["/"]))
    whole = [row.start is None or row.end is None for row in rows]
    seconds = [np.nan if row.start is None or row.end is None else row.end - row.start for row in rows]
    return Clips(
        root,
        [os.path.relpath(os.path.abspath(row.path), root) for row in rows],
        np.array(seconds, dtype=np.float64),
        labels=[tuple(index[name] for name in row.labels) for row in rows],
        label_names=tuple(classes),
        starts=None if all(whole) else np.array([row.start or 0.0 for row in rows], dtype=np.float64),
    )
