"""Reading the folder that HEAR's embeddings runner writes for a task."""

from __future__ import annotations

import csv
import io
import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import DataError, counted
from .events import Events


@dataclass(frozen=True)
class Frames:
    """Where the rows of an event split belong: file index and time of each row, and the true events."""

    files: tuple[str, ...]
    file_of_row: NDArray[np.int64]
    timestamps: NDArray[np.float64]
    target: dict[str, Events]


@dataclass(frozen=True)
class SplitData:
    """Embeddings (n, d) float32, targets (n, K) float32 of zeros and ones, and the frames of event tasks."""

    embeddings: Tensor
    targets: Tensor
    frames: Frames | None = None


class TaskData:
    """A task's embeddings and labels, each split read once and kept.

    Args:
        folder: folder written by HEAR's embeddings runner for one task.
        device: where embeddings and targets are kept.

    Raises:
        DataError: a file is missing or cut short, sizes disagree, or an embedding is not finite.
    """

    def __init__(self, folder: str | Path, device: str | torch.device = "cpu") -> None:
        self.folder = Path(folder)
        self.device = torch.device(device)
        self.metadata: dict[str, Any] = self._json("task_metadata.json")
        self.labels = self._labels()
        self.label_to_index = {label: i for i, label in enumerate(self.labels)}
        self._splits: dict[str, SplitData] = {}
        sizes = {name: self._json(f"{name}.embedding-dimensions.json")[1] for name in self.metadata["splits"]}
        if len(set(sizes.values())) != 1:
            raise DataError(f"{self.folder}: embedding sizes differ between splits: {sizes}")
        self.embedding_size = int(next(iter(sizes.values())))

    @property
    def is_event(self) -> bool:
        """Whether labels are events in time rather than labels of whole clips."""
        return bool(self.metadata["embedding_type"] == "event")

    def load(self, names: Sequence[str]) -> SplitData:
        """Return the named splits one after another as one; a single split is not copied."""
        parts = [self._split(name) for name in names]
        if len(parts) == 1:
            return parts[0]
        return SplitData(
            torch.cat([p.embeddings for p in parts]),
            torch.cat([p.targets for p in parts]),
            _join_frames([p.frames for p in parts if p.frames is not None]),
        )

    def _json(self, name: str) -> Any:
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.folder / name}: cannot be read: {error}") from None

    def _labels(self) -> list[str]:
        # The vocabulary has the columns idx and label; quoting is that of pandas.
        path = self.folder / "labelvocabulary.csv"
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = sorted((int(row["idx"]), str(row["label"])) for row in csv.DictReader(file))
        except (OSError, KeyError, ValueError) as error:
            raise DataError(f"{path}: cannot be read: {error!r}") from None
        if [i for i, _ in rows] != list(range(len(rows))):
            raise DataError(f"{path}: indices must run from 0 to {len(rows) - 1}")
        return [label for _, label in rows]

    def _split(self, name: str) -> SplitData:
        if name not in self._splits:
            self._splits[name] = self._read(name)
        return self._splits[name]

    def _read(self, name: str) -> SplitData:
        rows, size = self._json(f"{name}.embedding-dimensions.json")
        path = self.folder / f"{name}.embeddings.npy"
        # The kit writes a bare array of float32 under this name, without the header of the .npy format.
        try:
            values = np.fromfile(path, dtype=np.float32)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error}") from None
        if values.size != rows * size:
            raise DataError(f"{path}: holds {values.size} numbers, expected {rows} x {size}")
        values = values.reshape(rows, size)
        bad = ~np.isfinite(values).all(1)
        if bad.any():
            raise DataError(
                f"{path}: {int(bad.sum())} of {rows} embeddings are NaN or infinite, first in row {int(bad.argmax())}"
            )
        labels = self._label_lists(name)
        if len(labels) != rows:
            raise DataError(
                f"{self.folder}: split {name} has {counted(rows, 'embedding')} and {counted(len(labels), 'label')}"
            )
        targets = np.zeros((rows, len(self.labels)), dtype=np.float32)
        for i, names in enumerate(labels):
            for label in names:
                if str(label) not in self.label_to_index:
                    raise DataError(f"{self.folder}: split {name}: label {label!r} is not in the vocabulary")
                targets[i, self.label_to_index[str(label)]] = 1.0
        if self.metadata["prediction_type"] == "multiclass" and not (targets.sum(1) == 1).all():
            raise DataError(f"{self.folder}: split {name}: a multiclass row needs exactly one label")
        frames = self._frames(name) if self.is_event else None
        return SplitData(
            torch.from_numpy(values).to(self.device), torch.from_numpy(targets).to(self.device), frames
        )

    def _label_lists(self, name: str) -> list[Any]:
        path = self.folder / f"{name}.target-labels.pkl"
        try:
            return list(_PlainUnpickler(io.BytesIO(path.read_bytes())).load())
        except (OSError, pickle.UnpicklingError, EOFError, ValueError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from None

    def _frames(self, name: str) -> Frames:
        rows = self._json(f"{name}.filename-timestamps.json")
        names = [Path(file).name for file, _ in rows]
        files = tuple(dict.fromkeys(names))
        index = {file: i for i, file in enumerate(files)}
        target = {
            file: Events.from_rows(events, self.label_to_index)
            for file, events in self._json(f"{name}.json").items()
        }
        return Frames(
            files,
            np.array([index[n] for n in names], dtype=np.int64),
            np.array([t for _, t in rows], dtype=np.float64),
            target,
        )


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists, strings and numbers only: the label files are pickles, and nothing in them may run."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"refused {module}.{name}: labels are plain lists of strings")


def _join_frames(parts: list[Frames]) -> Frames | None:
    if not parts:
        return None
    files: list[str] = []
    rows, target = [], {}
    for part in parts:
        twice = set(files) & set(part.files)
        if twice:
            raise DataError(f"file {sorted(twice)[0]!r} is in two splits that are used together")
        rows.append(part.file_of_row + len(files))
        files.extend(part.files)
        target.update(part.target)
    return Frames(tuple(files), np.concatenate(rows), np.concatenate([p.timestamps for p in parts]), target)
