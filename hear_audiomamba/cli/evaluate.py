"""`hear-audiomamba evaluate`: the HEAR benchmark, resumable at every task and seed."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BackendError, ConfigError, require

if TYPE_CHECKING:
    from rich.console import Console

    from ..evaluate.study.cell import Cell
    from ..evaluate.study.suite import Entrant, Suite


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--tasks-dir", type=Path,
        help='folder of HEAR tasks; "demo": two tiny ones that ship with the package')  # fmt: skip
    add("--out", type=Path, default=Path("evaluation"),
        help="where everything is kept; run again to resume (default: evaluation)")  # fmt: skip
    add("--suite",
        help="YAML file, or one of demo, hear10, hear10_fast, hear19 (default: the papers' ten tasks)")  # fmt: skip
    add("--variants", nargs="+", metavar="MODEL",
        help="names of `hear-audiomamba list`; or NAME=MODULE, NAME=MODULE@WEIGHTS, NAME=@WEIGHTS, each with JSON "
        'options behind it: mine=@w.safetensors{"window_seconds": 4} '
        "(default: the suite's, or the default model)")  # fmt: skip
    add("--tasks", nargs="+", metavar="TASK", help='task ids; "all": every task in the folder')
    add("--seeds", type=int, help="runs a task, with seeds from 42 on (default: the suite's, 10)")
    add("--grid", choices=("default", "fast", "faster"), help="the kit's grids")
    add("--grid-points", type=int, help="points of the grid tried (default: 8)")
    add(
        "--engine", choices=("fast", "heareval"), help="this package's runners (default), or HEAR's own tools"
    )
    add("--precision", choices=("float32", "bfloat16"),
        help="of the fast engine's matrix products in training: float32 (default, as HEAR's own tools), or bfloat16, "
        "faster on processors with AMX or AVX-512 BF16")  # fmt: skip
    add("--jobs", type=int, default=1, help="processes at a time")
    add("--shard", metavar="I/N", help="run the I-th of N equal parts, I from 0; all parts share one --out")
    add("--ray", metavar="ADDRESS", help='run on a Ray cluster; "local" starts one here')
    add("--allow-untrained", action="store_true",
        help="evaluate models with random weights too, marked as such")  # fmt: skip
    add("--check", action="store_true", help="show only what would be evaluated and what is missing")
    add("--install-kit", type=Path, metavar="DIR",
        help="make an environment with HEAR's own tools in DIR, then stop (for --engine heareval)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False)
    if args.install_kit:
        return _install_kit(args.install_kit, console)
    if args.tasks_dir is None:
        raise ConfigError('--tasks-dir is needed: a folder of HEAR tasks, or "demo"')
    if args.jobs < 1:
        raise ConfigError(f"--jobs {args.jobs}: at least one process is needed")
    if args.ray and args.shard:
        raise ConfigError("--ray distributes the work itself: leave --shard out")
    return _evaluate(args, console)


def _install_kit(folder: Path, console: Console) -> int:
    from ..evaluate.kit.install import install_kit

    try:
        python = install_kit(folder, say=console.print)
    except (subprocess.CalledProcessError, OSError) as error:
        raise BackendError(f"{folder}: HEAR's tools could not be installed: {error}") from None
    console.print(f"HEAR's tools are installed; to use them: export AUDIOMAMBA_HEAREVAL_PYTHON={python}")
    return 0


def _evaluate(args: argparse.Namespace, console: Console) -> int:
    from ..evaluate.study.shard import Shard
    from ..evaluate.study.study import Study
    from ..evaluate.tasks.check import require_folder
    from ..evaluate.tasks.demo import tasks_folder
    from ..io.files import make_folder
    from ..io.locks import locked
    from .study_view import StudyView

    require("scipy", "the benchmark", "hear_audiomamba[evaluate]")
    tasks_dir = tasks_folder(args.tasks_dir)
    require_folder(tasks_dir)
    suite, entrants = _what(args, tasks_dir)
    shard = Shard.parse(args.shard) if args.shard else None
    make_folder(args.out)
    view = StudyView(console)
    study = Study(
        suite,
        entrants,
        tasks_dir,
        args.out,
        jobs=args.jobs,
        shard=shard,
        allow_untrained=args.allow_untrained,
        changed=view.changed,
    )
    lock = args.out / f".lock{f'-{shard.name}' if shard else ''}"
    with locked(lock, f"{args.out}: another study is running in this folder"):
        console.print(f"loading models ({len(entrants)}), checking tasks ({len(suite.tasks)}) in {tasks_dir}")
        problems = study.prepare()
        view.cells = study.cells
        for problem in problems:
            console.print(f"[yellow]not evaluated[/] {_plain(problem)}")
        if study.strays:
            console.print(f"ignored in {tasks_dir}: {_plain(', '.join(study.strays))}")
        if args.check:
            console.print(view.table())
            return 1 if problems else 0
        with view:
            if args.ray:
                from ..evaluate.study.cluster import run_on_ray

                run_on_ray(study, args.ray)
            else:
                study.run()
    console.print(view.table())
    return _report(console, study.cells, problems, args.out)


def _what(args: argparse.Namespace, tasks_dir: Path) -> tuple[Suite, list[Entrant]]:
    from ..evaluate.study.suite import check_unique, load_suite, parse_entrant
    from ..evaluate.tasks.check import tasks_in
    from ..evaluate.tasks.demo import DEMO, DEMO_TASKS
    from ..models.registry import DEFAULT_VARIANT

    suite = load_suite(args.suite or (DEMO if tasks_dir == DEMO_TASKS else None))
    changes: dict[str, Any] = {
        name: value
        for name in ("seeds", "grid", "grid_points", "engine", "precision")
        if (value := vars(args)[name]) is not None
    }
    if args.tasks:
        changes["tasks"] = tuple(args.tasks)
    suite = suite.replace(**changes)
    if tuple(suite.tasks) == ("all",):
        suite = suite.replace(tasks=tuple(tasks_in(tasks_dir)))
    entrants = [parse_entrant(v) for v in (args.variants or suite.variants or [DEFAULT_VARIANT])]
    check_unique(entrants)
    return suite, entrants


def _report(console: Console, cells: list[Cell], problems: list[str], out: Path) -> int:
    for cell in cells:
        for step, reason in cell.failures.items():
            where = f"{cell.entrant.name}: {cell.check.task}: {step}: {reason}"
            console.print(f"[red]failed[/] {_plain(where)}")
    console.print(f"results: {out / 'results'}")
    console.print(f"a page of them: hear-audiomamba leaderboard --results {out} --out {out / 'board'}")
    unfinished = any(cell.missing or cell.failures for cell in cells)
    return 1 if unfinished or problems else 0


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
