"""The console that tables are printed to."""

from __future__ import annotations

import sys

from rich.console import Console


def console() -> Console:
    """Return a console as wide as the terminal, or wide enough for any table where there is none."""
    return Console(width=None if sys.stdout.isatty() else 160)
