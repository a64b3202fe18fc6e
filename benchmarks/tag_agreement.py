"""How well a tagging head agrees with YAMNet on recordings that it was not trained on.

    python benchmarks/tag_agreement.py CORPUS TARGETS [hiermamba_nano | WEIGHTS]

CORPUS and TARGETS are what `recipes/weights/run.sh` made; only crops of recordings of the split
"valid" count, whose packages no training crop is from. A class is there in a crop where YAMNet's score is at least
0.3. Printed are the mean average precision and d′ over the classes that three crops or more have, and how often the
first label is YAMNet's first, or among its first three; beside them what the classes' mean scores would reach.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from hear_audiomamba import load_model
from hear_audiomamba.embedding.tagging import tag_audio
from hear_audiomamba.io.audio import load_audio

THERE, FEWEST = 0.3, 3


def main() -> None:
    """Print the scores of one model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("targets", type=Path)
    parser.add_argument("model", nargs="?", default="hiermamba_nano")
    args = parser.parse_args()
    from pyarrow import parquet

    with (args.corpus / "manifest.csv").open(newline="", encoding="utf-8") as file:
        held = {r["path"] for r in csv.DictReader(file) if r["split"] == "valid" and r["kind"] != "synth"}
    crops = parquet.read_table(args.targets / "crops.parquet").to_pylist()
    index = [i for i, crop in enumerate(crops) if crop["path"] in held]
    teacher = np.load(args.targets / "yamnet_tags.npy", mmap_mode="r")[index].astype(np.float32)
    model = load_model(args.model, device="cpu")
    said = []
    for i in index:
        crop = crops[i]
        samples = load_audio(
            args.corpus / crop["path"],
            model.sample_rate,
            start=crop["start_seconds"],
            duration=crop["seconds"],
        )
        said.append(tag_audio(model, torch.from_numpy(samples), model.sample_rate).probabilities)
    guess = np.stack(said)
    there = teacher >= THERE
    classes = np.flatnonzero((there.sum(0) >= FEWEST) & (there.sum(0) < len(there)))
    precision = np.mean([average_precision_score(there[:, c], guess[:, c]) for c in classes])
    area = np.array([roc_auc_score(there[:, c], guess[:, c]) for c in classes]).clip(1e-4, 1 - 1e-4)
    best = np.argsort(-teacher, axis=1)
    first = guess.argmax(1)
    print(f"{len(index)} crops, {len(classes)} classes that {FEWEST} crops or more have")
    print(
        f"mAP {precision:.3f} (chance {there[:, classes].mean():.3f}), d' {np.mean(np.sqrt(2) * norm.ppf(area)):.2f}"
    )
    print(f"first label is YAMNet's first {np.mean(first == best[:, 0]):.3f}, among its first three "
          f"{np.mean([f in b[:3] for f, b in zip(first, best)]):.3f}")  # fmt: skip
    common = teacher.mean(0).argmax()
    print(f"always the commonest label: {np.mean(best[:, 0] == common):.3f}, "
          f"{np.mean((best[:, :3] == common).any(1)):.3f}")  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
