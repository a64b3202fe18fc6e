"""The fast predictions engine: HEAR's downstream protocol for one task and any number of seeds.

On the grid's split all points of all seeds are trained together; then each seed's best point on the other splits, all
together again. Models of one shape form stacks; on a CPU each core works on stacks of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...errors import ConfigError, DataError
from .data import SplitData, TaskData
from .judge import Judge
from .mlp import initial_state
from .protocol import (
    GRID_POINTS,
    KIT_SEED,
    PRECISIONS,
    Point,
    Split,
    model_seed,
    sample_points,
    task_splits,
)
from .report import aggregate_folds, grid_rows, tested
from .train import Check, Model, Trained, best_first, train_stack

logger = logging.getLogger(__name__)

CPU_STACK_BYTES = 2**20
"""Parameters of a stack on a CPU: stacking spares the cost of calls for small models; a model that fills the caches
by itself is fastest alone."""


@dataclass(frozen=True)
class Job:
    """A model to be trained, and where: seed, split and grid point by index."""

    seed: int
    split: int
    point: int
    model: Model


class Engine:
    """Predictions of one task.

    Args:
        folder: folder written by HEAR's embeddings runner for the task.
        grid: `default`, `fast` or `faster`.
        grid_points: how many points of the grid are tried.
        grid_seed: seed of the choice of points; the kit's own is 42. None: each run's own seed.
        device: where to train.
        threads: CPU threads; default: torch's.
        stack_models: most models in a stack; default: what fits.
        precision: `float32`; or `bfloat16` for activations and the factors of matrix products in training and
            validation, faster on processors that have it, and no longer the kit's arithmetic. Tests are float32.

    Raises:
        DataError: the folder is incomplete or holds values that cannot be used.
        ConfigError: the grid is unknown.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        grid: str = "default",
        grid_points: int = GRID_POINTS,
        grid_seed: int | None = KIT_SEED,
        device: str | torch.device = "cpu",
        threads: int | None = None,
        stack_models: int | None = None,
        precision: str = "float32",
    ) -> None:
        if precision not in PRECISIONS:
            raise ConfigError(f"precision {precision!r}: use one of {', '.join(PRECISIONS)}")
        self.dtype: torch.dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.data = TaskData(folder, device)
        self.judge = Judge(self.data.metadata, self.data.labels)
        self.splits = task_splits(self.data.metadata)
        self.grid, self.grid_points, self.grid_seed = grid, grid_points, grid_seed
        self.threads = threads or torch.get_num_threads()
        self.stack_models = stack_models

    def points(self, seed: int) -> list[Point]:
        """Return the grid points tried in the run of a seed."""
        chosen_by = seed if self.grid_seed is None else self.grid_seed
        return sample_points(self.grid, self.data.metadata, seed=chosen_by, count=self.grid_points)

    def run(
        self, seeds: Sequence[int], *, progress: Callable[[int, int], None] | None = None
    ) -> dict[int, dict[str, Any]]:
        """Run the whole protocol for each seed.

        Args:
            seeds: of the runs.
            progress: called with (models done, models in all) after each stack.

        Returns:
            For each seed a dictionary like the kit's `test.predicted-scores.json`: scores of each test split, their
            aggregate over folds, the chosen point; also `grid`, with the result of every point.
        """
        started = time.perf_counter()
        points = {seed: self.points(seed) for seed in seeds}
        n_models = sum(len(p) for p in points.values()) + len(seeds) * (len(self.splits) - 1)
        done = 0

        def count(n: int) -> None:
            nonlocal done
            done += n
            if progress:
                progress(done, n_models)

        search = [self._job(s, 0, i, p) for s in seeds for i, p in enumerate(points[s])]
        searched = self._train(search, count)
        best: dict[int, tuple[int, Trained]] = {}
        for seed in seeds:
            results = [searched[j] for j, job in enumerate(search) if job.seed == seed]
            chosen = best_first(results, self.judge.maximize)[0]
            best[seed] = chosen, results[chosen]
        rest = [
            self._job(s, i, best[s][0], points[s][best[s][0]])
            for s in seeds
            for i in range(1, len(self.splits))
        ]
        trained = self._train(rest, count)
        reports: dict[int, dict[str, Any]] = {}
        for seed in seeds:
            per_split = [best[seed][1], *(trained[j] for j, job in enumerate(rest) if job.seed == seed)]
            grid = [searched[j] for j, job in enumerate(search) if job.seed == seed]
            reports[seed] = self._report(points[seed], best[seed][0], per_split, grid)
            reports[seed]["seed"] = seed
        elapsed = time.perf_counter() - started
        logger.info("%s: %d models in %.1f s", self.data.folder.name, n_models, elapsed)
        return reports

    def _job(self, seed: int, split: int, index: int, point: Point) -> Job:
        drawn = model_seed(seed, split, index)
        state = initial_state(point, self.data.embedding_size, len(self.data.labels), drawn)
        return Job(seed, split, index, Model(point, state, drawn))

    def _train(self, jobs: Sequence[Job], count: Callable[[int], None]) -> dict[int, Trained]:
        """Train all jobs, in stacks of one split and shape; return results by position."""
        groups: dict[tuple[Any, ...], list[int]] = {}
        for i, job in enumerate(jobs):
            groups.setdefault((job.split, *job.model.shape), []).append(i)
        stacks = [
            members[start : start + size]
            for members in groups.values()
            for size in [self._stack_size(jobs[members[0]].model, len(members))]
            for start in range(0, len(members), size)
        ]
        # The slowest first, so that no core waits long at the end: deep models, then small learning rates.
        stacks.sort(key=lambda s: (-jobs[s[0]].model.point.hidden_layers, jobs[s[0]].model.point.lr))
        results: dict[int, Trained] = {}

        def train(stack: list[int]) -> None:
            if self.data.device.type == "cpu":
                torch.set_num_threads(1)
            first = jobs[stack[0]]
            outcome = self._train_stack(self.splits[first.split], [jobs[i].model for i in stack])
            results.update(zip(stack, outcome, strict=True))
            count(len(stack))

        workers = self.threads if self.data.device.type == "cpu" else 1
        for split in {job.split for job in jobs}:
            self._split(self.splits[split].train), self._split(self.splits[split].valid)
        before = torch.get_num_threads()
        try:
            with ThreadPoolExecutor(max_workers=max(1, min(workers, len(stacks)))) as pool:
                list(pool.map(train, stacks))
        finally:
            torch.set_num_threads(before)
        return results

    def _stack_size(self, model: Model, available: int) -> int:
        if self.stack_models is not None:
            return self.stack_models
        if self.data.device.type != "cpu":
            return available
        size = sum(v.numel() * v.element_size() for v in model.state.values())
        share = -(-available // self.threads)
        return max(1, min(share, CPU_STACK_BYTES // size))

    def _split(self, names: Sequence[str]) -> SplitData:
        return self.data.load(names)

    def _train_stack(self, split: Split, models: list[Model]) -> list[Trained]:
        train, valid = self._split(split.train), self._split(split.valid)

        def validate(logits: torch.Tensor) -> Check:
            return self.judge.validate(logits, valid)

        with torch.inference_mode():
            results = train_stack(
                models,
                train,
                valid,
                validate,
                multilabel=self.judge.multilabel,
                maximize=self.judge.maximize,
                dtype=self.dtype,
            )
        for result in results:
            if result.state is None:
                raise DataError(f"{self.data.folder}: training ended before the first validation")
        return results

    def _report(
        self, points: list[Point], chosen: int, per_split: list[Trained], grid: list[Trained]
    ) -> dict[str, Any]:
        report: dict[str, Any] = {}
        point = points[chosen]
        for split, trained in zip(self.splits, per_split, strict=True):
            report[split.name] = tested(trained, point, self._split(split.test), self.judge)
        if len(self.splits) > 1:
            report["aggregated_scores"] = aggregate_folds([report[s.name] for s in self.splits])
        report["hparams"] = point.to_dict()
        report["postprocessing"] = sorted(per_split[0].postprocessing.items())
        report["score_mode"] = "max" if self.judge.maximize else "min"
        report["embedding_path"] = self.data.folder.name
        report["grid"] = grid_rows(points, grid)
        report["ended_by_nan"] = sum(t.ended_by_nan for t in [*grid, *per_split[1:]])
        return report
