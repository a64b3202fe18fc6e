"""A study: models × tasks × seeds, each step kept as soon as it is complete.

Layout of the output folder:

    embeddings/<model>/<task>/<key>/     what the embeddings runner wrote, and complete.json
    runs/<model>/<task>/<key>/seed-<N>.json
    results/<model>.json                 all runs of a model, what the leaderboard reads
    logs/<model>/<task>/                 output of every process

A key stands for everything a number depends on (see keys.py), so a step is done exactly when its file exists under
today's key; files are put in place whole. Work in progress is under tmp/ and is worth nothing after an interruption.
Several shards may work in one folder, from any number of machines.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...errors import DataError, OutputError
from ...io.cores import available_cores
from ...io.files import read_json, write_json
from ...io.locks import locked
from ..tasks.check import TaskCheck, check_tasks
from .cell import Cell
from .keys import embedding_key, prediction_key, weights_identity
from .probe import embedding_code, prediction_code, versions
from .results import merge_tasks, results_of
from .shard import Shard
from .steps import WAIT_SECONDS, Steps
from .suite import Entrant, Suite


class Study:
    """Runs a suite and resumes it.

    Args:
        suite: what to run.
        entrants: the models.
        tasks_dir: folder of HEAR tasks.
        out: output folder.
        jobs: processes at a time.
        shard: which part of the study this process runs.
        allow_untrained: evaluate models with random weights too.
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
        shard: Shard | None = None,
        allow_untrained: bool = False,
        changed: Callable[[Cell, str], None] = lambda cell, message: None,
    ) -> None:
        self.suite, self.entrants = suite, entrants
        self.tasks_dir, self.out = tasks_dir.resolve(), out.resolve()
        self.jobs, self.shard, self.allow_untrained = jobs, shard or Shard(), allow_untrained
        self.changed = changed
        self.scratch = self.out / "tmp" / self.shard.name
        threads = max(1, available_cores() // jobs)
        self.steps = Steps(suite, self.tasks_dir, self.out, self.scratch, threads, self._kept)
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
            found = self._probe(entrant)
            problem = found if isinstance(found, str) else self._refusal(entrant, found)
            if isinstance(found, str) or problem:
                problems.append(f"{entrant.name}: {problem}")
                continue
            self.probes[entrant.name] = found
            self.weights[entrant.name] = weights_identity(entrant, found["trained"])
            checks, self.strays = check_tasks(self.tasks_dir, self.suite.tasks, found["sample_rate"])
            for check in checks:
                # A task that no model can be evaluated on is said once, not once a model.
                problems.extend(f"{check.task}: {p}" for p in check.problems)
                self.cells.append(self._cell(entrant, found, check))
        self._share_out()
        return list(dict.fromkeys(problems))

    def run(self) -> None:
        """Do all of this shard that is not done; a step that fails is noted and the others continue.

        Raises:
            OutputError: the output folder cannot be written, so no step can be kept; what is done stays.
        """
        shutil.rmtree(self.scratch, ignore_errors=True)
        pending = [c for c in self.cells if c.missing and c.state != "failed"]
        with ThreadPoolExecutor(max_workers=self.jobs) as pool:
            predicted = []
            try:
                for cell, embedded in [(c, pool.submit(self.embed, c)) for c in pending]:
                    if embedded.result():
                        predicted += [pool.submit(self.predict, cell, seeds) for seeds in self.batches(cell)]
                for prediction in predicted:
                    prediction.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.steps.children.end()
                raise
        self.write_results()
        self.clear()

    def clear(self) -> None:
        """Remove this process's unfinished work, and the folder it shares with other shards once it is empty."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        with suppress(OSError):
            self.scratch.parent.rmdir()

    def batches(self, cell: Cell) -> list[list[int]]:
        """Return the missing seeds of a cell as they are run: the fast engine takes all in one process."""
        missing = cell.missing
        return [missing] if self.suite.engine == "fast" else [[seed] for seed in missing]

    def embed(self, cell: Cell) -> bool:
        """Make the embeddings of a cell unless they are there; return whether predictions can be made."""
        self._change(cell, "embedding", "embedding")
        return self._guarded(cell, "embeddings", lambda: self.steps.embed(cell))

    def predict(self, cell: Cell, seeds: list[int]) -> bool:
        """Make predictions of a cell for some seeds; return whether that succeeded."""
        named = ", ".join(map(str, seeds))
        self._change(cell, "predicting", f"predicting, seed {named}")
        return self._guarded(cell, f"predictions, seed {named}", lambda: self.steps.predict(cell, seeds))

    def find_runs(self, cells: Iterable[Cell]) -> None:
        """Look for finished runs of cells, also of other shards."""
        for cell in cells:
            for seed in self.suite.seed_list if cell.prediction else ():
                path = self.steps.run_file(cell, seed)
                if seed not in cell.runs and path.exists():
                    try:
                        cell.runs[seed] = read_json(path)
                    except DataError as error:
                        # A file is put in place whole; one that cannot be read was damaged later and is made again.
                        self.changed(cell, f"{error}; will be run again")
            if len(cell.runs) == self.suite.seeds:
                cell.state = "done"

    def write_results(self, of: Entrant | None = None) -> list[Path]:
        """Write `results/<model>.json` and return the paths.

        Runs that other shards finished are taken up. Tasks that an earlier study in the same folder did with the same
        model and protocol stay.

        Args:
            of: the model; None for all.
        """
        paths = []
        for entrant in self.entrants if of is None else [of]:
            if probe := self.probes.get(entrant.name):
                path = self.out / "results" / f"{entrant.name}.json"
                cells = [c for c in self.cells if c.entrant is entrant]
                path.parent.mkdir(parents=True, exist_ok=True)
                busy = f"{path}: another process is writing it"
                with self._writing, locked(path.parent / ".lock", busy, wait=WAIT_SECONDS):
                    self.find_runs(cells)
                    results = results_of(entrant, probe, self.weights[entrant.name], self.suite, cells)
                    write_json(path, merge_tasks(path, results, cells))
                paths.append(path)
        return paths

    def _probe(self, entrant: Entrant) -> dict[str, Any] | str:
        command = [str(self.steps.python), "-W", "ignore", "-m", "hear_audiomamba.evaluate.study.probe"]
        weights = str(Path(entrant.weights).resolve()) if entrant.weights else ""
        command += [entrant.module, "--model", weights, "--options", json.dumps(dict(entrant.options))]
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            said = done.stderr.strip().splitlines()
            return f"cannot be loaded: {said[-1] if said else f'exit status {done.returncode}'}"
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return found

    def _refusal(self, entrant: Entrant, probe: dict[str, Any]) -> str:
        if probe["trained"] or self.allow_untrained:
            return ""
        return (
            f"untrained: no weights are bundled for it, so its scores would be those of a random model; name a "
            f"weights file ({entrant.name}=@FILE), or give --allow-untrained"
        )

    def _cell(self, entrant: Entrant, probe: dict[str, Any], check: TaskCheck) -> Cell:
        cell = Cell(entrant, check)
        if check.problems:
            cell.state = "failed"
            cell.failures["task"] = "; ".join(check.problems)
            return cell
        fast = self.suite.engine == "fast"
        runner = f"fast {embedding_code()}" if fast else "heareval"
        cell.embedding = embedding_key(entrant, self.weights[entrant.name], probe, check.fingerprint, runner)
        tools = versions() if fast else probe["versions"]
        cell.prediction = prediction_key(cell.embedding, self.suite, tools, prediction_code() if fast else "")
        self.find_runs([cell])
        return cell

    def _share_out(self) -> None:
        """Give this shard an unbroken stretch of all (cell, seed): most cells then lie within one shard."""
        units = [(cell, seed) for cell in self.cells for seed in self.suite.seed_list]
        first, beyond = (len(units) * i // self.shard.count for i in (self.shard.index, self.shard.index + 1))
        for cell, seed in units[first:beyond]:
            cell.mine.append(seed)

    def _guarded(self, cell: Cell, step: str, work: Callable[[], None]) -> bool:
        try:
            work()
        except OutputError:
            raise  # a full disk or a folder without permission: every other step would fail as well
        except (DataError, OSError, ValueError, KeyError) as error:
            if not self.steps.children.ended:  # a step that was interrupted has not failed
                self.fail(cell, step, str(error))
            return False
        except BaseException as error:
            self.fail(cell, step, repr(error))
            raise
        return True

    def _kept(self, cell: Cell, run: dict[str, Any]) -> None:
        cell.runs[run["seed"]] = run
        nan = f", {run['ended_by_nan']} trainings ended by NaN" if run["ended_by_nan"] else ""
        said = f"seed {run['seed']}: {run['score']} {run['value']:.4f} in {run['seconds']:.0f} s{nan}"
        self.write_results(cell.entrant)
        self._change(cell, "predicting", said)

    def _change(self, cell: Cell, state: str, message: str) -> None:
        if cell.state not in ("failed", "done"):
            cell.state = state
        self.changed(cell, message)

    def fail(self, cell: Cell, step: str, reason: str) -> None:
        """Note that a step of a cell failed."""
        cell.failures[step] = reason
        cell.state = "failed"
        self.write_results(cell.entrant)
        self.changed(cell, f"failed: {step}: {reason}")
