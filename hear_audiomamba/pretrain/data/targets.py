"""Teachers' embeddings of listed crops: what a student learns to predict.

The folder holds `crops.parquet` (path, start_seconds, seconds), `<teacher>.npy` `(n_crops, dim)` for
each teacher, and `targets.json`: `{"teachers": {name: {dim, licence, source, mean, std, loss, labels}}}`,
where mean and std are lists or names of `.npy` files beside it, and labels the names of classes. Known
labels are a teacher too: with the loss "bce" a row holds a 0 or 1 for each class (or a score between), with
"cross_entropy" one class number, NaN where not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConfigError, DataError, did_you_mean, one_line, require
from ...io.files import read_json
from ...io.manifest import read_rows
from ..config import DistillConfig
from .clips import Clips

LOSSES = ("mse", "l1", "cosine", "l1_cosine", "bce", "cross_entropy")


@dataclass
class Teacher:
    """One teacher's rows: what they are compared with, and how.

    Attributes:
        values: `(n_crops, width)`, mapped from disk. A row with a NaN is not known and not learned from.
        dim: width of the student's prediction.
        loss: one of `LOSSES`. "bce" rows are probabilities, "cross_entropy" rows one class number.
        weight: factor of the loss.
        mean, std: `(width,)` for standardising, or None for rows taken as they are.
        coverage: share of the rows that are known.
        labels: names of the classes, where the folder has them.
    """

    values: np.ndarray
    dim: int
    loss: str
    weight: float
    mean: np.ndarray | None = None
    std: np.ndarray | None = None
    coverage: float = 1.0
    labels: tuple[str, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        """Send a worker the name of the file instead of its content."""
        state = vars(self).copy()
        if isinstance(self.values, np.memmap) and self.values.filename is not None:
            state["values"] = Path(self.values.filename)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        values = state["values"]
        vars(self).update(state)
        if isinstance(values, Path):
            self.values = np.load(values, mmap_mode="r", allow_pickle=False)

    def row(self, index: int) -> np.ndarray:
        """Return a row `(width,)` float32, standardised and then limited to ±10 deviations."""
        row = self.values[index].astype(np.float32)
        return row if self.mean is None else np.asarray(np.clip((row - self.mean) / self.std, -10, 10))


@dataclass
class Targets:
    """What several teachers say of `n` crops: name → teacher, and `(n,)` where each crop starts."""

    start_seconds: np.ndarray
    teachers: dict[str, Teacher]

    def rows(self, index: int) -> dict[str, np.ndarray]:
        """Return each teacher's row for one crop."""
        return {name: teacher.row(index) for name, teacher in self.teachers.items()}


def load_targets(config: DistillConfig, corpus: str, split: str | None) -> tuple[Clips, Targets]:
    """Read a targets folder.

    Args:
        config: names the folder and the teachers.
        corpus: folder (or manifest) that the crops' paths are relative to.
        split: keep the crops whose file the corpus manifest gives this split, where there is one.

    Returns:
        The crops as clips, and their targets in the same order.

    Raises:
        DataError: a file is missing, has a wrong shape, or does not belong to the others.
        ConfigError: a teacher is not in the folder.
    """
    folder = Path(config.targets or "").expanduser()
    description = read_json(folder / "targets.json")
    teachers = description.get("teachers", description)
    if isinstance(teachers, list):
        teachers = {entry.get("name", entry.get("teacher")): entry for entry in teachers}
    wanted = config.teachers or dict.fromkeys(teachers, 1.0)
    for name in wanted:
        if name not in teachers:
            raise ConfigError(
                f"distill.teachers: {name!r} is not in {folder}; {did_you_mean(name, teachers)}"
            )
    crops = _read_crops(folder / "crops.parquet")
    root = Path(corpus).expanduser()
    root = root.parent if root.is_file() else root
    keep = _of_split(crops, root, split)
    targets = Targets(crops["start_seconds"][keep].astype(np.float64), {})
    for name, weight in wanted.items():
        teacher = _read_teacher(folder, name, teachers[name], config, len(keep))
        teacher.weight = float(weight)
        teacher.labels = tuple(teachers[name].get("labels", ()))
        if not keep.all():
            teacher.values = teacher.values[keep]
        teacher.coverage = 1.0 - float(np.isnan(teacher.values[:, 0]).mean()) if len(teacher.values) else 1.0
        targets.teachers[name] = teacher
    paths = crops["path"][keep].tolist()
    return Clips(root, paths, crops["seconds"][keep].astype(np.float64)), targets


def _read_teacher(folder: Path, name: str, entry: dict[str, Any], config: DistillConfig, n: int) -> Teacher:
    values = _read_array(folder / f"{name}.npy", mmap=True)
    if values.ndim != 2 or len(values) != n:
        raise DataError(f"{folder / name}.npy: shape {values.shape}, but crops.parquet lists {n} crops")
    loss = entry.get("loss", config.loss)
    if loss not in LOSSES:
        raise DataError(f"{folder}/targets.json: {name}: unknown loss {loss!r}; {did_you_mean(loss, LOSSES)}")
    if loss == "cross_entropy":
        classes = entry.get("classes") or int(np.nanmax(values)) + 1
        return Teacher(values, int(classes), loss, 1.0)
    if loss == "bce" or config.soft_labels:
        return Teacher(values, values.shape[1], loss, 1.0)
    mean, std = (_statistic(folder, entry.get(key)) for key in ("mean", "std"))
    if mean is None or std is None:
        sample = np.asarray(values[:: max(1, n // 20000)], dtype=np.float32)
        mean, std = np.nanmean(sample, axis=0), np.nanstd(sample, axis=0)
    if mean.shape != values.shape[1:] or std.shape != values.shape[1:]:
        raise DataError(f"{folder}/targets.json: mean and std of {name} are not {values.shape[1]} wide")
    # A dimension that is (almost) constant carries nothing; without a floor its noise would rule.
    floor = 1e-3 * max(float(np.median(std)), 1e-6)
    return Teacher(values, values.shape[1], loss, 1.0, mean, np.maximum(std, floor))


def _of_split(crops: dict[str, np.ndarray], root: Path, split: str | None) -> np.ndarray:
    everything = np.ones(len(crops["path"]), dtype=bool)
    manifest = root / "manifest.csv"
    if "split" in crops and split is not None:
        return np.asarray(crops["split"] == split)
    if split is None or not manifest.is_file():
        return everything
    rows = [row.values for row in read_rows(manifest, ("path",))]
    if not rows or "split" not in rows[0]:
        return everything
    members = {row["path"] for row in rows if row["split"] == split}
    return np.array([path in members for path in crops["path"]], dtype=bool)


def _read_crops(path: Path) -> dict[str, np.ndarray]:
    require("pyarrow", "distill.targets", "hear_audiomamba[pretrain]")
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {one_line(error)}") from None
    columns = {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}
    for name in ("path", "start_seconds", "seconds"):
        if name not in columns:
            raise DataError(f"{path}: no column {name!r}; columns are {', '.join(columns)}")
    return columns


def _read_array(path: Path, mmap: bool = False) -> np.ndarray:
    try:
        values: np.ndarray = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    return values


def _statistic(folder: Path, value: Any) -> np.ndarray | None:
    if value is None:
        return None
    if isinstance(value, str):
        return _read_array(folder / value).astype(np.float32)
    return np.asarray(value, dtype=np.float32)
