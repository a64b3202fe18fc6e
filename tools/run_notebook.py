"""Execute a notebook of the documentation, and keep small outputs of it: text and pictures.

usage: python tools/run_notebook.py docs/tour.ipynb [OUT]     (needs the extra "docs"; by default in place)
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

# What a terminal shows in colour, and speeds and times, which differ from run to run.
NOISE = re.compile(r"\x1b\[[0-9;]*m|\r|; [\d.]+ s, \d+ × real time")


def run(notebook: Path, out: Path) -> None:
    """Execute a notebook in an empty folder with this Python, and write it with its outputs.

    Args:
        notebook: the `.ipynb` file.
        out: the file to write; may be the notebook.

    Raises:
        CellExecutionError: a cell fails.
    """
    held: Any = nbformat.read(notebook, as_version=4)
    here = Path(sys.executable).parent
    os.environ["PATH"] = f"{here}{os.pathsep}{os.environ['PATH']}"
    os.environ["COLUMNS"] = "100"
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(held, timeout=3600, resources={"metadata": {"path": folder}}).execute()
    for cell in held.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = _small(cell.outputs)
    held.metadata = {"kernelspec": held.metadata["kernelspec"]}
    nbformat.write(held, out)


def _small(outputs: list[Any]) -> list[Any]:
    """Return the outputs of a cell without what changes from run to run, text in one piece."""
    kept: list[Any] = []
    for output in outputs:
        if output.output_type == "stream":
            text = NOISE.sub("", output.text)
            if kept and kept[-1].output_type == "stream" and kept[-1].name == output.name:
                kept[-1].text += text
                continue
            output.text = text
        else:
            output.metadata = {}
        if output.output_type == "execute_result":
            output.execution_count = None
        kept.append(output)
    return kept


def main(arguments: Sequence[str]) -> int:
    """Run from the command line."""
    notebook = Path(arguments[0])
    run(notebook, Path(arguments[1]) if len(arguments) > 1 else notebook)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
