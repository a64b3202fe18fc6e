"""`hear-audiomamba evaluate`: the HEAR benchmark, resumable at every task and seed."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ..errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tasks-dir", type=Path, required=True, help="folder of HEAR tasks")
    parser.add_argument(
        "--out", type=Path, required=True, help="where everything is kept; run again to resume"
    )
    parser.add_argument("--suite", help="YAML file, or a name in eval_configs/ (default: the ten HEAR tasks)")
    parser.add_argument(
        "--variants",
        nargs="+",
        metavar="MODEL",
        help="names of `hear-audiomamba list`; or NAME=MODULE, NAME=MODULE@WEIGHTS, NAME=@WEIGHTS, "
        'each with JSON options behind it: mine=@w.safetensors{"window_seconds": 4}',
    )
    parser.add_argument(
        "--tasks", nargs="+", metavar="TASK", help='task ids; "all": every task in the folder'
    )
    parser.add_argument(
        "--seeds", type=int, help="runs a task, with seeds from 42 on (default: the suite's, 10)"
    )
    parser.add_argument("--grid", choices=("default", "fast", "faster"), help="the kit's grids")
    parser.add_argument("--grid-points", type=int, help="points of the grid tried (default: 8)")
    parser.add_argument("--engine", choices=("heareval", "fast"), help="HEAR's predictions runner, or ours")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument(
        "--check", action="store_true", help="only say what would be evaluated and what is missing"
    )


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from ..evaluate.study.study import Study
    from ..evaluate.study.suite import check_unique, load_suite, parse_entrant
    from ..io.files import locked

    if args.jobs < 1:
        raise ConfigError(f"--jobs {args.jobs}: at least one process is needed")
    suite = load_suite(args.suite)
    changes: dict[str, Any] = {
        name: getattr(args, name)
        for name in ("seeds", "grid", "grid_points", "engine")
        if getattr(args, name) is not None
    }
    if args.tasks == ["all"]:
        changes["tasks"] = sorted(p.parent.name for p in args.tasks_dir.glob("*/task_metadata.json"))
    elif args.tasks:
        changes["tasks"] = list(args.tasks)
    suite = suite.replace(**changes)
    entrants = [parse_entrant(v) for v in (args.variants or suite.variants)]
    if not entrants:
        raise ConfigError("no models: name some with --variants, or in the suite")
    check_unique(entrants)
    args.out.mkdir(parents=True, exist_ok=True)

    console = Console(soft_wrap=True)
    view = _View(console)
    study = Study(suite, entrants, args.tasks_dir, args.out, jobs=args.jobs, changed=view.changed)
    with locked(args.out / ".lock", f"{args.out}: another study is running in this folder"):
        problems = study.prepare()
        view.cells = study.cells
        for problem in problems:
            console.print(f"[yellow]not evaluated[/] {problem}", highlight=False)
        if study.strays:
            console.print(f"ignored in {args.tasks_dir}: {', '.join(study.strays)}", highlight=False)
        if args.check:
            console.print(view.table())
            return 1 if problems else 0
        previous = signal.signal(signal.SIGTERM, _interrupt)
        try:
            with view:
                study.run()
        finally:
            signal.signal(signal.SIGTERM, previous)
    console.print(view.table())
    failed = [c for c in study.cells if c.state != "done"]
    for cell in failed:
        for step, reason in cell.failures.items():
            console.print(
                f"[red]failed[/] {cell.entrant.name}: {cell.check.task}: {step}: {reason}", highlight=False
            )
    console.print(
        f"results: {args.out / 'results'}  (hear-audiomamba leaderboard --results {args.out / 'results'})"
    )
    return 1 if failed or problems else 0


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


class _View:
    """Shows a study: a live table on a terminal, one line a change elsewhere."""

    def __init__(self, console: Any) -> None:
        self.console = console
        self.cells: list[Any] = []
        self.live: Any = None
        self.lock = threading.Lock()
        self.began = time.monotonic()

    def __enter__(self) -> None:
        if self.console.is_terminal:
            from rich.live import Live

            self.live = Live(get_renderable=self.table, console=self.console, refresh_per_second=2)
            self.live.start()

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()
            self.live = None

    def changed(self, cell: Any, message: str) -> None:
        if self.live is None:
            with self.lock:
                seconds = time.monotonic() - self.began
                sys.stdout.write(f"[{seconds:7.0f} s] {cell.entrant.name} · {cell.check.task} · {message}\n")
                sys.stdout.flush()

    def table(self) -> Any:
        from rich.table import Table

        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column("task", no_wrap=True)
        names = list(dict.fromkeys(c.entrant.name for c in self.cells))
        for name in names:
            table.add_column(name, justify="right")
        by_place = {(c.check.task, c.entrant.name): c for c in self.cells}
        for task in dict.fromkeys(c.check.task for c in self.cells):
            row = [by_place.get((task, name)) for name in names]
            table.add_row(task, *("" if c is None else _cell_text(c) for c in row))
        return table


_COLOURS = {"waiting": "dim", "embedding": "cyan", "predicting": "cyan", "done": "green", "failed": "red"}


def _cell_text(cell: Any) -> str:
    values = [r["value"] for r in cell.runs.values()]
    score = f"{100 * sum(values) / len(values):.1f} " if values else ""
    nan = sum(r["ended_by_nan"] for r in cell.runs.values())
    note = f" [yellow]{nan} NaN[/]" if nan else ""
    done = f" {len(values)} runs" if values else ""
    return f"{score}[{_COLOURS[cell.state]}]{cell.state}{done}[/]{note}"
