"""Which units of an output folder are complete, and how far those are that are not.

Below the journal's folder, `units/00000.json` is the record of a unit whose files are in their places.
`parts/00000/` holds what there is of a unit under way, and `progress.json` in it says from where it can
be continued.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..io.files import read_json, sync_all, sync_folder, write_text


@dataclass(frozen=True)
class Begun:
    """How far a unit is that has been begun.

    Attributes:
        done: how many of its sources need not be done again: the first ones.
        facts: of the record, so far.
        mark: what its writer needs to continue (`UnitWriter.resume`).
        files: names of files that are in their places already.
    """

    done: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    mark: dict[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()


class Records:
    """The records of an output folder's units.

    Args:
        out: the output folder.
        units: folder of the records.
        parts: folder for units under way.
        tmp: for files that are being written; emptied by its owner.
    """

    def __init__(self, out: Path, units: Path, parts: Path, tmp: Path) -> None:
        self.out, self._units, self._parts, self._tmp = out, units, parts, tmp
        self._published = False

    def complete_record(self, number: int) -> dict[str, Any] | None:
        """Return the record of a complete unit, None if it is not complete.

        Raises:
            DataError: the record is damaged.
        """
        record = self._record(number)
        return None if record is None or record.get("open") else record

    def begun(self, number: int) -> Begun:
        """Return how far a unit is; one that was not begun, or not in a way to continue from, is at the start."""
        path = self._parts_of(number) / "progress.json"
        if not path.is_file():
            return Begun()
        held = read_json(path)
        try:
            return Begun(int(held["done"]), dict(held["facts"]), dict(held["mark"]), tuple(held["files"]))
        except (KeyError, TypeError, ValueError):
            raise DataError(f"{path}: cannot be read; delete it") from None

    def folder(self, number: int) -> Path:
        """Return the folder for the files of a unit until they are complete; made if need be."""
        folder = self._parts_of(number)
        if not (folder / "progress.json").is_file():
            shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed before it could say how far
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def publish(self, number: int, names: Iterable[str]) -> None:
        """Move complete files of a unit from its folder to their places."""
        folder = self._parts_of(number)
        names = [name for name in names if (folder / name).exists()]
        self._published = self._published or bool(names)
        sync_all(folder / name for name in names)
        for name in names:
            target = self.out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(folder / name, target)
        for parent in {(self.out / name).parent for name in names}:
            sync_folder(parent)

    def advance(self, number: int, begun: Begun) -> None:
        """Put on record how far a unit is; what it says must be on disk."""
        held = {"done": begun.done, "facts": begun.facts, "mark": begun.mark, "files": list(begun.files)}
        write_text(
            self._parts_of(number) / "progress.json", json.dumps(held, sort_keys=True), within=self._tmp
        )

    def complete(self, number: int, names: Sequence[str], facts: dict[str, Any]) -> None:
        """Put on record that a unit is complete: its files are in their places.

        Files of an earlier time that the unit no longer has are deleted, so that a source that cannot be
        read any more does not keep its old embedding.
        """
        earlier = self._record(number)
        for name in set((earlier or {}).get("files", ())) - set(names):
            (self.out / name).unlink(missing_ok=True)
        record = {"unit": number, "files": list(names), **facts}
        self._write(number, record)
        shutil.rmtree(self._parts_of(number), ignore_errors=True)

    def reopen(self, number: int, stale: Iterable[str] = ()) -> None:
        """Have a unit done again from its start.

        Args:
            number: the unit's.
            stale: names of its files that must not be there until then.
        """
        record = self._record(number) or {}
        files = sorted({*record.get("files", ()), *self.begun(number).files})
        if record or files:
            kept = {"unit": number, "files": files, "open": True}
            self._write(number, kept)
        shutil.rmtree(self._parts_of(number), ignore_errors=True)
        for name in set(stale) & set(files):
            (self.out / name).unlink(missing_ok=True)

    def tidy(self, number: int) -> None:
        """Delete what a run that was killed left of a unit that is complete."""
        shutil.rmtree(self._parts_of(number), ignore_errors=True)

    def any(self) -> bool:
        """Tell whether any unit is complete or begun, or a file of one was put in its place."""
        return self._published or any(self._units.glob("*.json")) or any(self._parts.glob("*/progress.json"))

    def discard(self) -> None:
        """Delete all records and the files that they name, and nothing else."""
        for path in sorted([*self._units.glob("*.json"), *self._parts.glob("*/progress.json")]):
            try:
                names = read_json(path)["files"]
            except (DataError, KeyError):
                names = []
            for name in names:
                (self.out / name).unlink(missing_ok=True)
            path.unlink()
        shutil.rmtree(self._parts, ignore_errors=True)

    def _record(self, number: int) -> dict[str, Any] | None:
        path = self._record_path(number)
        if not path.exists():
            return None
        try:
            return read_json(path)
        except DataError as error:
            raise DataError(f"{error}; delete it") from None

    def _write(self, number: int, record: dict[str, Any]) -> None:
        text = json.dumps(record, sort_keys=True) + "\n"
        write_text(self._record_path(number), text, within=self._tmp)

    def _record_path(self, number: int) -> Path:
        return self._units / f"{number:05d}.json"

    def _parts_of(self, number: int) -> Path:
        return self._parts / f"{number:05d}"
