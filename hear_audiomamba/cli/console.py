"""The console that tables are printed to, and the one style of a table."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table


def console() -> Console:
    """Return a console as wide as the terminal, or wide enough for any table where there is none."""
    return Console(width=None if sys.stdout.isatty() else 160)


def table(*columns: str, right: Sequence[str] = (), title: str | None = None) -> Table:
    """Return an empty table with these columns; those named in `right` hold numbers."""
    made = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left")
    return made
