"""What the synthesis knows of its own sounds, as a teacher."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ....errors import DataError
from .base import Teacher

# Labels of these groups exclude one another or list all that is there, so a missing one is a zero.
GROUPS = ("note", "chroma", "program", "chord", "root", "drum", "signal", "word", "syllable", "initial",
          "language", "voice", "speakers", "glide", "rate", "centre", "parts", "drums")
RAREST = 12


class LabelTeacher(Teacher):
    """Ones and zeros for the labels in the corpus's `labels.csv`, NaN in groups a clip has no label of.

    Labels fewer than twelve clips have are left out.
    """

    name = "labels"
    licence = "CC0-1.0"
    source = "hear_audiomamba, labels of the synthesised sounds"

    def __init__(self, corpus: Path) -> None:
        super().__init__(corpus)
        self.of_path: dict[str, list[str]] = {}
        counts: dict[str, int] = {}
        try:
            with (corpus / "labels.csv").open(newline="", encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    self.of_path.setdefault(row["path"], []).append(row["label"])
                    counts[row["label"]] = counts.get(row["label"], 0) + 1
        except (OSError, KeyError) as error:
            raise DataError(f"{corpus / 'labels.csv'} cannot be read: {error}") from None
        kept = [label for label in sorted(counts) if counts[label] >= RAREST and _group(label) in GROUPS]
        self.labels = sorted(kept, key=lambda label: (GROUPS.index(_group(label)), label))
        self.index = {label: place for place, label in enumerate(self.labels)}
        self.groups = {name: [i for i, label in enumerate(self.labels) if _group(label) == name] for name in GROUPS}
        self.dim = len(self.labels)

    def embed(self, clips: Sequence[np.ndarray], paths: Sequence[str]) -> np.ndarray:
        result = np.full((len(paths), self.dim), np.nan, np.float32)
        for row, path in zip(result, paths):
            labels = self.of_path.get(path, ())
            for name in {_group(label) for label in labels} & set(GROUPS):
                row[self.groups[name]] = 0.0
            row[[self.index[label] for label in labels if label in self.index]] = 1.0
        return result


def _group(label: str) -> str:
    return label.split(":", 1)[0]
