"""The 19 tasks of HEAR 2021: what each is, how large, and under which licence."""

from __future__ import annotations

import csv
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError, did_you_mean
from ...models.bundled import bundled_path

RATE_PUBLISHED = 48000
RATES = (16000, 22050, 32000, 44100, 48000)
LICENCE_FILE = "LICENSE.txt"
_BYTES_PER_SAMPLE = 2


@dataclass(frozen=True)
class HearTask:
    """One folder of a HEAR task.

    Args:
        task_id: name of the folder.
        name: as publications use it; Beehive States comes as two folders, one a fold.
        embedding: `scene` or `event`.
        prediction: `multiclass` or `multilabel`.
        metric: the task's own score.
        split: how it is split.
        seconds: length of a clip, the mean where clips differ.
        clips: how many.
        licence: of the data set, as commonly cited and not checked by us; empty where it is not known here.

    Source: hearbenchmark.com docs/_data/hear-tasks.yml; licences as commonly cited: the licence file of each
        download is what counts.
    """

    task_id: str
    name: str
    embedding: str
    prediction: str
    metric: str
    split: str
    seconds: float
    clips: int
    licence: str

    def audio_bytes(self, sample_rate: int) -> int:
        """Return about how many bytes the clips have as 16-bit WAV files at a sample rate (Hz)."""
        return round(self.clips * (self.seconds * sample_rate * _BYTES_PER_SAMPLE + 44))


def size_text(count: int) -> str:
    """Write a number of bytes for people."""
    return f"{count / 1e9:.1f} GB" if count >= 10**8 else f"{count / 1e6:.1f} MB"


@functools.cache
def hear_task_list() -> dict[str, HearTask]:
    """Return the tasks by id; 20 folders for 19 tasks."""
    with Path(__file__).with_name("hear19.csv").open(encoding="utf-8", newline="") as file:
        return {row["task_id"]: _task(row) for row in csv.DictReader(file)}


def _task(row: dict[str, str]) -> HearTask:
    words = {key: value for key, value in row.items() if key not in ("seconds", "clips")}
    return HearTask(**words, seconds=float(row["seconds"]), clips=int(row["clips"]))


@functools.cache
def hear_tasks() -> tuple[str, ...]:
    """Return the ids of the ten tasks that papers report, the lines of `tasks.txt`."""
    return tuple(bundled_path("tasks.txt").read_text(encoding="utf-8").split())


def hear_task_names() -> list[str]:
    """Return the names of the ten tasks that papers report."""
    return [task_name(task) for task in hear_tasks()]


def task_name(task: str) -> str:
    """Return the name of a HEAR task as publications use it; of another one, its id without the version."""
    known = hear_task_list().get(task)
    return known.name if known else task.split("-v")[0]


def choose_tasks(names: Sequence[str]) -> list[str]:
    """Return task ids for what a user wrote.

    Args:
        names: ids; a start of ids up to the version ("esc50"); `hear10` for the ten tasks of the papers; `hear19` or
            `all` for all. Nothing means `hear10`.

    Raises:
        DataError: a name fits no task.
    """
    known = hear_task_list()
    groups = {
        "hear10": list(hear_tasks()),
        "hear19": list(known),
        "all": list(known),
        **{task: [task] for task in known},
    }
    chosen: list[str] = []
    for name in names or ["hear10"]:
        found = groups.get(name) or [t for t in known if name in (_first_word(t), t.split("-")[0])]
        if not found:
            words = {_first_word(task) for task in known}
            raise DataError(
                f"no HEAR task {name!r}; {did_you_mean(name, [*words, 'hear10', 'hear19', 'demo'])}"
            )
        chosen += found
    return list(dict.fromkeys(chosen))


def _first_word(task: str) -> str:
    return task.split("-")[0].removeprefix("tfds_")
