"""A linear or nearest-neighbour classifier on HEAR-format tasks, on frozen scene embeddings.

It shows during a run whether transfer rises, not only whether the loss falls. It is quicker and
coarser than the benchmark itself, which `hear-audiomamba evaluate` runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...config import ModelConfig
from ...embedding.embedder import AudioEmbedder
from ...encoders.base import Encoder
from ...errors import AudioReadError, ConfigError, DataError, did_you_mean, require
from ...frontends.base import Frontend
from ...io.audio import load_audio
from ...io.files import read_json
from ..config import ProbeConfig


@dataclass
class Task:
    """Clips of one scene task: audio, label indices, and the split each clip is in."""

    name: str
    audio: list[np.ndarray]
    labels: np.ndarray
    splits: np.ndarray
    multilabel: bool
    rounds: list[tuple[list[str], list[str]]] = field(default_factory=list)


class Probe:
    """Scores an encoder on some tasks.

    Args:
        config: which tasks and how; without `tasks_dir` there are none.
        frontend: the model's features module.
        model: its configuration.

    Raises:
        MissingPackageError: scikit-learn is not installed.
        ConfigError: a task is not there.
        DataError: a task's files are not as HEAR lays them out.
    """

    def __init__(self, config: ProbeConfig, frontend: Frontend, model: ModelConfig) -> None:
        self.config, self.frontend, self.model = config, frontend, model
        self.tasks: list[Task] = []
        if config.tasks_dir is None:
            if config.every:
                raise ConfigError("probe.every is set, but probe.tasks_dir is not")
            return
        require("sklearn", "probe.tasks_dir", "hear_audiomamba[pretrain]")
        for folder in _task_folders(config):
            task = load_task(folder, frontend.sample_rate, config)
            if task is not None:
                self.tasks.append(task)
        if not self.tasks:
            raise ConfigError(f"probe.tasks_dir: {config.tasks_dir} holds no scene task")

    def scores(self, encoder: Encoder) -> dict[str, float]:
        """Return each task's score: accuracy, or mean average precision of several labels a clip."""
        embedder = AudioEmbedder(self.model, self.frontend, encoder)
        was_training = encoder.training
        try:
            return {
                task.name: score_task(task, embed(embedder, task.audio), self.config.kind)
                for task in self.tasks
            }
        finally:
            encoder.train(was_training)


def embed(embedder: AudioEmbedder, clips: list[np.ndarray], batch: int = 32) -> np.ndarray:
    """Return the scene embeddings `(n, K)` of clips, those of one length together."""
    order = sorted(range(len(clips)), key=lambda i: len(clips[i]))
    rows: dict[int, np.ndarray] = {}
    start = 0
    while start < len(order):
        length = len(clips[order[start]])
        group = [i for i in order[start : start + batch] if len(clips[i]) == length]
        scene = embedder.scene(torch.from_numpy(np.stack([clips[i] for i in group])))
        rows.update(zip(group, scene.cpu().numpy()))
        start += len(group)
    return np.stack([rows[i] for i in range(len(clips))])


def score_task(task: Task, embeddings: np.ndarray, kind: str) -> float:
    """Return the mean score over the task's rounds of training and testing."""
    scores = []
    for train, test in task.rounds:
        inside, outside = np.isin(task.splits, train), np.isin(task.splits, test)
        scores.append(_fit_and_score(embeddings, task, inside, outside, kind))
    return float(np.mean(scores))


def load_task(folder: Path, sample_rate: int, config: ProbeConfig) -> Task | None:
    """Read a HEAR-format task, or return None for an event task, which has no scene labels.

    Args:
        folder: `<task>-<version>` with `task_metadata.json`, one JSON file a split, and the audio.
        sample_rate: Hz; the folder of that name must be there.
        config: bounds on clips and rounds.

    Raises:
        DataError: a file is missing or not of this form.
    """
    meta = read_json(folder / "task_metadata.json")
    if meta.get("embedding_type") != "scene":
        return None
    names = meta.get("splits") or []
    if meta.get("split_mode") == "trainvaltest" or not names:
        names = ["train", "valid", "test"]
    labels = {name: read_json(folder / f"{name}.json") for name in names}
    if config.max_clips is not None:
        labels = {name: _thin(rows, config.max_clips // len(names)) for name, rows in labels.items()}
    vocabulary = sorted({str(label) for rows in labels.values() for row in rows.values() for label in row})
    index = {label: i for i, label in enumerate(vocabulary)}
    audio, targets, splits = [], [], []
    for name, rows in labels.items():
        for file, row in sorted(rows.items()):
            path = folder / str(sample_rate) / name / file
            try:
                audio.append(load_audio(path, sample_rate))
            except AudioReadError as error:
                raise DataError(str(error)) from None
            target = np.zeros(len(vocabulary), dtype=bool)
            target[[index[str(label)] for label in row]] = True
            targets.append(target)
            splits.append(name)
    multilabel = meta.get("prediction_type") == "multilabel"
    name = folder.name.rsplit("-", 1)[0]
    task = Task(name, audio, np.stack(targets), np.array(splits), multilabel)
    if "test" in names and "train" in names:
        task.rounds = [([n for n in names if n != "test"], ["test"])]
    else:
        task.rounds = [([n for n in names if n != held], [held]) for held in names[: config.folds]]
    return task


def _task_folders(config: ProbeConfig) -> list[Path]:
    root = Path(config.tasks_dir or "").expanduser()
    folders = {
        p.name.rsplit("-", 1)[0]: p for p in sorted(root.glob("*/")) if (p / "task_metadata.json").is_file()
    }
    if not folders:
        raise ConfigError(f"probe.tasks_dir: {root} holds no HEAR task (<task>-<version>/task_metadata.json)")
    for name in config.tasks or ():
        if name not in folders:
            raise ConfigError(f"probe.tasks: {name!r} is not in {root}; {did_you_mean(name, folders)}")
    return [folders[name] for name in (config.tasks or folders)]


def _thin(rows: dict[str, Any], most: int) -> dict[str, Any]:
    names = sorted(rows)
    step = max(1, -(-len(names) // max(1, most)))
    return {name: rows[name] for name in names[::step]}


def _fit_and_score(x: np.ndarray, task: Task, inside: np.ndarray, outside: np.ndarray, kind: str) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if kind == "knn":
        classifier = KNeighborsClassifier(10, weights="distance", metric="cosine")
    else:
        classifier = LogisticRegression(C=0.1, max_iter=300)
    y = task.labels
    if not task.multilabel:
        single = y.argmax(axis=1)
        model = make_pipeline(StandardScaler(), classifier).fit(x[inside], single[inside])
        return float((model.predict(x[outside]) == single[outside]).mean())
    used = y[inside].any(axis=0) & y[outside].any(axis=0) & ~y[inside].all(axis=0)
    model = make_pipeline(StandardScaler(), OneVsRestClassifier(classifier))
    model.fit(x[inside], y[inside][:, used])
    return float(
        average_precision_score(y[outside][:, used], model.predict_proba(x[outside]), average="macro")
    )
