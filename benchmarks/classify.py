"""`fit` against HEAR's predictions runner on the same embeddings, and how scores grow with the labels.

    python benchmarks/classify.py scores TASKS [--tasks drum_strokes …] [--work build/classify] [--json FILE]
    python benchmarks/classify.py curves TASKS [--counts 5 10 25] [--seeds 5] [--picture FILE] [--json FILE]

TASKS is a folder of tasks in HEAR's format. `scores` runs HEAR's own predictions runner (from `make heareval`; its
default grid and seed) in a process of its own, and `fit`, each with one thread. It counts processor time, since other
work may share the machine; embeddings are made before, and what the runner needs to start is not counted. `fit` gets
the labels as a HEAR task and as a CSV. `--no-kit` leaves out the runner, which takes an hour for events.
`curves` draws some labels of each class out of four folds and scores the fifth, with our embeddings and with those of
the peers of `peers.py`: mean and deviation of a log-mel spectrogram, and YAMNet, which needs what
recipes/weights/setup.sh installs and the repository's folder on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import pickle
import resource
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from peers import get_scene_embeddings
from peers import load_model as load_peer
from timing import write

import hear_audiomamba
from hear_audiomamba import load_model
from hear_audiomamba.classify.candidates import make_fitter
from hear_audiomamba.classify.embeddings import embed_stretches, read_clips, read_pieces
from hear_audiomamba.classify.event_choice import LabelledRecording, found_events
from hear_audiomamba.classify.events import spans_of
from hear_audiomamba.classify.fit import fit_labels
from hear_audiomamba.classify.folds import make_folds
from hear_audiomamba.classify.outcome import FitOptions, targets_of
from hear_audiomamba.classify.trials import choose, unseen_logits
from hear_audiomamba.evaluate.heartools import heareval_python
from hear_audiomamba.evaluate.predictions.events import EVENT_SCORES, Events
from hear_audiomamba.evaluate.predictions.scores import SCENE_SCORES
from hear_audiomamba.io.audio import load_audio
from hear_audiomamba.io.labels import read_labels

CURVE_TASKS = ("drum_strokes", "soundfont_pitch", "speech_commands_tts")
OURS = "default model"
PEERS = {"logmel": "log-mel statistics", "yamnet": "YAMNet"}
COLOURS = {OURS: "#2f6db3", "log-mel statistics": "#b3442f", "YAMNet": "#5a8f3c"}


def whole_files(embedded):
    """Yield the number, times and embeddings of each recording."""
    times, rows = [], []
    for number, piece in read_pieces(embedded):
        times.append(piece.times)
        rows.append(piece.embeddings)
        if piece.last:
            yield number, np.concatenate(times), np.concatenate(rows)
            times, rows = [], []


def kit_folder(task: Path, table, embedded, folder: Path) -> Path:
    """Lay embeddings out as HEAR's embeddings runner does."""
    metadata = json.loads((task / "task_metadata.json").read_text())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task_metadata.json").write_text(json.dumps(metadata))
    (folder / "labelvocabulary.csv").write_text((task / "labelvocabulary.csv").read_text())
    rows: dict[str, list] = {split: [] for split in metadata["splits"]}
    if table.kind == "events":
        split_of = {row.path: row.split for row in table.rows}
        paths = list(table.paths)
        for number, times, embeddings in whole_files(embedded):
            path = paths[number]
            events = [(r.start, r.end, r.labels[0]) for r in table.rows if r.path == path and r.labels]
            for when, row in zip(times, embeddings):
                own = [label for start, end, label in events if start <= when <= end]
                rows[split_of[path]].append((row, own, (Path(path).name, 1000 * float(when))))
    else:
        clips, _ = read_clips(embedded)
        for row, clip in zip(table.rows, clips):
            rows[row.split].append((clip, list(row.labels), None))
    for split, held in rows.items():
        np.stack([row for row, _, _ in held]).astype(np.float32).tofile(folder / f"{split}.embeddings.npy")
        size = [len(held), len(held[0][0])]
        (folder / f"{split}.embedding-dimensions.json").write_text(json.dumps(size))
        (folder / f"{split}.target-labels.pkl").write_bytes(pickle.dumps([labels for _, labels, _ in held]))
        if table.kind == "events":
            (folder / f"{split}.filename-timestamps.json").write_text(
                json.dumps([where for _, _, where in held])
            )
            (folder / f"{split}.json").write_text((task / f"{split}.json").read_text())
    return folder


