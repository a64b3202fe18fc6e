"""A study: models × tasks × seeds through HEAR's runners, each step kept as soon as it is complete.

Layout of the output folder:

    embeddings/<model>/<task>/<key>/     what the embeddings runner wrote, and complete.json
    runs/<model>/<task>/<key>/seed-<N>.json
    results/<model>.json                 all runs of a model, what the leaderboard reads
    logs/<model>/<task>/                 output of every process

A key stands for everything a number depends on (see keys.py), so a step is done exactly when its file exists under
today's key; files are put in place whole. Work in progress is under tmp/ and is worth nothing after an interruption.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...io.files import read_json, write_json
from ..child import KEEP_MEMORY, Children, log_tail
from ..heartools import heareval_python
from ..kit_files import DONE_PREDICTIONS, SCORES_FILE, count_ended_by_nan, finish_embeddings, read_scores
from ..tasks import TaskCheck, check_tasks
from .cell import Cell
from .keys import embedding_key, prediction_key, weights_identity
from .probe import versions
from .results import results_of, tasks_beside
from .suite import Entrant, Suite


class Study:
    """Runs a suite and resumes it.

    Args:
        suite: what to run.
        entrants: the models.
        tasks_dir: folder of HEAR tasks.
        out: output folder.
        jobs: processes at a time.
        changed: called whenever a cell has changed.
    """

    def __init__(
        self,
        suite: Suite,
        entrants: list[Entrant],
        tasks_dir: Path,
        out: Path,
        *,
        jobs: int = 1,
        changed: Callable[[Cell, str], None] = lambda cell, message: None,
    ) -> None:
        self.suite, self.entrants = suite, entrants
        self.tasks_dir, self.out = tasks_dir.resolve(), out.resolve()
        self.jobs = jobs
        self.changed = changed
        self.children = Children()
        self.python = heareval_python()
        self.probes: dict[str, dict[str, Any]] = {}
        self.weights: dict[str, str] = {}
        self.cells: list[Cell] = []
        self.strays: list[str] = []
        self._writing = threading.Lock()

    def prepare(self) -> list[str]:
        """Load every model once, check every task, and find what is done already.

        Returns:
            What will not be evaluated and why, in words.
        """
        problems: list[str] = []
        self.cells = []
        for entrant in self.entrants:
            probe = self._probe(entrant)
            if isinstance(probe, str):
                problems.append(f"{entrant.name}: cannot be loaded: {probe}")
                probe = {}
            self.probes[entrant.name] = probe
            if not probe:
                continue
            self.weights[entrant.name] = weights_identity(entrant)
            checks, self.strays = check_tasks(self.tasks_dir, self.suite.tasks, probe["sample_rate"])
            for check in checks:
                # A task that no model can be evaluated on is said once, not once a model.
                problems.extend(f"{check.task}: {p}" for p in check.problems)
                self.cells.append(self._cell(entrant, probe, check))
        return list(dict.fromkeys(problems))

    def run(self) -> None:
        """Do all that is not done; a step that fails is noted and the others go on."""
        shutil.rmtree(self.out / "tmp", ignore_errors=True)
        pending = [c for c in self.cells if c.state not in ("done", "failed")]
        with ThreadPoolExecutor(max_workers=self.jobs) as pool:
            try:
                for embedded in [(c, pool.submit(self._embed, c)) for c in pending]:
                    if embedded[1].result():
                        self._predict(embedded[0], pool)
                pool.shutdown(wait=True)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.children.end()
                raise
        self.write_results()
        shutil.rmtree(self.out / "tmp", ignore_errors=True)

    def write_results(self) -> list[Path]:
        """Write `results/<model>.json` for every model and return their paths.

        Tasks that an earlier study in the same folder did with the same model and protocol stay in it.
        """
        with self._writing:
            paths = []
            for entrant in self.entrants:
                if probe := self.probes.get(entrant.name):
                    path = self.out / "results" / f"{entrant.name}.json"
                    cells = [c for c in self.cells if c.entrant is entrant]
                    results = results_of(entrant, probe, self.weights[entrant.name], self.suite, cells)
                    results["tasks"] = {**tasks_beside(path, results), **results["tasks"]}
                    write_json(path, results)
                    paths.append(path)
            return paths

    def _probe(self, entrant: Entrant) -> dict[str, Any] | str:
        command = [
            str(self.python),
            "-W",
            "ignore",
            "-m",
            "hear_audiomamba.evaluate.study.probe",
            entrant.module,
        ]
        weights = str(Path(entrant.weights).resolve()) if entrant.weights else ""
        command += ["--model", weights, "--options", json.dumps(dict(entrant.options))]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines()
            return said[-1] if said else f"exit status {done.returncode}"
        return json.loads(done.stdout.strip().splitlines()[-1])

    def _cell(self, entrant: Entrant, probe: dict[str, Any], check: TaskCheck) -> Cell:
        cell = Cell(entrant, check)
        if check.problems:
            cell.state = "failed"
            cell.failures["task"] = "; ".join(check.problems)
            return cell
        cell.embedding = embedding_key(entrant, self.weights[entrant.name], probe, check.fingerprint)
        tools = versions() if self.suite.engine == "fast" else probe["versions"]
        cell.prediction = prediction_key(cell.embedding, self.suite, tools)
        self._find_runs(cell)
        return cell

    def _find_runs(self, cell: Cell) -> None:
        for seed in self.suite.seed_list:
            path = self._run_file(cell, seed)
            if path.exists():
                try:
                    cell.runs[seed] = read_json(path)
                except DataError as error:
                    # A file is put in place whole; one that cannot be read was damaged later and is made anew.
                    self.changed(cell, f"{error}; will be run again")
        if len(cell.runs) == self.suite.seeds:
            cell.state = "done"

    def _run_file(self, cell: Cell, seed: int) -> Path:
        return self.out / "runs" / cell.place / cell.prediction / f"seed-{seed}.json"

    def _embedding_folder(self, cell: Cell) -> Path:
        return self.out / "embeddings" / cell.place / cell.embedding

    def _scratch(self, cell: Cell, step: str) -> Path:
        folder = self.out / "tmp" / cell.place / f"{step}-{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def _embed(self, cell: Cell) -> bool:
        """Make the embeddings of a cell unless they are there; return whether predictions can be made."""
        target = self._embedding_folder(cell)
        if (target / "complete.json").exists():
            return True
        self._change(cell, "embedding", "embedding")
        scratch = self._scratch(cell, "embed")
        log = self.out / "logs" / cell.place / "embeddings.log"
        log.unlink(missing_ok=True)
        tool = ["-m", "hear_audiomamba.evaluate.heartools", "embeddings", cell.entrant.module]
        arguments = [
            "--tasks-dir",
            str(self.tasks_dir),
            "--task",
            cell.check.task,
            "--embeddings-dir",
            str(scratch),
        ]
        arguments += ["--model-options", json.dumps(dict(cell.entrant.options))]
        if cell.entrant.weights:
            arguments += ["--model", str(Path(cell.entrant.weights).resolve())]
        command = [str(self.python), "-W", "ignore", *tool, *arguments]
        began = time.perf_counter()
        status = self.children.run(command, log=log, cwd=Path.cwd(), env={}, threads=self._threads())
        try:
            if status:
                raise DataError(f"embeddings runner: {log_tail(log)} (log: {log})")
            # The runner names its folder after the module and a slug of the options; there is only this one.
            (made,) = scratch.glob(f"*/{cell.check.task}")
            finish_embeddings(made)
            write_json(
                made / "complete.json", {"seconds": time.perf_counter() - began, "key": cell.embedding}
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(made, target)
        except (DataError, OSError, ValueError) as error:
            self._fail(cell, "embeddings", str(error))
            return False
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return True

    def _predict(self, cell: Cell, pool: ThreadPoolExecutor) -> None:
        missing = [s for s in self.suite.seed_list if s not in cell.runs]
        if self.suite.engine == "fast":
            pool.submit(self._guarded, cell, self._predict_fast, missing)
        else:
            for seed in missing:
                pool.submit(self._guarded, cell, self._predict_kit, seed)

    def _guarded(self, cell: Cell, step: Callable[[Cell, Any], None], seeds: Any) -> None:
        try:
            self._change(cell, "predicting", f"predicting, seed {seeds}")
            step(cell, seeds)
        except (DataError, OSError, ValueError, KeyError) as error:
            self._fail(cell, f"predictions, seed {seeds}", str(error))
        except BaseException as error:
            self._fail(cell, f"predictions, seed {seeds}", repr(error))
            raise

    def _predict_kit(self, cell: Cell, seed: int) -> None:
        scratch = self._scratch(cell, f"seed-{seed}")
        task = scratch / cell.check.task
        task.mkdir()
        # The runner writes into the folder it reads: it gets one of its own, with links to the embeddings.
        for file in self._embedding_folder(cell).iterdir():
            if file.is_file():
                (task / file.name).symlink_to(file)
        log = self.out / "logs" / cell.place / f"seed-{seed}.log"
        log.unlink(missing_ok=True)
        launcher = [
            str(self.python),
            "-W",
            "ignore",
            "-m",
            "hear_audiomamba.evaluate.heartools",
            "--seed",
            str(seed),
        ]
        if self.suite.grid_seed is not None:
            launcher += ["--grid-seed", str(self.suite.grid_seed)]
        options = ["--grid", self.suite.grid, "--grid-points", str(self.suite.grid_points)]
        began = time.perf_counter()
        # One thread a process is the kit at its fastest; torch's default of all cores takes four times as long.
        status = self.children.run(
            [*launcher, "predictions", *options, cell.check.task], log=log, cwd=scratch, env={}, threads=1
        )
        if status or not (task / DONE_PREDICTIONS).exists():
            raise DataError(f"predictions runner: {log_tail(log)} (log: {log})")
        scores = read_scores(task / SCORES_FILE, cell.check.metadata)
        scores["ended_by_nan"] = count_ended_by_nan(scratch / "logs", scores["score"])
        self._keep(cell, seed, scores, time.perf_counter() - began)
        shutil.rmtree(scratch, ignore_errors=True)

    def _predict_fast(self, cell: Cell, seeds: list[int]) -> None:
        scratch = self._scratch(cell, "fast")
        log = self.out / "logs" / cell.place / "fast.log"
        log.unlink(missing_ok=True)
        command = [
            sys.executable,
            "-m",
            "hear_audiomamba.evaluate.predictions",
            str(self._embedding_folder(cell)),
        ]
        command += ["--out", str(scratch), "--seeds", ",".join(map(str, seeds)), "--grid", self.suite.grid]
        command += ["--grid-points", str(self.suite.grid_points), "--threads", str(self._threads())]
        command += ["--grid-seed", "seed" if self.suite.grid_seed is None else str(self.suite.grid_seed)]
        stop = threading.Event()
        collector = threading.Thread(target=self._collect, args=(cell, scratch, stop), daemon=True)
        collector.start()
        status = self.children.run(command, log=log, cwd=scratch, env=KEEP_MEMORY, threads=self._threads())
        stop.set()
        collector.join()
        if status:
            raise DataError(f"fast engine: {log_tail(log)} (log: {log})")
        shutil.rmtree(scratch, ignore_errors=True)

    def _collect(self, cell: Cell, folder: Path, stop: threading.Event) -> None:
        """Keep each seed's result of the fast engine as soon as its file is there."""
        while True:
            last = stop.wait(0.5)
            for path in sorted(folder.glob("seed-*.json")):
                seed = int(path.stem.partition("-")[2])
                if seed in cell.runs or "scores" in cell.failures:
                    continue
                try:
                    report = read_json(path)
                    scores = read_scores(path, cell.check.metadata)
                except DataError as error:
                    self._fail(cell, "scores", str(error))
                    continue
                scores["ended_by_nan"] = report["ended_by_nan"]
                self._keep(cell, seed, scores, report["seconds"])
            if last:
                return

    def _keep(self, cell: Cell, seed: int, scores: dict[str, Any], seconds: float) -> None:
        run = {"seed": seed, **scores, "seconds": seconds, "key": cell.prediction}
        write_json(self._run_file(cell, seed), run)
        cell.runs[seed] = run
        done = len(cell.runs) == self.suite.seeds
        nan = f", {run['ended_by_nan']} trainings ended by NaN" if run["ended_by_nan"] else ""
        self._change(
            cell,
            "done" if done else "predicting",
            f"seed {seed}: {scores['score']} {scores['value']:.4f} in {seconds:.0f} s{nan}",
        )
        self.write_results()

    def _threads(self) -> int:
        return max(1, (os.cpu_count() or 1) // self.jobs)

    def _change(self, cell: Cell, state: str, message: str) -> None:
        if cell.state not in ("failed", "done"):
            cell.state = state
        self.changed(cell, message)

    def _fail(self, cell: Cell, step: str, reason: str) -> None:
        cell.failures[step] = reason
        cell.state = "failed"
        with suppress(OSError):
            self.write_results()
        self.changed(cell, f"failed: {step}: {reason}")
