"""Write the two demonstration tasks that ship with the package: every clip is synthesised here, from fixed seeds.

    python tools/make_demo_tasks.py [FOLDER]     (default: hear_audiomamba/evaluate/demo_tasks)

`demo_notes-v1.0` is a scene task: which of five instruments plays a note. `demo_events-v1.0` is an event task: when do
a bell, a buzzer and a chirp sound. Both are made to be learnt in seconds, not to tell models apart.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 16000
BITS = 9  # of 16, so that FLAC makes the files small
HERE = Path(__file__).resolve().parents[1] / "hear_audiomamba" / "evaluate" / "demo_tasks"
INSTRUMENTS = ("bell", "clarinet", "drum", "organ", "string")
SOUNDS = ("bell", "buzzer", "chirp")
Samples = NDArray[np.float64]


def note(instrument: str, hertz: float, seconds: float, rng: np.random.Generator) -> Samples:
    """Return one note of an instrument, its loudest sample near 0.5."""
    t = np.arange(round(seconds * RATE)) / RATE
    decay = np.exp(-t * rng.uniform(4, 7))
    if instrument == "bell":
        parts = sum(a * np.sin(2 * np.pi * hertz * r * t) for r, a in ((1, 1), (2.76, 0.6), (5.4, 0.3)))
        sound = parts * decay
    elif instrument == "clarinet":
        sound = sum(np.sin(2 * np.pi * hertz * k * t) / k for k in (1, 3, 5)) * np.minimum(1, t * 20)
    elif instrument == "drum":
        sound = np.sin(2 * np.pi * hertz / 4 * t * np.exp(-3 * t)) * decay**3
        sound += 0.3 * rng.standard_normal(len(t)) * decay**6
    elif instrument == "organ":
        sound = sum(np.sin(2 * np.pi * hertz * k * t) for k in (0.5, 1, 2, 4))
    else:
        vibrato = 0.004 * hertz * np.sin(2 * np.pi * 5.5 * t)
        sound = sum(np.sin(2 * np.pi * k * (hertz * t + vibrato / 5.5)) / k for k in range(1, 9))
        sound *= np.minimum(1, t * 8)
    return 0.5 * sound / np.abs(sound).max()


def event(label: str, seconds: float, rng: np.random.Generator) -> Samples:
    """Return one sound of the event task."""
    t = np.arange(round(seconds * RATE)) / RATE
    if label == "bell":
        return note("bell", rng.uniform(700, 1100), seconds, rng)
    if label == "buzzer":
        return 0.3 * np.sign(np.sin(2 * np.pi * rng.uniform(110, 160) * t))
    return 0.4 * np.sin(2 * np.pi * (rng.uniform(1200, 1600) * t + 1500 * t**2))


def write_clip(path: Path, samples: Samples) -> None:
    """Write a FLAC file of few bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.round(np.clip(samples, -0.99, 0.99) * 2 ** (BITS - 1)).astype(np.int32) << (16 - BITS)
    soundfile.write(path, coarse.astype(np.int16), RATE, format="FLAC", subtype="PCM_16")


def write_labels(folder: Path, labels: tuple[str, ...], metadata: dict[str, object]) -> None:
    """Write metadata and vocabulary of a task, in HEAR's format."""
    folder.mkdir(parents=True)
    (folder / "task_metadata.json").write_text(json.dumps(metadata, indent=1) + "\n")
    rows = "".join(f"{i},{label}\n" for i, label in enumerate(labels))
    (folder / "labelvocabulary.csv").write_text(f"idx,label\n{rows}")


def make_notes(folder: Path) -> None:
    """Write the scene task: three folds of 25 notes."""
    rng = np.random.default_rng(20240602)
    folds = [f"fold{i:02d}" for i in range(3)]
    metadata: dict[str, object] = {
        "task_name": "demo_notes", "version": "v1.0", "embedding_type": "scene", "prediction_type": "multiclass",
        "split_mode": "new_split_kfold", "sample_duration": 0.5, "evaluation": ["top1_acc"], "splits": folds,
        "nfolds": 3, "evaluation_params": {},
    }  # fmt: skip
    write_labels(folder, INSTRUMENTS, metadata)
    for fold in folds:
        labels = {}
        for i in range(25):
            instrument = INSTRUMENTS[i % 5]
            name = f"{fold}-{i:02d}.flac"
            samples = rng.uniform(0.4, 1) * note(instrument, rng.uniform(200, 500), 0.5, rng)
            write_clip(folder / str(RATE) / fold / name, samples + 0.004 * rng.standard_normal(len(samples)))
            labels[name] = [instrument]
        (folder / f"{fold}.json").write_text(json.dumps(labels, indent=1) + "\n")


def make_events(folder: Path) -> None:
    """Write the event task: 3 s clips with three sounds each."""
    rng = np.random.default_rng(20240603)
    counts = {"train": 10, "valid": 4, "test": 6}
    metadata: dict[str, object] = {
        "task_name": "demo_events", "version": "v1.0", "embedding_type": "event", "prediction_type": "multilabel",
        "split_mode": "trainvaltest", "sample_duration": 3.0,
        "evaluation": ["event_onset_200ms_fms", "segment_1s_er"], "splits": list(counts), "nfolds": None,
        "evaluation_params": {
            "event_postprocessing_grid": {"median_filter_ms": [250], "min_duration": [125, 250]}
        },
    }  # fmt: skip
    write_labels(folder, SOUNDS, metadata)
    for split, count in counts.items():
        labels = {}
        for i in range(count):
            samples = 0.004 * rng.standard_normal(3 * RATE)
            events = []
            for k in range(3):
                label, start, length = (
                    str(rng.choice(SOUNDS)),
                    k + rng.uniform(0.05, 0.25),
                    rng.uniform(0.4, 0.6),
                )
                sound = event(label, length, rng)
                first = round(start * RATE)
                samples[first : first + len(sound)] += sound
                end = 1000 * start + 1000 * length
                events.append({"label": label, "start": round(1000 * start, 1), "end": round(end, 1)})
            name = f"{split}-{i:02d}.flac"
            write_clip(folder / str(RATE) / split / name, samples)
            labels[name] = events
        (folder / f"{split}.json").write_text(json.dumps(labels, indent=1) + "\n")


def main(folder: Path) -> None:
    """Write both tasks anew."""
    for name, make in (("demo_notes-v1.0", make_notes), ("demo_events-v1.0", make_events)):
        shutil.rmtree(folder / name, ignore_errors=True)
        make(folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
