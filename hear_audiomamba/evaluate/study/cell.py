"""A cell of a study's table: one model on one task."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..tasks import TaskCheck
from .suite import Entrant


@dataclass
class Cell:
    """One model on one task: what is done and what went wrong.

    Args:
        entrant: the model.
        check: of the task's folder.
        embedding: key of its embeddings.
        prediction: key of its predictions.
        state: `waiting`, `embedding`, `predicting`, `done`, `failed`.
        runs: finished runs by seed, as in the results file.
        failures: what went wrong, in words, by step.
    """

    entrant: Entrant
    check: TaskCheck
    embedding: str = ""
    prediction: str = ""
    state: str = "waiting"
    runs: dict[int, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> Path:
        """Folder of this cell under embeddings/, runs/ and logs/."""
        return Path(self.entrant.name) / self.check.task
