"""The memory of a run: what is to be done, in which units, and which of them are complete.

Below the output folder, `.hear-audiomamba/` holds

- `run.json`: the settings all results of the folder were made with;
- `plan.jsonl`: every source with the number of its unit; only ever added to;
- `units/00000.json`: the record of a complete unit, written after its files are in place;
- `lock`, `tmp-…/`: who works here, and what is not complete yet.

A unit is embedded as a whole or not at all, and its batches depend on nothing outside it: that is why a
run that was killed and started again ends with the same bytes as one that was not.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import DataError
from .options import MAX_UNIT_BYTES
from .sources import Source, unique_names

FOLDER = ".hear-audiomamba"
MOST_BYTES_A_SECOND = 192_000  # two channels of 16 bits at 48 kHz, to guess what a stretch of a file weighs


@dataclass(frozen=True)
class Unit:
    """Sources that are embedded together, and their number."""

    number: int
    sources: tuple[Source, ...]


class Journal:
    """The journal of an output folder, held by one process, or by several with a share each.

    Args:
        out: the output folder; made if need be.
        settings: what the results depend on; a folder made with others is refused.
        share: (i, n) to do only each n-th unit, beginning with the i-th; others may do theirs meanwhile.
        overwrite: throw away what an earlier run made here.

    Attributes:
        tmp: a folder for files that are not complete; emptied when the journal is opened and closed.
        fresh: no run was here before.

    Raises:
        DataError: another process works here, or the folder holds results of other settings.
    """

    def __init__(
        self,
        out: Path,
        settings: dict[str, Any],
        share: tuple[int, int] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.out, self.folder = out, out / FOLDER
        self._settings, self._share, self._overwrite = settings, share, overwrite
        self._locks: list[Any] = []
        self.fresh = False
        label = "all" if share is None else f"{share[0]}-of-{share[1]}"
        self.label = label
        self.tmp = self.folder / f"tmp-{label}"

    def __enter__(self) -> Journal:
        (self.folder / "units").mkdir(parents=True, exist_ok=True)
        try:
            self._lock("lock", shared=self._share is not None)
            if self._share is not None:
                self._lock(f"lock-{self.label}", shared=False)
            # What a killed run left unfinished; whoever holds the lock owns the folder.
            shutil.rmtree(self.tmp, ignore_errors=True)
            self.tmp.mkdir()
            with self._planning():
                self._check_settings()
        except BaseException:
            self._unlock()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.tmp, ignore_errors=True)
        self._unlock()

    def _unlock(self) -> None:
        for file in self._locks:
            file.close()

    def write(self, path: Path, text: str) -> None:
        """Write a text file atomically; if this process is killed meanwhile, nothing of it stays."""
        write_atomically(path, text, self.tmp)

    def plan(self, sources: Sequence[Source], unit_sources: int) -> list[Unit]:
        """Put sources that are new into units, and return the units that hold any of those given.

        A source whose file has changed makes its unit incomplete again.
        """
        with self._planning():
            known = read_plan(self.out)
            numbers = {source.key: number for number, source in known}
            states = {source.key: source for _, source in known}
            changed = [s for s in sources if s.key in states and _state(s) != _state(states[s.key])]
            for source in changed:
                self._record_path(numbers[source.key]).unlink(missing_ok=True)
            fresh = {source.key: source for source in changed}
            plan = [(n, _with_state(s, fresh[s.key]) if s.key in fresh else s) for n, s in known]
            new = [source for source in sources if source.key not in numbers]
            new = unique_names(new, frozenset(source.name for _, source in known))
            first = 1 + max((n for n, _ in plan), default=-1)
            plan += _into_units(new, first, unit_sources)
            if new or changed:
                lines = [json.dumps({"unit": n, **s.to_dict()}, sort_keys=True) for n, s in plan]
                self.write(self.folder / "plan.jsonl", "".join(line + "\n" for line in lines))
        wanted = {source.key for source in sources}
        units: dict[int, list[Source]] = {}
        for number, source in plan:
            units.setdefault(number, []).append(source)
        units = {n: held for n, held in units.items() if any(s.key in wanted for s in held)}
        if self._share is not None:
            units = {n: held for n, held in units.items() if n % self._share[1] == self._share[0]}
        return [Unit(n, tuple(held)) for n, held in units.items()]

    def record(self, unit: Unit) -> dict[str, Any] | None:
        """Return the record of a complete unit, None if it is not complete."""
        try:
            return json.loads(self._record_path(unit.number).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise DataError(f"{self._record_path(unit.number)}: cannot be read: {error}; delete it") from None

    def complete(self, unit: Unit, folder: Path, names: Sequence[str], facts: dict[str, Any]) -> None:
        """Move a unit's files to their places, then write its record."""
        # Many at once: the file system then writes its own journal once for several of them.
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda name: _sync(folder / name), names))
        for name in names:
            target = self.out / name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(folder / name, target)
        for parent in {(self.out / name).parent for name in names}:
            _sync(parent)
        record = {"unit": unit.number, "files": list(names), **facts}
        self.write(self._record_path(unit.number), json.dumps(record, sort_keys=True) + "\n")

    def _record_path(self, number: int) -> Path:
        return self.folder / "units" / f"{number:05d}.json"

    def _check_settings(self) -> None:
        path = self.folder / "run.json"
        if self._overwrite:
            self._discard()
        if not path.exists():
            self.fresh = True
            self.write(path, json.dumps(self._settings, sort_keys=True, indent=1) + "\n")
            return
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read: {error}; use --overwrite to start anew") from None
        differing = list(_differences(earlier, self._settings))
        if differing:
            raise DataError(
                f"{self.out} holds embeddings made with other settings ({'; '.join(differing[:3])}); "
                "use another --out, or --overwrite to replace them"
            )

    def _discard(self) -> None:
        """Delete what earlier runs made here, and nothing else."""
        for path in sorted((self.folder / "units").glob("*.json")):
            try:
                names = json.loads(path.read_text(encoding="utf-8"))["files"]
            except (OSError, ValueError, KeyError):
                names = []
            path.unlink()
            for name in names:
                (self.out / name).unlink(missing_ok=True)
        for name in ("plan.jsonl", "run.json"):
            (self.folder / name).unlink(missing_ok=True)

    def _lock(self, name: str, shared: bool) -> None:
        file = open(self.folder / name, "w")  # noqa: SIM115
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            file.close()
            busy = f"{self.out}: another process is writing there; wait for it, or use another --out"
            raise DataError(busy) from None
        self._locks.append(file)

    @contextmanager
    def _planning(self) -> Iterator[None]:
        """Only one process at a time reads and extends settings and plan."""
        with open(self.folder / "lock-plan", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def read_plan(out: Path) -> list[tuple[int, Source]]:
    """Return the sources of an output folder, done or not, each with the number of its unit.

    Raises:
        DataError: the folder's plan is damaged.
    """
    path = out / FOLDER / "plan.jsonl"
    if not path.exists():
        return []
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [(row.pop("unit"), Source(**row)) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read: {error}; use --overwrite to start anew") from None


def write_atomically(path: Path, text: str, tmp: Path | None = None) -> None:
    """Write a text file that appears under its name only when it is complete and on disk.

    Args:
        path: the file.
        text: what it shall hold.
        tmp: where it may be until then, on the same file system; by default beside it.
    """
    partial = (tmp or path.parent) / f".{path.name}.{os.getpid()}"
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _into_units(sources: Sequence[Source], first: int, unit_sources: int) -> list[tuple[int, Source]]:
    placed: list[tuple[int, Source]] = []
    number, count, n_bytes = first, 0, 0.0
    for source in sources:
        weight = min(source.size, source.duration * MOST_BYTES_A_SECOND) if source.duration else source.size
        if count and (count == unit_sources or n_bytes + weight > MAX_UNIT_BYTES):
            number, count, n_bytes = number + 1, 0, 0.0
        placed.append((number, source))
        count, n_bytes = count + 1, n_bytes + weight
    return placed


def _state(source: Source) -> tuple[int, int, int]:
    return source.size, source.mtime_ns, source.offset


def _with_state(source: Source, now: Source) -> Source:
    return replace(source, size=now.size, mtime_ns=now.mtime_ns, offset=now.offset)


def _differences(earlier: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key in sorted({*earlier, *now}):
        old, new = earlier.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}: {old} there, {new} now"


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
