"""Getting HEAR tasks: downloaded, checked, unpacked, resampled, and in their place only when complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ...errors import AudioMambaError, DataError, counted
from ...io.files import make_folder
from ...io.locks import locked
from .archives import Archive, Source, archive_name
from .catalogue import LICENCE_FILE, RATE_PUBLISHED, RATES, HearTask, hear_task_list, size_text
from .check import check_task
from .resample import drop_rates, resample_task
from .unpack import forget_marker, unpack

_DOWNLOADS = ".downloads"
_MOST_TIMES_EXPECTED = 4
_UNKNOWN_TASK_TIMES = 20


@dataclass
class Fetcher:
    """Gets tasks into a folder. Killed at any time, the same call continues and ends with the same files.

    Args:
        folder: of the tasks.
        rates: sample rates wanted, Hz.
        source: where the archives come from.
        jobs: processes that resample.
        keep_archives: leave the downloaded archives.
        say: called with a line on each step.
        progress: called with what is going on, how much of it is done, and how much there is (None: not known).
    """

    folder: Path
    rates: Sequence[int] = (16000,)
    source: Source = field(default_factory=Source)
    jobs: int = 1
    keep_archives: bool = False
    say: Callable[[str], None] = lambda line: None
    progress: Callable[[str, int, int | None], None] = lambda what, done, of: None

    def __post_init__(self) -> None:
        wrong = [rate for rate in self.rates if rate not in RATES]
        if wrong or not self.rates:
            raise DataError(f"sample rates {wrong}: HEAR's are {', '.join(map(str, RATES))}")

    def get(self, tasks: Sequence[str]) -> dict[str, str]:
        """Get tasks; one that fails does not keep the others.

        Args:
            tasks: ids.

        Returns:
            What went wrong, by task; empty when all are there.

        Raises:
            DataError: the disk has too little room for the largest of them, or another process works in the folder.
        """
        make_folder(self.folder)
        failed: dict[str, str] = {}
        with locked(self.folder / ".lock", f"{self.folder}: another process is getting tasks there"):
            wanted: dict[str, Archive] = {}
            for task in tasks:
                if self._complete(self.folder / task):
                    self.say(f"{task}: is there")
                    continue
                if (self.folder / task).exists() and not (
                    self.folder / task / "task_metadata.json"
                ).is_file():
                    failed[task] = (
                        f"{self.folder / task} is there without a task_metadata.json, so it is no task or not a "
                        "whole one: delete or rename it, and run this again"
                    )
                    continue
                try:
                    wanted[task] = self.source.find(archive_name(task))
                except AudioMambaError as error:
                    failed[task] = str(error)
            self._check_room(wanted)
            for task, archive in wanted.items():
                try:
                    self._get(task, archive)
                    self.say(f"{task}: done")
                except AudioMambaError as error:
                    failed[task] = str(error)
            if wanted:
                self._get_licence()
        return failed

    def _complete(self, task: Path) -> bool:
        return (task / "task_metadata.json").is_file() and all((task / str(r)).is_dir() for r in self.rates)

    def _get(self, task: str, archive: Archive) -> None:
        final, work = self.folder / task, self.folder / f".getting-{task}"
        downloads = self.folder / _DOWNLOADS
        if (final / str(RATE_PUBLISHED)).is_dir():  # got before with all its clips; only rates are missing
            self._resample(final)
            return
        size = f" ({size_text(archive.size)})" if archive.size else ""
        self.say(f"{task}: downloading{size}")
        file = archive.fetch(downloads, lambda done, of: self.progress(f"{task}: bytes", done, of))
        self.say(f"{task}: unpacking")
        unpack(file, task, work, self._most_bytes(task, archive))
        self._resample(work)
        drop_rates(work, self.rates)
        for rate in self.rates:
            problems = check_task(work, rate).problems
            if problems:
                raise DataError(f"{task}: {'; '.join(problems)}")
        forget_marker(work)
        if final.exists():
            for rate in self.rates:
                if not (final / str(rate)).exists():
                    os.replace(work / str(rate), final / str(rate))
            shutil.rmtree(work)
        else:
            os.replace(work, final)
        if not self.keep_archives:
            file.unlink(missing_ok=True)
            if not any(downloads.iterdir()):
                downloads.rmdir()

    def _resample(self, task: Path) -> None:
        for rate in self.rates:
            name = task.name.removeprefix(".getting-")
            if not (task / str(rate)).is_dir():
                self.say(f"{name}: resampling to {rate} Hz")
            resample_task(task, rate, jobs=self.jobs, progress=partial(self.progress, f"{name}: clips"))

    def _get_licence(self) -> None:
        if not (self.folder / LICENCE_FILE).exists():
            try:
                self.source.find(LICENCE_FILE).fetch(self.folder)
            except AudioMambaError as error:
                self.say(f"no {LICENCE_FILE}: {error}")

    def _check_room(self, wanted: dict[str, Archive]) -> None:
        """Say what the tasks take and refuse to begin what cannot end."""
        if not wanted:
            return
        known = hear_task_list()
        downloads = sum(archive.size or 0 for archive in wanted.values())
        stays = sum(self._kept_bytes(known.get(task), archive) for task, archive in wanted.items())
        peak = max(
            (archive.size or 0) + self._unpacked_bytes(known.get(task), archive)
            for task, archive in wanted.items()
        )
        free = shutil.disk_usage(self.folder).free
        self.say(
            f"{counted(len(wanted), 'task')}: {size_text(downloads)} to download, about {size_text(stays)} when done, "
            f"up to {size_text(stays + peak)} meanwhile; {size_text(free)} free in {self.folder}"
        )
        if stays + peak > free:
            raise DataError(
                f"{self.folder}: {size_text(stays + peak)} are needed, {size_text(free)} are free; "
                "get fewer tasks at a time, or name a folder on another disk"
            )

    def _kept_bytes(self, task: HearTask | None, archive: Archive) -> int:
        if task is None:
            return 2 * (archive.size or 0)
        return sum(task.audio_bytes(rate) for rate in self.rates)

    def _unpacked_bytes(self, task: HearTask | None, archive: Archive) -> int:
        return task.audio_bytes(RATE_PUBLISHED) if task else 2 * (archive.size or 0)

    def _most_bytes(self, task: str, archive: Archive) -> int:
        known = hear_task_list().get(task)
        if known:
            return _MOST_TIMES_EXPECTED * known.audio_bytes(RATE_PUBLISHED) + 10**8
        return _UNKNOWN_TASK_TIMES * (archive.size or 10**9)
