"""`hear-audiomamba tasks check`: is every task whole: metadata, labels, every clip."""

from __future__ import annotations

import argparse

from .console import console
from .tasks_words import add_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="TASK", help="default: every task in the folder")
    add_folder(parser)


def run(args: argparse.Namespace) -> int:
    from rich.table import Table

    from ..evaluate.tasks.check import check_task, tasks_in
    from ..evaluate.tasks.demo import tasks_folder

    folder = tasks_folder(args.tasks_dir)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for head in ("task", "clips", "kind", "metric", "problems"):
        table.add_column(head)
    whole = True
    for task in args.names or tasks_in(folder):
        problems: list[str] = []
        for rate in args.rates:
            check = check_task(folder / task, rate)
            problems += check.problems
        whole = whole and not problems
        kind = str(check.metadata.get("embedding_type", ""))
        metric = str((check.metadata.get("evaluation") or [""])[0])
        table.add_row(task, f"{check.clips:,}", kind, metric, "; ".join(dict.fromkeys(problems)) or "none")
    console().print(table)
    return 0 if whole else 1
