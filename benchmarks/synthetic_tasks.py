"""HEAR tasks out of a corpus of synthesised sounds, to develop with: what their labels say, in five folds.

    python -m recipes.corpus build SOUNDS --recipe recipes/weights/synthetic-tasks.yaml
    python benchmarks/synthetic_tasks.py SOUNDS TASKS
    PYTHONPATH=benchmarks python benchmarks/logistic_probe.py TASKS hear_audiomamba 'peers{"peer": "logmel"}'

The bundled weights were trained on other sounds of the same instruments and voices, so these tasks tell how well
that was learned, and not how far it carries.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from collections import Counter, defaultdict
from pathlib import Path

import soundfile

# Task: source of the corpus, group of labels, and how many neighbouring numbers make a class.
TASKS = {
    "notes": ("notes", "chroma", 1),
    "instruments": ("notes", "program", 8),
    "chords": ("chords", "chord", None),
    "drums": ("drums", "drum", None),
    "initials": ("syllables", "initial", None),
    "tones": ("toned", "tone", None),
    "speakers": ("crowds", "speakers", None),
    "signals": ("tones", "signal", None),
}
FOLDS = 5


def main() -> None:
    """Write all tasks and print how large they are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, help="folder that `python -m recipes.corpus build` made")
    parser.add_argument("out", type=Path, help="folder for the tasks")
    args = parser.parse_args()
    known = read_labels(args.corpus)
    for task, (source, group, width) in TASKS.items():
        classes = {
            path: label if width is None else str(int(label) // width)
            for path, label in known[group].items()
            if f"/{source}/" in path
        }
        print(task, *write_task(args.corpus, args.out / f"{task}-v1.0.0", classes))


def read_labels(corpus: Path) -> dict[str, dict[str, str]]:
    """Return group → file → label, for files with one label of the group."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    with (corpus / "labels.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            group, _, label = row["label"].partition(":")
            found[group][row["path"]].append(label)
    return {
        group: {path: labels[0] for path, labels in files.items() if len(labels) == 1}
        for group, files in found.items()
    }


def write_task(corpus: Path, folder: Path, classes: dict[str, str]) -> tuple[int, int]:
    """Write one task of the files whose class has a clip for every fold; return clips and classes."""
    often = Counter(classes.values())
    files = [path for path in sorted(classes) if often[classes[path]] >= FOLDS]
    random.Random(0).shuffle(files)
    folds: list[dict[str, list[str]]] = [{} for _ in range(FOLDS)]
    for place, path in enumerate(files):
        fold, name = place % FOLDS, f"{Path(path).stem}.wav"
        folds[fold][name] = [classes[path]]
        clip = folder / "16000" / f"fold{fold:02d}" / name
        clip.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(clip, *soundfile.read(corpus / path))
    for fold, listing in enumerate(folds):
        (folder / f"fold{fold:02d}.json").write_text(json.dumps(listing), encoding="utf-8")
    metadata = {"prediction_type": "multiclass"}
    (folder / "task_metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    return len(files), sum(count >= FOLDS for count in often.values())


if __name__ == "__main__":
    main()
