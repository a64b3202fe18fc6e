"""Teachers' embeddings of listed crops: what a student learns to predict.

The folder holds `crops.parquet` (path, start_seconds, seconds), `<teacher>.npy` `(n_crops, dim)` for
each teacher, and `targets.json`: `{"teachers": {name: {dim, licence, source, mean, std}}}`, where mean
and std are lists or names of `.npy` files beside it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, DataError, did_you_mean
from .clips import Clips
from .config import DistillConfig


@dataclass
class Targets:
    """Embeddings of `n` crops by several teachers.

    Attributes:
        start_seconds: `(n,)` where each crop starts in its file.
        values: name → `(n, dim)`, mapped from disk.
        mean, std: name → `(dim,)` float32, over all crops.
        weights: name → factor of the teacher's loss.
        logits: the embeddings are class logits, which are not standardised.
    """

    start_seconds: np.ndarray
    values: dict[str, np.ndarray]
    mean: dict[str, np.ndarray]
    std: dict[str, np.ndarray]
    weights: dict[str, float]
    logits: bool = False

    @property
    def dims(self) -> dict[str, int]:
        """Width of each teacher's embedding."""
        return {name: value.shape[1] for name, value in self.values.items()}

    def rows(self, index: int) -> dict[str, np.ndarray]:
        """Return one crop's embeddings `(dim,)` float32, standardised and limited to ±10 deviations."""
        if self.logits:
            return {name: value[index].astype(np.float32) for name, value in self.values.items()}
        return {
            name: np.clip((value[index].astype(np.float32) - self.mean[name]) / self.std[name], -10, 10)
            for name, value in self.values.items()
        }


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
    description = _read_json(folder / "targets.json")
    teachers = description.get("teachers", description)
    if isinstance(teachers, list):
        teachers = {entry["name"]: entry for entry in teachers}
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
    targets = Targets(crops["start_seconds"][keep].astype(np.float64), {}, {}, {}, {}, config.soft_labels)
    for name, weight in wanted.items():
        values = _read_array(folder / f"{name}.npy", mmap=True)
        if values.ndim != 2 or len(values) != len(crops["path"]):
            raise DataError(
                f"{folder / name}.npy: shape {values.shape}, but crops.parquet lists {len(crops['path'])} crops"
            )
        mean, std = (_statistic(folder, teachers[name].get(key)) for key in ("mean", "std"))
        if mean is None or std is None:
            sample = np.asarray(values[:: max(1, len(values) // 20000)], dtype=np.float32)
            mean, std = sample.mean(0), sample.std(0)
        if mean.shape != values.shape[1:] or std.shape != values.shape[1:]:
            raise DataError(f"{folder}/targets.json: mean and std of {name} are not {values.shape[1]} wide")
        targets.values[name] = values if keep.all() else values[keep]
        # A dimension that is (almost) constant carries nothing; without a floor its noise would rule.
        floor = 1e-3 * max(float(np.median(std)), 1e-6)
        targets.mean[name], targets.std[name] = mean, np.maximum(std, floor)
        targets.weights[name] = float(weight)
    paths = crops["path"][keep].tolist()
    return Clips(root, paths, crops["seconds"][keep].astype(np.float64)), targets


def _of_split(crops: dict[str, np.ndarray], root: Path, split: str | None) -> np.ndarray:
    everything = np.ones(len(crops["path"]), dtype=bool)
    manifest = root / "manifest.csv"
    if "split" in crops and split is not None:
        return crops["split"] == split
    if split is None or not manifest.is_file():
        return everything
    import csv

    with open(manifest, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or "split" not in rows[0]:
        return everything
    members = {row["path"] for row in rows if row["split"] == split}
    return np.array([path in members for path in crops["path"]], dtype=bool)


def _read_crops(path: Path) -> dict[str, np.ndarray]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise ConfigError("distill.targets needs pyarrow: pip install 'hear_audiomamba[pretrain]'") from None
    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    columns = {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}
    for name in ("path", "start_seconds", "seconds"):
        if name not in columns:
            raise DataError(f"{path}: no column {name!r}; columns are {', '.join(columns)}")
    return columns


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise DataError(f"{path}: expected an object with 'teachers'")
    return values


def _read_array(path: Path, mmap: bool = False) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None


def _statistic(folder: Path, value: Any) -> np.ndarray | None:
    if value is None:
        return None
    if isinstance(value, str):
        return _read_array(folder / value).astype(np.float32)
    return np.asarray(value, dtype=np.float32)
