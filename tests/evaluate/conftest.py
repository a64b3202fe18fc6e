"""Inputs shared by the tests of the evaluation, and what the kit's own code makes of them."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from .kit import run_kit
from .tiny_task import LABELS

N_LABELS = 4


@dataclass(frozen=True)
class Training:
    """A training of the kit: weights at the start and at each check, predictions at each check and in the test."""

    states: list[dict[str, np.ndarray]]
    valid: list[np.ndarray]
    test: np.ndarray
    log: dict


@dataclass(frozen=True)
class Reference:
    """Inputs that were given to the kit, and its answers."""

    folder: Path
    inputs: dict[str, np.ndarray]
    events: list[dict]
    answers: dict

    def training(self, name: str) -> Training:
        """What the kit kept of the training of this name."""
        kept = dict(np.load(self.folder / f"curve-{name}.npz"))

        def numbered(start: str) -> dict[str, np.ndarray]:
            return {k.removeprefix(start): v for k, v in kept.items() if k.startswith(start)}

        count = len({k.partition(".")[0] for k in kept} - {"val", "test"})
        valid = [kept[f"val.{i}"] for i in range(len(numbered("val.")))]
        return Training(
            [numbered(f"{i}.") for i in range(count)], valid, kept["test.0"], self.answers["curves"][name]
        )


def write_embeddings(
    folder: Path,
    metadata: dict,
    splits: dict[str, tuple[np.ndarray, list[list[str]]]],
    labels: tuple[str, ...] = LABELS,
) -> Path:
    """Write a folder as HEAR's embeddings runner does, from arrays and lists of labels."""
    folder.mkdir(parents=True)
    (folder / "task_metadata.json").write_text(json.dumps({**metadata, "splits": list(splits)}))
    rows = "\n".join(f"{i},{label}" for i, label in enumerate(labels))
    (folder / "labelvocabulary.csv").write_text(f"idx,label\n{rows}\n")
    for name, (values, names) in splits.items():
        values.astype(np.float32).tofile(folder / f"{name}.embeddings.npy")
        (folder / f"{name}.embedding-dimensions.json").write_text(json.dumps(values.shape))
        with (folder / f"{name}.target-labels.pkl").open("wb") as file:
            pickle.dump(names, file)
        (folder / f"{name}.json").write_text("{}")
    return folder


def scene_metadata(prediction_type: str, scores: list[str]) -> dict:
    return {
        "task_name": "made", "version": "v1", "embedding_type": "scene", "prediction_type": prediction_type,
        "split_mode": "new_split_kfold", "evaluation": scores, "evaluation_params": {},
    }  # fmt: skip


