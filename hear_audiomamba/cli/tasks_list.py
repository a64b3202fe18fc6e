"""`hear-audiomamba tasks list`: the 19 HEAR tasks with their sizes, metrics and licences."""

from __future__ import annotations

import argparse

from .console import console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(args: argparse.Namespace) -> int:
    from rich.table import Table

    from ..evaluate.tasks.catalogue import RATE_PUBLISHED, hear_task_list, size_text
    from ..evaluate.tasks.demo import DEMO_TASKS

    table = Table(box=None, header_style="bold", pad_edge=False)
    for head in ("task", "name", "kind", "clips", "seconds", "48 kHz", "16 kHz", "metric", "licence"):
        right = head in ("clips", "seconds", "48 kHz", "16 kHz")
        table.add_column(head, justify="right" if right else "left", no_wrap=head != "licence")
    for task in hear_task_list().values():
        sizes = [size_text(task.audio_bytes(rate)) for rate in (RATE_PUBLISHED, 16000)]
        clips = (f"{task.clips:,}", f"{task.seconds:g}")
        licence = task.licence or "see LICENSE.txt"
        table.add_row(task.task_id, task.name, task.embedding, *clips, *sizes, task.metric, licence)
    console().print(table)
    demo = ", ".join(sorted(p.name for p in DEMO_TASKS.iterdir() if p.is_dir()))
    console().print(f"\nwith the package, under 1 MB (--tasks-dir demo): {demo}", highlight=False)
    return 0
