"""An event task out of a scene task: its clips one after the other, to be found within 50 ms and named.

    python benchmarks/sequence_task.py TASKS/drum_strokes-v1.0.0 TASKS/drum_sequence-v1.0.0
    hear-audiomamba evaluate --tasks-dir TASKS --tasks drum_sequence-v1.0.0 --engine fast ...

Ten seconds each with an onset every 0.2 to 0.8 s, of the eight classes with most clips, in noise 60 dB below full
scale. The first three folds of the scene task give the sequences to train on, the fourth those to choose by, the
fifth those to test on.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE = 16000
SECONDS = 10.0
GAPS = (0.2, 0.25, 0.4, 0.5, 0.8)
LONGEST = 0.5
NOISE = 0.001
CLASSES = 8
SPLITS = {"train": ((0, 1, 2), 66), "valid": ((3,), 24), "test": ((4,), 30)}

Event = dict[str, str | float]


def main() -> None:
    """Write the task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", type=Path, help="a scene task with five folds and one label a clip")
    parser.add_argument("out", type=Path, help="folder for the new task, NAME-VERSION")
    args = parser.parse_args()

    folds = [json.loads((args.task / f"fold{fold:02d}.json").read_text("utf-8")) for fold in range(5)]
    often = Counter(labels[0] for fold in folds for labels in fold.values())
    classes = sorted(label for label, _ in often.most_common(CLASSES))
    generator = np.random.default_rng(0)
    for split, (numbers, count) in SPLITS.items():
        clips = [
            (args.task / str(SAMPLE_RATE) / f"fold{number:02d}" / name, labels[0])
            for number in numbers
            for name, labels in sorted(folds[number].items())
            if labels[0] in classes
        ]
        events = {}
        folder = args.out / str(SAMPLE_RATE) / split
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            samples, events[f"{split}_{index:03d}.wav"] = make_sequence(clips, generator)
            soundfile.write(folder / f"{split}_{index:03d}.wav", samples, SAMPLE_RATE)
        (args.out / f"{split}.json").write_text(json.dumps(events), encoding="utf-8")
    name, _, version = args.out.name.rpartition("-")
    (args.out / "task_metadata.json").write_text(json.dumps(metadata(name, version)), encoding="utf-8")
    lines = ["idx,label", *(f"{index},{label}" for index, label in enumerate(classes))]
    (args.out / "labelvocabulary.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_sequence(
    clips: list[tuple[Path, str]], generator: np.random.Generator
) -> tuple[np.ndarray, list[Event]]:
    """Return the samples of one sequence and its events, times in ms."""
    samples = NOISE * generator.standard_normal(round(SECONDS * SAMPLE_RATE), np.float32)
    events: list[Event] = []
    start = generator.uniform(0.1, 0.5)
    while start < SECONDS - 0.2:
        path, label = clips[generator.integers(len(clips))]
        clip = from_onset(soundfile.read(path, dtype="float32")[0])
        clip *= generator.uniform(0.15, 0.5) / np.abs(clip).max()
        at = round(start * SAMPLE_RATE)
        clip = clip[: len(samples) - at]
        samples[at : at + len(clip)] += clip
        end = 1000 * (start + len(clip) / SAMPLE_RATE)
        events.append({"label": label, "start": 1000 * start, "end": end})
        start += generator.choice(GAPS)
    return np.clip(samples, -1, 1), events


def from_onset(samples: np.ndarray) -> np.ndarray:
    """Return a clip from where it reaches a tenth of its peak, half a second at most, faded out."""
    loud = np.abs(samples) >= 0.1 * np.abs(samples).max()
    clip = samples[int(loud.argmax()) :][: round(LONGEST * SAMPLE_RATE)].copy()
    fade = min(len(clip), SAMPLE_RATE // 40)
    clip[len(clip) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return clip


def metadata(name: str, version: str) -> dict[str, object]:
    """Return what HEAR's tools need to know of the task."""
    return {
        "task_name": name, "version": version, "embedding_type": "event", "prediction_type": "multilabel",
        "split_mode": "trainvaltest", "sample_duration": SECONDS, "splits": list(SPLITS), "nfolds": None,
        "evaluation": ["event_onset_50ms_fms"],
        "evaluation_params": {
            "event_postprocessing_grid": {"median_filter_ms": [120], "min_duration": [50, 150]}
        },
    }  # fmt: skip


if __name__ == "__main__":
    main()