def fit_score(fitted, table, task: Path, embedded) -> float:
    """Score what `fit` says of rows it was not fitted on as the benchmark does."""
    metadata = json.loads((task / "task_metadata.json").read_text())
    name = metadata["evaluation"][0]
    trial, classifier = fitted.trial, fitted.classifier
    if table.kind != "events":
        split = np.array([row.split for row in trial.rows])
        score = SCENE_SCORES["top1_acc" if name == "pitch_acc" else name]
        return float(
            np.mean([score(trial.probabilities[split == s], trial.targets[split == s]) for s in set(split)])
        )
    truth = {name: rows for name, rows in json.loads((task / "test.json").read_text()).items()}
    index = {label: number for number, label in enumerate(table.classes)}
    target = {name: Events.from_rows(rows, index) for name, rows in truth.items()}
    found, paths = {}, list(table.paths)
    for number, times, rows in whole_files(embedded):
        if Path(paths[number]).name not in target:
            continue
        recording = LabelledRecording(*spans_of(times), classifier.head.probabilities(rows), ())
        events = [
            (c, 1000 * event.start, 1000 * event.end)
            for c in range(len(table.classes))
            for event in found_events(recording, c, float(classifier.head.thresholds[c]), classifier.events)
        ]
        columns = np.array(sorted(events, key=lambda one: one[1])).reshape(-1, 3).T
        found[Path(paths[number]).name] = Events(columns[0].astype(int), columns[1], columns[2])
    return float(next(iter(EVENT_SCORES[name](found, target, len(table.classes)).values())))


def kit_score(folder: Path) -> tuple[float, float]:
    """Run HEAR's predictions runner on embeddings; return its score and its processor time."""
    for old in ("prediction-done.json", "test.predicted-scores.json"):  # the runner would leave the work out
        (folder / old).unlink(missing_ok=True)
    start = kit_seconds(folder.parent, "--help")
    seconds = kit_seconds(folder.parent, folder.name)
    report = json.loads((folder / "test.predicted-scores.json").read_text())
    part = report.get("aggregated_scores", report.get("test", {}))
    score = part["test_score_mean"] if "test_score_mean" in part else part["test_score"]
    return float(score), seconds - start


