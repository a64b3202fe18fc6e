"""A study on a Ray cluster: each cell's embeddings, then each of its runs, as tasks that any worker takes."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import DataError, one_line, require
from .cell import Cell
from .steps import Steps
from .study import Study

_RETRIES = 5


def run_on_ray(study: Study, address: str) -> None:
    """Run what is missing of a prepared study on a Ray cluster; the same files come out as from `Study.run`.

    Tasks, weights and output folder must be on a file system that all nodes share. What a worker that dies was doing
    is done again on another one.

    Args:
        study: after `prepare`.
        address: of the cluster ("auto", "ray://host:10001"), or "local" to start one on this machine.

    Raises:
        MissingPackageError: Ray is not installed.
        DataError: there is no cluster at the address.
    """
    ray = _connect(address)
    study.clear()
    gpus = 1 if ray.cluster_resources().get("GPU") else 0
    embed = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=_RETRIES)(_embed)
    predict = ray.remote(num_cpus=1, max_retries=_RETRIES)(_predict)
    what = (study.suite, study.tasks_dir, study.out)
    waiting: dict[Any, tuple[Cell, str]] = {}
    try:
        for cell in study.cells:
            if cell.state == "failed":
                continue
            bare = replace(cell, steps={}, runs={})
            embedded = None
            for seed in cell.missing:
                if embedded is None:
                    embedded = embed.remote(what, bare)
                    study.changed(cell, "on the cluster")
                waiting[predict.remote(what, bare, seed, embedded)] = (cell, f"seed {seed}")
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            cell, step = waiting.pop(done)
            _take(study, cell, step, lambda done=done: ray.get(done))
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)
        study.write_results()
        study.clear()


def _take(study: Study, cell: Cell, step: str, get: Any) -> None:
    """Note how a run on the cluster ended."""
    try:
        problem = get()
    except Exception as error:  # a worker that died as often as is allowed, or a node that is gone
        problem = one_line(error)[:300]
    if problem:
        study.fail(cell, step, problem)
        return
    study.write_results(cell.entrant)
    study.changed(cell, f"{step} done, {len(cell.runs)} of {study.suite.seeds}")


def _embed(what: tuple[Any, Path, Path], cell: Cell) -> str:
    return _attempt(what, cell, lambda steps: steps.embed(cell))


def _predict(what: tuple[Any, Path, Path], cell: Cell, seed: int, embedded: str) -> str:
    return embedded or _attempt(what, cell, lambda steps: steps.predict(cell, [seed]))


def _attempt(what: tuple[Any, Path, Path], cell: Cell, step: Any) -> str:
    """Run a step in a worker's process; return what went wrong, or nothing."""
    suite, tasks_dir, out = what
    steps = Steps(suite, tasks_dir, out, out / "tmp" / "shard-0-of-1", 1, lambda cell, run: None)
    try:
        step(steps)
    except (DataError, OSError, ValueError, KeyError) as error:
        return f"{error} (on {platform.node()})"
    return ""


def _connect(address: str) -> Any:
    require("ray", "--ray", "hear_audiomamba[scale]")
    import ray

    if not ray.is_initialized():
        try:
            ray.init(address=None if address == "local" else address, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise DataError(f"{address}: no Ray cluster there: {one_line(error)}") from None
    return ray
