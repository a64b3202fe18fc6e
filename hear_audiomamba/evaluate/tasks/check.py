"""Checks of a folder of HEAR tasks, before hours are spent on it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import AudioReadError, DataError, counted
from ...io.audio import open_audio

HOW_TO_GET = "`hear-audiomamba tasks get` downloads HEAR's tasks, --tasks-dir demo needs none"
_NAMED = 3


@dataclass
class TaskCheck:
    """What was found in the folder of one task.

    Args:
        task: its id.
        problems: what is wrong, in words; empty when it can be evaluated.
        metadata: `task_metadata.json`, empty when unreadable.
        clips: how many clips its splits list.
        fingerprint: of metadata, vocabulary and labels.
    """

    task: str
    problems: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    clips: int = 0
    fingerprint: str = ""


def require_folder(folder: Path) -> None:
    """Refuse a folder of tasks that does not exist.

    Raises:
        DataError: the message says how to get tasks.
    """
    if not folder.is_dir():
        raise DataError(f"no tasks folder {folder}; {HOW_TO_GET}")


def tasks_in(folder: Path) -> list[str]:
    """Return the ids of all HEAR tasks in a folder, sorted.

    Raises:
        DataError: the folder does not exist, or holds no task.
    """
    require_folder(folder)
    found = sorted(path.parent.name for path in folder.glob("*/task_metadata.json"))
    if not found:
        raise DataError(f"{folder} holds no HEAR task: no folder in it has a task_metadata.json")
    return found


def check_tasks(folder: Path, tasks: Sequence[str], sample_rate: int) -> tuple[list[TaskCheck], list[str]]:
    """Check tasks before they are evaluated at a sample rate.

    Args:
        folder: folder of HEAR tasks.
        tasks: ids, names of folders in it.
        sample_rate: Hz, of the model.

    Returns:
        One check a task, and the names of entries that are no task asked for.

    Raises:
        DataError: the folder does not exist.
    """
    require_folder(folder)
    checks = [check_task(folder / task, sample_rate) for task in tasks]
    strays = sorted(p.name for p in folder.iterdir() if p.name not in set(tasks))
    return checks, strays


def check_task(folder: Path, sample_rate: int) -> TaskCheck:
    """Check one task: files, sample rate, and that every listed clip is there.

    Args:
        folder: of the task.
        sample_rate: Hz, that the model needs.

    Returns:
        What was found.
    """
    check = TaskCheck(folder.name)
    if not folder.is_dir():
        check.problems.append(f"no folder of this name: hear-audiomamba tasks get {folder.name}")
        return check
    digest = hashlib.sha256()
    if not (folder / "task_metadata.json").is_file():
        check.problems.append(
            "no task_metadata.json, so it is no task or not a whole one: delete the folder, and then "
            f"hear-audiomamba tasks get {folder.name}"
        )
        return check
    try:
        text = (folder / "task_metadata.json").read_bytes()
        check.metadata = json.loads(text)
        splits = list(check.metadata["splits"])
        check.metadata["evaluation"][0], check.metadata["embedding_type"], check.metadata["prediction_type"]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        check.problems.append(f"task_metadata.json cannot be used: {error!r}")
        return check
    digest.update(text)
    if not (folder / "labelvocabulary.csv").is_file():
        check.problems.append("no labelvocabulary.csv")
    else:
        digest.update((folder / "labelvocabulary.csv").read_bytes())
    rates = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name.isdigit())
    if str(sample_rate) not in rates:
        there = f"only at {', '.join(rates)} Hz" if rates else "nor at another rate"
        how = f": hear-audiomamba tasks resample --tasks-dir {folder.parent} --rates {sample_rate}"
        check.problems.append(f"no audio at {sample_rate} Hz, {there}{how if rates else ''}")
        return check
    for split in splits:
        try:
            labels = (folder / f"{split}.json").read_bytes()
            names = list(json.loads(labels))
        except (OSError, ValueError) as error:
            check.problems.append(f"{split}.json cannot be used: {error!r}")
            continue
        digest.update(labels)
        check.clips += len(names)
        check.problems.extend(_audio_problems(folder / str(sample_rate) / split, names, sample_rate))
    check.fingerprint = digest.hexdigest()
    return check


def _audio_problems(folder: Path, names: list[str], sample_rate: int) -> list[str]:
    if not names:
        return [f"{folder.name}.json lists no clips"]
    there = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    missing = [n for n in names if n not in there]
    if missing:
        some = ", ".join(missing[:_NAMED]) + ("…" if len(missing) > _NAMED else "")
        return [f"{len(missing)} of {counted(len(names), 'clip')} of {folder.name} missing: {some}"]
    # One clip a split tells a folder under a wrong name; every clip would be as slow as embedding them.
    try:
        with open_audio(folder / names[0], name=f"{folder.name}/{names[0]}") as clip:
            rate = clip.sample_rate
    except AudioReadError as error:
        return [f"cannot be read: {error}"]
    return [] if rate == sample_rate else [f"{folder.name}/{names[0]} has {rate} Hz, not {sample_rate}"]
