"""From the logits of an MLP to HEAR's scores of a split."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import DataError
from .data import Frames, SplitData
from .events import EVENT_SCORES, Events, EventScore, find_events
from .protocol import postprocessing_choices
from .scores import SCENE_SCORES
from .train import Check


class Judge:
    """Scores predictions of a task as its metadata asks for.

    Args:
        metadata: the task's `task_metadata.json`.
        n_labels: size of the vocabulary.
        labels: the vocabulary, in order of index.

    Raises:
        DataError: a score is unknown or does not fit the kind of task.
    """

    def __init__(self, metadata: Mapping[str, Any], labels: Sequence[str]) -> None:
        self.labels = list(labels)
        self.multilabel = metadata["prediction_type"] == "multilabel"
        self.is_event = metadata["embedding_type"] == "event"
        self.names: list[str] = list(metadata["evaluation"])
        known = EVENT_SCORES if self.is_event else SCENE_SCORES
        for name in self.names:
            if name not in known:
                kind = metadata["embedding_type"]
                raise DataError(f"score {name!r} is not one of {kind} tasks; known: {', '.join(known)}")
        self.by_loss = not metadata.get("use_scoring_for_early_stopping", True)
        self.choices = postprocessing_choices(metadata) if self.is_event else []
        if self.by_loss and len(self.choices) > 1:
            raise DataError("a task validated by its loss needs exactly one post-processing of events")

    @property
    def maximize(self) -> bool:
        """Whether a higher monitored value is better."""
        if self.by_loss:
            return False
        return not self.is_event or EVENT_SCORES[self.names[0]].maximize

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return class probabilities (n, K) in float32; scores see their rounding, as in the kit."""
        return logits.sigmoid() if self.multilabel else logits.softmax(1)

    def loss(self, logits: Tensor, targets: Tensor) -> float:
        """Return the mean loss over all rows."""
        if self.multilabel:
            return float(torch.nn.functional.binary_cross_entropy_with_logits(logits, targets))
        return float(torch.nn.functional.cross_entropy(logits, targets.argmax(1)))

    def validate(self, logits: Tensor, split: SplitData) -> Check:
        """Return the monitored value of a split, and the post-processing that gave it."""
        if self.by_loss:
            return Check(self.loss(logits, split.targets), dict(self.choices[0]) if self.choices else {})
        return self.choose(self.probabilities(logits).cpu().numpy(), split)

    def choose(self, probabilities: NDArray[np.float32], split: SplitData) -> Check:
        """Return the task's own score of a split's class probabilities (n, K), with the best post-processing."""
        if not self.is_event:
            return Check(SCENE_SCORES[self.names[0]](probabilities, split.targets.cpu().numpy()))
        assert split.frames is not None
        score = EVENT_SCORES[self.names[0]]
        tried = []
        for choice in self.choices:
            events = self._events(probabilities, split.frames, choice)
            value = self._first(score, events, split.frames)
            # The kit takes the highest value and, of equal ones, the last in the order of the parameters; also for
            # error rates, and with NaN counted as 0 here but not in what is monitored.
            rank = 0.0 if math.isnan(value) else value
            tried.append((rank, tuple(choice.items()), value))
        _, best, value = max(tried, key=lambda t: t[:2])
        return Check(value, dict(best))

    def test(self, logits: Tensor, split: SplitData, postprocessing: Mapping[str, float]) -> dict[str, float]:
        """Return loss and all scores of a split under the names that the kit's result files use."""
        scores = self.score(self.probabilities(logits).cpu().numpy(), split, postprocessing)
        return {"test_loss": self.loss(logits, split.targets), **scores}

    def score(
        self, probabilities: NDArray[np.float32], split: SplitData, postprocessing: Mapping[str, float]
    ) -> dict[str, float]:
        """Return all scores of a split's class probabilities (n, K), named as in the kit's result files."""
        scores: dict[str, float] = {}
        if self.is_event:
            assert split.frames is not None
            events = self._events(probabilities, split.frames, postprocessing)
            for name in self.names:
                parts = EVENT_SCORES[name](events, split.frames.target, len(self.labels))
                scores[f"test_{name}"] = next(iter(parts.values()))
                scores.update({f"test_{name}_{part}": value for part, value in parts.items()})
        else:
            targets = split.targets.cpu().numpy()
            scores = {f"test_{name}": SCENE_SCORES[name](probabilities, targets) for name in self.names}
        return {"test_score": scores[f"test_{self.names[0]}"], **scores}

    def _events(
        self, probabilities: NDArray[np.float32], frames: Frames, choice: Mapping[str, float]
    ) -> dict[str, Events]:
        found = {}
        for i, file in enumerate(frames.files):
            rows = frames.file_of_row == i
            if rows.sum() < 2:
                raise DataError(f"event file {file!r} has one timestamp only; post-processing needs two")
            found[file] = find_events(probabilities[rows], frames.timestamps[rows], **choice)
        return found

    def _first(self, score: EventScore, events: dict[str, Events], frames: Frames) -> float:
        return next(iter(score(events, frames.target, len(self.labels)).values()))