def scene_embeddings(
    folder: Path, *, kind: str = "multiclass", rows: int = 40, size: int = 12, seed: int = 0
) -> Path:
    """Three folds of noisy class centres."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((3, size))
    splits = {}
    for fold in range(3):
        hot = rng.random((rows, 3)) < 0.4 if kind == "multilabel" else np.eye(3)[rng.integers(0, 3, rows)] > 0
        values = hot @ centres + 1.2 * rng.standard_normal((rows, size))
        splits[f"fold{fold:02d}"] = values, [[LABELS[i] for i in np.nonzero(h)[0]] for h in hot]
    scores = ["mAP", "d_prime", "aucroc"] if kind == "multilabel" else ["top1_acc"]
    return write_embeddings(folder, scene_metadata(kind, scores), splits)


def event_embeddings(
    folder: Path, *, files: int = 3, frames: int = 60, step: float = 50.0, seed: int = 0
) -> Path:
    """Train, valid and test splits of frames 50 ms apart."""
    rng = np.random.default_rng(seed)
    centres = 2 * rng.standard_normal((3, 12))
    metadata = {
        "task_name": "made_events", "version": "v1", "embedding_type": "event", "prediction_type": "multilabel",
        "split_mode": "trainvaltest", "evaluation": ["event_onset_200ms_fms", "segment_1s_er"],
        "evaluation_params": {},
    }  # fmt: skip
    splits, extra = {}, {}
    times = step * np.arange(frames)
    for split in ("train", "valid", "test"):
        values, labels, places, target = [], [], [], {}
        for i in range(files):
            active = np.zeros((frames, 3), bool)
            events = []
            for label in rng.permutation(3)[:2]:
                start = float(rng.uniform(0, 1500))
                end = start + float(rng.uniform(400, 1200))
                active[(times >= start) & (times <= end), label] = True
                events.append({"label": LABELS[label], "start": start, "end": end})
            values.append(active @ centres + rng.standard_normal((frames, 12)))
            labels += [[LABELS[k] for k in np.nonzero(row)[0]] for row in active]
            places += [[f"embeddings/{split}/{split}-{i}.wav", float(t)] for t in times]
            target[f"{split}-{i}.wav"] = events
        splits[split] = np.concatenate(values), labels
        extra[split] = places, target
    write_embeddings(folder, metadata, splits)
    for split, (places, target) in extra.items():
        (folder / f"{split}.filename-timestamps.json").write_text(json.dumps(places))
        (folder / f"{split}.json").write_text(json.dumps(target))
    return folder


def random_events(rng: np.random.Generator, count: int) -> list[dict]:
    starts = rng.uniform(0, 4000, count)
    lengths = rng.uniform(60, 1500, count)
    return [
        {"label": str(rng.integers(N_LABELS)), "start": float(s), "end": float(s + n)}
        for s, n in zip(starts, lengths, strict=True)
    ]


def event_cases() -> list[dict]:
    """Random events, estimates near the truth, crowded files, and files without any."""
    rng = np.random.default_rng(5)
    cases = []
    for count in (0, 1, 5, 12, 40):
        target = {f"{i}.wav": random_events(rng, count) for i in range(3)}
        near = {
            name: [
                {**e, "start": e["start"] + rng.normal(0, 120), "end": e["end"] + rng.normal(0, 120)}
                for e in events
                if rng.random() < 0.8
            ]
            for name, events in target.items()
        }
        for events in near.values():
            for e in events:
                e["start"], e["end"] = max(0.0, e["start"]), max(e["end"], e["start"] + 50, 50.0)
            events += random_events(rng, rng.integers(0, 3))
        cases.append({"predicted": near, "target": target})
    cases.append({"predicted": {"0.wav": []}, "target": {"0.wav": random_events(rng, 4)}})
    return cases


def reference_inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    multiclass = rng.dirichlet(np.ones(30), 200).astype(np.float32)
    one_hot = np.eye(30, dtype=np.float32)[rng.integers(0, 30, 200)]
    targets = (rng.random((150, 6)) < 0.3).astype(np.float32)
    multilabel = np.clip(rng.random((150, 6)) * 0.7 + 0.2 * targets, 0, 1).astype(np.float32)
    absent = targets.copy()
    absent[:, 2] = 0
    smooth = np.cumsum(rng.standard_normal((80, 5)), axis=0)
    x = rng.standard_normal((20, 7)).astype(np.float32)
    return {
        "multiclass": multiclass, "one_hot": one_hot,
        "multilabel": multilabel, "targets": targets,
        "multilabel_ties": np.round(multilabel, 1), "targets_ties": targets,
        "multilabel_absent": multilabel, "targets_absent": absent,
        "frames": (1 / (1 + np.exp(-smooth))).astype(np.float32), "times": 40.0 * np.arange(80) + 15,
        "x": x, "y": (rng.random((20, 3)) < 0.5).astype(np.float32),
    }  # fmt: skip


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """What the kit's own code gives, run once in its own environment."""
    folder = tmp_path_factory.mktemp("kit")
    inputs, events = reference_inputs(), event_cases()
    np.savez(folder / "inputs.npz", **inputs)
    (folder / "events.json").write_text(json.dumps(events))
    scene_embeddings(folder / "embeddings" / "scene")
    scene_embeddings(folder / "embeddings" / "labels", kind="multilabel")
    event_embeddings(folder / "embeddings" / "event")
    script = Path(__file__).with_name("kit_reference.py")
    done = run_kit("-W", "ignore", script, folder, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return Reference(folder, inputs, events, json.loads((folder / "reference.json").read_text()))
