"""`hear-audiomamba tasks resample`: clips of HEAR tasks at further sample rates."""

from __future__ import annotations

import argparse
from functools import partial

from ..errors import DataError
from .tasks_words import StepProgress, add_folder, add_jobs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="TASK", help="default: every task in the folder")
    add_folder(parser)
    add_jobs(parser)


def run(args: argparse.Namespace) -> int:
    from ..evaluate.tasks.check import tasks_in
    from ..evaluate.tasks.resample import resample_task

    progress = StepProgress()
    for task in args.names or tasks_in(args.tasks_dir):
        folder = args.tasks_dir / task
        if not folder.is_dir():
            raise DataError(f"{args.tasks_dir} holds no task {task!r}")
        for rate in args.rates:
            done = resample_task(
                folder, rate, jobs=args.jobs, progress=partial(progress.tell, f"{task}: clips")
            )
            print(f"{task}: {rate} Hz {'done' if done else 'is there'}")
    return 0
