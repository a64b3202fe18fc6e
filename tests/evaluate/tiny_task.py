"""HEAR tasks of a few short synthetic clips, written in HEAR's own layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
LABELS = ("low", "middle", "high")
PITCH = {"low": 220.0, "middle": 660.0, "high": 1980.0}


def _tone(label: str, seconds: float, rng: np.random.Generator) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    tone = 0.3 * np.sin(2 * np.pi * PITCH[label] * rng.uniform(0.9, 1.1) * t)
    return tone + 0.02 * rng.standard_normal(len(t))


def _write(folder: Path, metadata: dict, splits: dict[str, dict], audio: dict[str, dict]) -> Path:
    folder.mkdir(parents=True)
    (folder / "task_metadata.json").write_text(json.dumps(metadata))
    rows = "\n".join(f"{i},{label}" for i, label in enumerate(LABELS))
    (folder / "labelvocabulary.csv").write_text(f"idx,label\n{rows}\n")
    for split, labels in splits.items():
        (folder / f"{split}.json").write_text(json.dumps(labels))
        (folder / str(RATE) / split).mkdir(parents=True)
        for name, samples in audio[split].items():
            soundfile.write(folder / str(RATE) / split / name, samples, RATE, subtype="PCM_16")
    return folder


def write_scene_task(folder: Path, *, clips: int = 12, kind: str = "multiclass", seed: int = 0) -> Path:
    """Three folds of tones; `kind` is the prediction type."""
    rng = np.random.default_rng(seed)
    folds = [f"fold{i:02d}" for i in range(3)]
    metadata = {
        "task_name": "tones", "version": "v1", "embedding_type": "scene", "prediction_type": kind,
        "split_mode": "new_split_kfold", "sample_duration": 0.5,
        "evaluation": ["top1_acc"] if kind == "multiclass" else ["mAP", "d_prime", "aucroc"],
        "splits": folds, "nfolds": 3, "evaluation_params": {},
    }  # fmt: skip
    splits: dict[str, dict] = {}
    audio: dict[str, dict] = {}
    for fold in folds:
        splits[fold], audio[fold] = {}, {}
        for i in range(clips):
            if kind == "multiclass":
                labels = [LABELS[i % 3]]
            else:
                labels = [label for label in LABELS if rng.random() < 0.5]
            mix = sum((_tone(label, 0.5, rng) for label in labels), 0.02 * rng.standard_normal(RATE // 2))
            splits[fold][f"{fold}-{i}.wav"] = labels
            audio[fold][f"{fold}-{i}.wav"] = mix
    return _write(folder, metadata, splits, audio)


def write_event_task(folder: Path, *, clips: int = 4, seed: int = 0) -> Path:
    """Train, valid and test splits of clips with two tones each."""
    rng = np.random.default_rng(seed)
    names = ("train", "valid", "test")
    metadata = {
        "task_name": "tone_events", "version": "v1", "embedding_type": "event", "prediction_type": "multilabel",
        "split_mode": "trainvaltest", "sample_duration": 3.0,
        "evaluation": ["event_onset_200ms_fms", "segment_1s_er"],
        "splits": list(names), "nfolds": None, "evaluation_params": {},
    }  # fmt: skip
    splits: dict[str, dict] = {}
    audio: dict[str, dict] = {}
    for split in names:
        splits[split], audio[split] = {}, {}
        for i in range(clips):
            samples = 0.02 * rng.standard_normal(3 * RATE)
            events = []
            for start, label in (
                (rng.uniform(0.1, 0.6), LABELS[i % 3]),
                (rng.uniform(1.5, 2.0), LABELS[(i + 1) % 3]),
            ):
                tone = _tone(label, 0.7, rng)
                first = round(start * RATE)
                samples[first : first + len(tone)] += tone
                events.append({"label": label, "start": 1000 * start, "end": 1000 * (start + 0.7)})
            splits[split][f"{split}-{i}.wav"] = events
            audio[split][f"{split}-{i}.wav"] = samples
    return _write(folder, metadata, splits, audio)
