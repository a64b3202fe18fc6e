"""The two steps of a cell, each in processes of its own: making embeddings once, and predictions for each seed."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import AudioMambaError, DataError, OutputError
from ...io.files import read_json, refuse_full, write_json
from ...io.locks import locked
from ..child import KEEP_MEMORY, PROGRESS_VARIABLE, Children, log_tail
from ..heartools import heareval_python
from ..kit_files import DONE_PREDICTIONS, SCORES_FILE, count_ended_by_nan, finish_embeddings, read_scores
from .cell import Cell, Step
from .suite import Suite

WAIT_SECONDS = 30 * 24 * 3600.0
"""How long another shard may take for what is shared: embedding a large task takes days on a small machine."""


class Steps:
    """Runs the steps of cells and puts what they made in place.

    Args:
        suite: engine, grid and seeds.
        tasks_dir: folder of HEAR tasks.
        out: folder of the study.
        scratch: folder for work in progress, used by nobody else.
        threads: CPU threads a process may use.
        kept: called with each finished run.
    """

    def __init__(
        self,
        suite: Suite,
        tasks_dir: Path,
        out: Path,
        scratch: Path,
        threads: int,
        kept: Callable[[Cell, dict[str, Any]], None],
    ) -> None:
        self.suite, self.tasks_dir, self.out, self.scratch = suite, tasks_dir, out, scratch
        self.threads, self.kept = threads, kept
        self.children = Children()
        # HEAR's tools live in an environment of their own; the fast engine runs where this package is.
        self.python = heareval_python() if suite.engine == "heareval" else Path(sys.executable)

    def embed(self, cell: Cell) -> None:
        """Make the embeddings of a cell unless they are there; another process that makes them is waited for.

        Raises:
            DataError: the runner failed, or embeddings are missing or not finite.
            OutputError: they cannot be written, for instance because the disk is full.
        """
        target = self._embedding_folder(cell)
        if (target / "complete.json").exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target.with_suffix(".lock"), f"{target}: in use", wait=WAIT_SECONDS):
            if not (target / "complete.json").exists():
                self._make_embeddings(cell, target)

    def predict(self, cell: Cell, seeds: list[int]) -> None:
        """Make the predictions of a cell for some seeds from its embeddings.

        Raises:
            DataError: the runner failed or left scores that cannot be read.
            OutputError: the scores cannot be written.
        """
        if self.suite.engine == "fast":
            self._predict_fast(cell, seeds)
        else:
            for seed in seeds:
                self._predict_kit(cell, seed)

    def run_file(self, cell: Cell, seed: int) -> Path:
        """Return where the run of a seed is kept."""
        return self.out / "runs" / cell.place / cell.prediction / f"seed-{seed}.json"

    def _embedding_folder(self, cell: Cell) -> Path:
        return self.out / "embeddings" / cell.place / cell.embedding

    @contextmanager
    def _work(self, cell: Cell, step: str) -> Iterator[tuple[Path, Step]]:
        """Give a scratch folder and a log for a step that is shown as running meanwhile."""
        folder = self.scratch / f"{secrets.token_hex(6)}"
        folder.mkdir(parents=True)
        log = self.out / "logs" / cell.place / f"{step.replace(' ', '-')}.log"
        log.unlink(missing_ok=True)
        cell.steps[step] = running = Step(log, folder / "progress.json")
        try:
            yield folder, running
        finally:
            cell.steps.pop(step, None)
            shutil.rmtree(folder, ignore_errors=True)

    def _run(self, command: list[str], step: Step, cwd: Path, threads: int, **more: str) -> int:
        env = {PROGRESS_VARIABLE: str(step.progress), **more}
        return self.children.run(command, log=step.log, cwd=cwd, env=env, threads=threads)

    def _failure(self, step: Step) -> AudioMambaError:
        """Return what ended a process: a full disk, for which its log may have had no room, or what the log says."""
        try:
            refuse_full(self.out)
        except OutputError as error:
            return error
        return DataError(f"{log_tail(step.log)} (log: {step.log})")

    def _make_embeddings(self, cell: Cell, target: Path) -> None:
        began = time.perf_counter()
        task, entrant = cell.check.task, cell.entrant
        weights = ["--model", str(Path(entrant.weights).resolve())] if entrant.weights else []
        options = json.dumps(dict(entrant.options))
        start = [str(self.python), "-W", "ignore", "-m"]
        with self._work(cell, "embeddings") as (scratch, step):
            if self.suite.engine == "fast":
                command = [*start, "hear_audiomamba.evaluate.study.embed", entrant.module]
                command += [str(self.tasks_dir / task), "--out", str(scratch / "made" / task)]
                command += ["--options", options, *weights]
            else:
                command = [*start, "hear_audiomamba.evaluate.heartools", "embeddings", entrant.module]
                command += [
                    "--tasks-dir",
                    str(self.tasks_dir),
                    "--task",
                    task,
                    "--embeddings-dir",
                    str(scratch),
                ]
                command += ["--model-options", options, *weights]
            status = self._run(command, step, Path.cwd(), self.threads)
            if status:
                raise self._failure(step)
            # HEAR's runner names its folder after the module and a slug of the options; there is only this one.
            (made,) = scratch.glob(f"*/{task}")
            finish_embeddings(made)
            write_json(
                made / "complete.json", {"seconds": time.perf_counter() - began, "key": cell.embedding}
            )
            shutil.rmtree(target, ignore_errors=True)
            os.replace(made, target)

    def _predict_kit(self, cell: Cell, seed: int) -> None:
        with self._work(cell, f"seed {seed}") as (scratch, step):
            task = scratch / cell.check.task
            task.mkdir()
            # The runner writes into the folder it reads: it gets one of its own, with links to the embeddings.
            for file in self._embedding_folder(cell).iterdir():
                if file.is_file():
                    (task / file.name).symlink_to(file)
            command = [str(self.python), "-W", "ignore", "-m", "hear_audiomamba.evaluate.heartools"]
            command += ["--seed", str(seed)]
            if self.suite.grid_seed is not None:
                command += ["--grid-seed", str(self.suite.grid_seed)]
            command += ["predictions", "--grid", self.suite.grid]
            command += ["--grid-points", str(self.suite.grid_points), cell.check.task]
            began = time.perf_counter()
            # One thread a process is the kit at its fastest; torch's default of all cores takes four times as long.
            status = self._run(command, step, scratch, 1)
            if status or not (task / DONE_PREDICTIONS).exists():
                raise self._failure(step)
            scores = read_scores(task / SCORES_FILE, cell.check.metadata)
            scores["ended_by_nan"] = count_ended_by_nan(scratch / "logs", scores["score"])
            self._keep(cell, seed, scores, time.perf_counter() - began)

    def _predict_fast(self, cell: Cell, seeds: list[int]) -> None:
        with self._work(cell, "predictions") as (scratch, step):
            command = [sys.executable, "-m", "hear_audiomamba.evaluate.predictions"]
            command += [str(self._embedding_folder(cell)), "--out", str(scratch)]
            command += ["--seeds", ",".join(map(str, seeds)), "--grid", self.suite.grid]
            command += ["--grid-points", str(self.suite.grid_points), "--threads", str(self.threads)]
            command += ["--precision", self.suite.precision]
            command += ["--grid-seed", "seed" if self.suite.grid_seed is None else str(self.suite.grid_seed)]
            collector = _Collector(scratch, lambda path: self._collect(cell, path))
            with collector:
                status = self._run(command, step, Path.cwd(), self.threads, **KEEP_MEMORY)
            if collector.error:
                raise collector.error
            if status:
                raise self._failure(step)

    def _collect(self, cell: Cell, path: Path) -> None:
        report = read_json(path)
        scores = read_scores(path, cell.check.metadata)
        scores["ended_by_nan"] = report["ended_by_nan"]
        self._keep(cell, int(path.stem.partition("-")[2]), scores, report["seconds"])

    def _keep(self, cell: Cell, seed: int, scores: dict[str, Any], seconds: float) -> None:
        run = {"seed": seed, **scores, "seconds": seconds, "key": cell.prediction}
        write_json(self.run_file(cell, seed), run)
        self.kept(cell, run)


class _Collector:
    """Takes each seed's result of the fast engine as soon as its file is there."""

    def __init__(self, folder: Path, take: Callable[[Path], None]) -> None:
        self.folder, self.take = folder, take
        self.error: AudioMambaError | None = None
        self._stop = threading.Event()
        self._taken: set[Path] = set()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        last = False
        while not last:
            last = self._stop.wait(0.5)
            for path in sorted(self.folder.glob("seed-*.json")):
                if path not in self._taken:
                    self._taken.add(path)
                    try:
                        self.take(path)
                    except AudioMambaError as error:
                        self.error = error