def kit_seconds(folder: Path, *arguments: str) -> float:
    """Run HEAR's predictions runner with one thread; return the processor time of its processes."""
    command = [str(heareval_python()), "-m", "hear_audiomamba.evaluate.heartools", "predictions", *arguments]
    one_thread = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    paths = {"PYTHONPATH": str(Path(hear_audiomamba.__file__).parents[1])}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        command, cwd=folder, env={**os.environ, **paths, **one_thread}, check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def as_csv(table, path: Path) -> Path:
    """Write labels as a CSV."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "start", "end", "split"])
        for row in table.rows:
            writer.writerow([row.path, ";".join(row.labels) or ";", row.start, row.end, row.split])
    return path


def held_rows(path: Path | None) -> list[dict]:
    """Return the rows of an earlier run."""
    return json.loads(path.read_text())["rows"] if path and path.exists() else []


def scores(args: argparse.Namespace) -> None:
    """Compare scores and processor time, task by task."""
    model, results = load_model(device="cpu"), held_rows(args.json)
    for name in args.tasks or sorted(path.name for path in args.folder.iterdir() if path.is_dir()):
        task = next(args.folder.glob(f"{name}*"))
        if any(row["task"] == task.name for row in results):
            continue
        table = read_labels(task)
        events = table.kind == "events"
        stretches = (
            [(p, None, None) for p in table.paths] if events else [(r.path, None, None) for r in table.rows]
        )
        archive = args.work / task.name
        embedded = embed_stretches(stretches, model, archive, timestamps=events)
        torch.set_num_threads(1)
        kit = seconds_of_kit = None
        if not args.no_kit:
            folder = kit_folder(task, table, embedded, args.work.resolve() / "kit" / task.name)
            kit, seconds_of_kit = kit_score(folder)
        began = time.process_time()
        fitted = fit_labels(table, model, archive)
        seconds = time.process_time() - began
        own = fit_score(fitted, table, task, embedded)
        with tempfile.TemporaryDirectory() as scratch:
            labels = as_csv(table, Path(scratch) / "labels.csv")
            again = fit_labels(read_labels(labels, kind=table.kind, overlaps="keep"), model, archive)
        row = {
            "task": task.name, "fit": own, "fit_from_csv": fit_score(again, table, task, embedded),
            "kit": kit, "fit_cpu_seconds": seconds, "kit_cpu_seconds": seconds_of_kit,
            "chosen": fitted.trial.notes[-1],
        }  # fmt: skip
        results.append(row)
        print(json.dumps(row), flush=True)
        write(args.json, {"benchmark": "classify scores", "rows": results})


def curves(args: argparse.Namespace) -> None:
    """Score with few labels a class."""
    model, results = load_model(device="cpu"), held_rows(args.json)
    peers = {PEERS[name]: load_peer(peer=name) for name in args.peers}
    for name in args.tasks or CURVE_TASKS:
        task = next(args.folder.glob(f"{name}*"))
        table = read_labels(task)
        stretches = [(row.path, None, None) for row in table.rows]
        embedded = embed_stretches(stretches, model, args.work / task.name, timestamps=False)
        audio = [torch.from_numpy(load_audio(row.path, 16000))[None] for row in table.rows]
        sides = {OURS: read_clips(embedded)[0]}
        for side, peer in peers.items():
            sides[side] = np.concatenate([get_scene_embeddings(clip, peer).numpy() for clip in audio])
        targets, split = targets_of(table.rows, table.classes), np.array([row.split for row in table.rows])
        for count in args.counts:
            for side, rows in sides.items():
                if any((r["task"], r["side"], r["labels"]) == (task.name, side, count) for r in results):
                    continue
                values = [
                    few_labels(rows, targets, split, table, count, seed, held)
                    for seed in range(args.seeds)
                    for held in sorted(set(split))
                ]
                by_seed = np.array(values).reshape(args.seeds, -1).mean(axis=1)
                row = {"task": task.name, "side": side, "labels": count, "score": float(by_seed.mean()),
                       "deviation": float(by_seed.std(ddof=1))}  # fmt: skip
                results.append(row)
                print(json.dumps(row), flush=True)
                write(args.json, {"benchmark": "classify curves", "seeds": args.seeds, "rows": results})
    if args.picture:
        draw(results, args.picture)


def few_labels(rows, targets, split, table, count: int, seed: int, held: str) -> float:
    """Fit to `count` labels of each class outside a fold, chosen by cross-validation; return the fold's accuracy."""
    random = np.random.default_rng(seed)
    kept = []
    for index in range(targets.shape[1]):
        own = np.flatnonzero((targets[:, index] > 0) & (split != held))
        kept.append(random.permutation(own)[:count])
    chosen = np.concatenate(kept)
    fitter = make_fitter(table, FitOptions())
    units = [(table.rows[i].path, None, None) for i in chosen]
    folds = make_folds(units, targets[chosen], 5, seed)
    logits = unseen_logits(fitter, rows[chosen], targets[chosen], folds.fold)
    made = choose(logits, targets[chosen], table.kind, None)
    (head,) = fitter.fit(rows[chosen], targets[chosen], folds.fold == 0, [made.candidate])
    tested = split == held
    return float((head.logits(rows[tested]).argmax(axis=1) == targets[tested].argmax(axis=1)).mean())


def draw(results: list[dict], picture: Path) -> None:
    """Draw the curves, a plot a task."""
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(row["task"] for row in results))
    figure = Figure(figsize=(3.6 * len(tasks), 3.2), layout="constrained")
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks):
        for side, colour in COLOURS.items():
            own = [row for row in results if row["task"] == task and row["side"] == side]
            if not own:
                continue
            counts = [row["labels"] for row in own]
            axes.errorbar(counts, [row["score"] for row in own], [row["deviation"] for row in own], color=colour,
                          marker="o", label=side, capsize=3)  # fmt: skip
        axes.set(title=task.partition("-")[0], xlabel="labels a class", xticks=counts, ylim=(0, 1))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("accuracy")
    figure.axes[0].legend(loc="upper left", frameon=False)
    figure.savefig(picture, dpi=130)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("scores", "curves"))
    parser.add_argument("folder", type=Path, help="of tasks")
    parser.add_argument("--tasks", nargs="+", help="names; the version may be left out")
    parser.add_argument("--work", type=Path, default=Path("build/classify"), help="for embeddings")
    parser.add_argument("--counts", type=int, nargs="+", default=[5, 10, 25])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--peers", nargs="*", choices=tuple(PEERS), default=list(PEERS), help="of the curves")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--no-kit", action="store_true", help="`fit` alone")
    parser.add_argument("--json", type=Path, help="rows that it holds already are kept")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    (scores if args.what == "scores" else curves)(args)


if __name__ == "__main__":
    main()
