"""What the synthesis knows of its own sounds, as teachers."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hear_audiomamba.errors import DataError

from .base import Teacher

# Of these a sound has one: the student tells which (cross-entropy). Of the others it may have several.
EXCLUSIVE = (
    "note",
    "program",
    "chord",
    "root",
    "drum",
    "signal",
    "word",
    "initial",
    "language",
    "voice",
    "speakers",
    "glide",
    "tone",
    "texture",
)
SEVERAL = ("chroma",)
RAREST = 3


class LabelTeacher(Teacher):
    """One group of the labels in the corpus's `labels.csv`: a class number, or a 0 or 1 for each class.

    Clips without a label of the group, or with two of an exclusive group, are NaN, and so are labels that
    fewer than three clips have.

    Args:
        corpus: the corpus folder.
        group: what stands before the colon of the labels, one of `EXCLUSIVE` or `SEVERAL`.
    """

    licence = "CC0-1.0"
    listens = False
    source = "hear_audiomamba, labels of the synthesised sounds"

    def __init__(self, corpus: Path, group: str) -> None:
        super().__init__(corpus)
        self.name = f"labels_{group}"
        self.of_path: dict[str, list[str]] = {}
        counts: dict[str, int] = {}
        try:
            with (corpus / "labels.csv").open(newline="", encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    if row["label"].startswith(group + ":"):
                        self.of_path.setdefault(row["path"], []).append(row["label"])
                        counts[row["label"]] = counts.get(row["label"], 0) + 1
        except (OSError, KeyError) as error:
            raise DataError(f"{corpus / 'labels.csv'} cannot be read: {error}") from None
        self.labels = sorted(label for label, count in counts.items() if count >= RAREST)
        if not self.labels:
            raise DataError(
                f"{corpus / 'labels.csv'} holds no label of the group {group!r} that three clips have"
            )
        self.index = {label: place for place, label in enumerate(self.labels)}
        self.exclusive = group in EXCLUSIVE
        self.dim = 1 if self.exclusive else len(self.labels)
        self.loss = "cross_entropy" if self.exclusive else "bce"
        self.classes = len(self.labels)

    def embed(self, clips: Sequence[np.ndarray], paths: Sequence[str]) -> np.ndarray:
        result = np.full((len(paths), self.dim), np.nan, np.float32)
        for row, path in zip(result, paths):
            known = [self.index[label] for label in self.of_path.get(path, ()) if label in self.index]
            if self.exclusive and len(known) == 1:
                row[0] = known[0]
            elif not self.exclusive and known:
                row[:] = 0.0
                row[known] = 1.0
        return result
