"""What `evaluate` shows while it works: a live table on a terminal; elsewhere a line a change and a line a minute."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import counted
from ..evaluate.study.cell import Cell

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

EVERY_SECONDS = 60.0
_COLOURS = {"waiting": "dim", "embedding": "cyan", "predicting": "cyan", "done": "green", "failed": "red"}


class StudyView:
    """Shows the cells of a study.

    Args:
        console: where to.
        every: seconds between lines on what is running, where there is no terminal.
    """

    def __init__(self, console: Console, every: float = EVERY_SECONDS) -> None:
        self.console, self.every = console, every
        self.cells: Sequence[Cell] = ()
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._live = False

    def __enter__(self) -> None:
        from rich.live import Live

        if self.console.is_terminal:
            self._table = Live(get_renderable=self.table, console=self.console, refresh_per_second=2)
            self._table.start()
            self._live = True
        else:
            self._thread = threading.Thread(target=self._tell, daemon=True)
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._live:
            self._table.stop()
            self._live = False
        if self._thread:
            self._thread.join()

    def changed(self, cell: Cell, message: str) -> None:
        """Say that a cell has changed, unless the live table shows it."""
        if not self._live:
            self.line(f"{cell.entrant.name}, {cell.check.task}: {message}")

    def line(self, text: str) -> None:
        """Write one line with the time since the start."""
        with self._lock:
            sys.stdout.write(f"[{time.monotonic() - self._began:6.0f} s] {text}\n")
            sys.stdout.flush()

    def table(self) -> Table:
        """Return the table: a row a task, a column a model, and below it what is running."""
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

    def _tell(self) -> None:
        while not self._stop.wait(self.every):
            for cell in self.cells:
                for name, step in list(cell.steps.items()):
                    self.line(f"{cell.entrant.name}, {cell.check.task}: {name}: {step.describe()}")


def _cell_text(cell: Cell) -> str:
    values = [r["value"] for r in cell.runs.values()]
    score = f"{100 * sum(values) / len(values):.1f} " if values else ""
    nan = sum(r["ended_by_nan"] for r in cell.runs.values())
    note = f" [yellow]{nan} NaN[/]" if nan else ""
    done = f" {counted(len(values), 'run')}" if values else ""
    running = "".join(f"\n[dim]{name}: {step.describe()}[/]" for name, step in list(cell.steps.items()))
    return f"{score}[{_COLOURS[cell.state]}]{cell.state}{done}[/]{note}{running}"
