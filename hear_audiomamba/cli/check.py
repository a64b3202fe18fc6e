"""`hear-audiomamba check MODULE_OR_NAME`: the validator's checks as a readable table."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, counted, did_you_mean, one_line

if TYPE_CHECKING:
    from ..embedding.check import Check

_COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("module", help="a HEAR module that can be imported, a variant, or a weights file")
    parser.add_argument(
        "--model", default="", metavar="FILE", help="weights file for the module's load_model"
    )


def run(args: argparse.Namespace) -> int:
    from .console import console, table

    counts = {"ok": 0, "warning": 0, "error": 0}
    rows = table("check", "result", "detail")
    for check in _checks(args.module, args.model):
        counts[check.status] += 1
        rows.add_row(check.name, f"[{_COLOURS[check.status]}]{check.status}[/]", check.detail)
    out = console()
    out.print(rows)
    warnings, errors = counted(counts["warning"], "warning"), counted(counts["error"], "error")
    out.print(f"{counts['ok']} ok, {warnings}, {errors}")
    return 1 if counts["error"] else 0


def _checks(name: str, weights: str) -> Iterator[Check]:
    from .. import hear
    from ..embedding.check import check_module
    from ..models.registry import ALIASES, VARIANTS

    base = name.partition(".")[0]
    if base in VARIANTS or base in ALIASES or Path(name).is_file():
        return check_module(hear, lambda: hear.load_model(name, device="cpu"))
    try:
        module = importlib.import_module(name)
    except (ImportError, ValueError) as error:
        hint = did_you_mean(name, [*VARIANTS, *ALIASES])
        raise InputError(f"{name!r} is no model ({hint}) and cannot be imported: {one_line(error)}") from None
    return check_module(module, lambda: module.load_model(weights) if weights else module.load_model())
