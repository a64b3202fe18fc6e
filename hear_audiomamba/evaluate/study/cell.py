"""A cell of a study's table: one model on one task."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..child import read_progress
from ..tasks.check import TaskCheck
from .suite import Entrant


@dataclass(frozen=True)
class Step:
    """A process that is running for a cell.

    Args:
        log: what it prints.
        progress: file in which it says how far it is; HEAR's own tools write none.
        began: `time.monotonic()` of its start.
    """

    log: Path
    progress: Path
    began: float = field(default_factory=time.monotonic)

    def describe(self) -> str:
        """Say how far the step is: what is done, the seconds so far, and about how many are left."""
        seconds = time.monotonic() - self.began
        said = read_progress(self.progress)
        if said is None:
            return _duration(seconds)
        done, of, unit = said
        left = f", about {_duration(seconds * (of - done) / done)} left" if 0 < done < of else ""
        return f"{done} of {of} {unit}, {_duration(seconds)}{left}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
    )


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
        mine: seeds that this process runs; another shard runs the others.
        steps: what is running, by name.
    """

    entrant: Entrant
    check: TaskCheck
    embedding: str = ""
    prediction: str = ""
    state: str = "waiting"
    runs: dict[int, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    mine: list[int] = field(default_factory=list)
    steps: dict[str, Step] = field(default_factory=dict)

    @property
    def missing(self) -> list[int]:
        """Seeds that this process has still to run."""
        return [seed for seed in self.mine if seed not in self.runs]

    @property
    def place(self) -> Path:
        """Folder of this cell under embeddings/, runs/ and logs/."""
        return Path(self.entrant.name) / self.check.task
