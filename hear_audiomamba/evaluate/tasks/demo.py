"""The two tiny tasks that ship with the package, and the name by which they are asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from ...io.files import replacing

DEMO = "demo"
DEMO_TASKS = Path(__file__).resolve().parents[1] / "demo_tasks"


def tasks_folder(given: Path) -> Path:
    """Return the folder of tasks that is meant: "demo" is the shipped one unless there is a folder of that name."""
    return DEMO_TASKS if given == Path(DEMO) and not given.is_dir() else given


def copy_demo(folder: Path) -> Iterator[str]:
    """Copy the shipped tasks into a folder of tasks, each file as a whole.

    Args:
        folder: it is made; what else is in it, as clips at further rates, stays.

    Yields:
        The id of each task, once it is there.

    Raises:
        OutputError: a file cannot be written.
    """
    for task in sorted(path for path in DEMO_TASKS.iterdir() if path.is_dir()):
        for file in sorted(path for path in task.rglob("*") if path.is_file()):
            with replacing(folder / task.name / file.relative_to(task)) as partial:
                shutil.copyfile(file, partial)
        yield task.name
