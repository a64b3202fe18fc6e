"""`hear-audiomamba tasks get`: HEAR tasks downloaded, checked, unpacked and resampled."""

from __future__ import annotations

import argparse

from ..errors import DataError, counted
from .tasks_words import StepProgress, add_folder, add_jobs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="TASK",
        help="ids or their first word (esc50), hear10 (default), hear19, or demo")  # fmt: skip
    add_folder(parser)
    add_jobs(parser)
    parser.add_argument("--from", dest="source", metavar="PLACE",
        help="a Zenodo record, a web folder or a local folder with the archives (default: HEAR's record, "
        "https://zenodo.org/records/5887964)")  # fmt: skip
    parser.add_argument("--keep-archives", action="store_true", help="leave the downloaded archives")


def run(args: argparse.Namespace) -> int:
    from ..evaluate.tasks.archives import Source
    from ..evaluate.tasks.catalogue import choose_tasks
    from ..evaluate.tasks.demo import DEMO, copy_demo
    from ..evaluate.tasks.get import Fetcher

    names = list(args.names)
    if DEMO in names:
        names.remove(DEMO)
        for task in copy_demo(args.tasks_dir):
            print(f"{task}: copied to {args.tasks_dir}")
        if not names:
            return 0
    progress = StepProgress()
    fetcher = Fetcher(
        args.tasks_dir,
        args.rates,
        Source(args.source),
        args.jobs,
        args.keep_archives,
        say=progress.say,
        progress=progress.tell,
    )
    failed = fetcher.get(choose_tasks(names))
    if failed:
        first, reason = next(iter(failed.items()))
        more = f" (and {counted(len(failed) - 1, 'more task')})" if len(failed) > 1 else ""
        raise DataError(f"{first}: {reason}{more}; the same command continues where it stopped")
    print(f"tasks: {args.tasks_dir}")
    return 0
