"""The memory of a run: what is to be done, in which units, and which of them are complete.

Below the output folder, `.hear-audiomamba/` holds

- `run.json`: the settings all results of the folder were made with;
- `plan.jsonl`: every source with the number of its unit; only ever added to;
- `units/`, `parts/`: which units are complete, and how far the others are (`records.py`);
- `lock…`, `tmp-…/`: who works here, and files that only this process needs.

What a source's batches hold depends on nothing outside its unit, and a unit is continued only where
no batch was open: that is why a run that was killed and started again ends with the same bytes as one
that was not.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..io.files import make_folder, write_text
from ..io.locks import locked
from .options import MAX_UNIT_BYTES
from .records import Records
from .sources import Source, unique_names

FOLDER = ".hear-audiomamba"
MOST_BYTES_A_SECOND = 192_000  # two channels of 16 bits at 48 kHz, to guess what a stretch of a file weighs
_PLANNING_SECONDS = 600.0


@dataclass(frozen=True)
class Unit:
    """Sources that are embedded together, and their number."""

    number: int
    sources: tuple[Source, ...]


class Journal:
    """The journal of an output folder, held by one process, or by several with a share each.

    Args:
        out: the output folder; made if need be.
        settings: what the results depend on; a folder that holds results of others is refused.
        share: (i, n) to do only each n-th unit, beginning with the i-th; others may do theirs meanwhile.
        overwrite: throw away what an earlier run made here.

    Attributes:
        records: of the units.
        tmp: a folder for files that only this process needs; emptied when the journal is opened and closed.
        fresh: no run was here before.

    Raises:
        DataError: another process works here, or the folder holds results of other settings.
        OutputError: the folder cannot be written to.
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
        self._held = ExitStack()
        self.fresh = False
        label = "all" if share is None else f"{share[0]}-of-{share[1]}"
        self.label = label
        self.tmp = self.folder / f"tmp-{label}"
        self.records = Records(out, self.folder / "units", self.folder / "parts", self.tmp)

    def __enter__(self) -> Journal:
        make_folder(self.out)
        make_folder(self.folder / "units")
        with ExitStack() as held, self._planning():
            self._lock(held)
            # What a killed run left unfinished; the process that holds the lock owns the folder.
            shutil.rmtree(self.tmp, ignore_errors=True)
            self.tmp.mkdir(exist_ok=True)  # some file systems keep what is still open somewhere
            self._check_settings()
            self._held = held.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.tmp, ignore_errors=True)
        if self._share is None and not self.records.any():
            # Nothing was made: other settings may be tried in this folder.
            for name in ("plan.jsonl", "run.json"):
                (self.folder / name).unlink(missing_ok=True)
        self._held.close()

    def write(self, path: Path, text: str) -> None:
        """Write a text file atomically; if this process is killed meanwhile, nothing of it stays."""
        write_text(path, text, within=self.tmp)

    def plan(self, sources: Sequence[Source], unit_sources: int) -> list[Unit]:
        """Put sources that are new into units, and return the units that hold any of those given.

        A source whose file has changed opens its unit again, and its earlier result is deleted.

        Args:
            sources: what is to be embedded.
            unit_sources: most sources in a unit; fewer where that gives each share as many as the others.
        """
        with self._planning():
            known = read_plan(self.out)
            numbers = {source.key: number for number, source in known}
            states = {source.key: source for _, source in known}
            changed = [
                s
                for s in sources
                if s.key in states and _state(s) != _state(states[s.key]) and self._own(numbers[s.key])
            ]
            stale: dict[int, list[str]] = {}
            for source in changed:
                stale.setdefault(numbers[source.key], []).append(f"{states[source.key].name}.npz")
            for number, names in stale.items():
                self.records.reopen(number, names)
            fresh = {source.key: source for source in changed}
            plan = [(n, _with_state(s, fresh[s.key]) if s.key in fresh else s) for n, s in known]
            new = [source for source in sources if source.key not in numbers]
            new = unique_names(new, frozenset(source.name for _, source in known))
            first = 1 + max((n for n, _ in plan), default=-1)
            shares = 1 if self._share is None else self._share[1]
            plan += _into_units(new, first, _evenly(len(new), unit_sources, shares))
            if new or changed:
                lines = [json.dumps({"unit": n, **s.to_dict()}, sort_keys=True) for n, s in plan]
                self.write(self.folder / "plan.jsonl", "".join(line + "\n" for line in lines))
        wanted = {source.key for source in sources}
        units: dict[int, list[Source]] = {}
        for number, source in plan:
            units.setdefault(number, []).append(source)
        units = {n: held for n, held in units.items() if any(s.key in wanted for s in held)}
        return [Unit(n, tuple(held)) for n, held in units.items() if self._own(n)]

    def _own(self, number: int) -> bool:
        return self._share is None or number % self._share[1] == self._share[0]

    def _check_settings(self) -> None:
        path = self.folder / "run.json"
        if self._overwrite:
            self._discard()
        earlier = None
        if path.exists():
            try:
                earlier = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError) as error:
                raise DataError(f"{path}: cannot be read: {error}; use --overwrite to start again") from None
        differing = [] if earlier is None else list(_differences(earlier, self._settings))
        if differing and self._share is None and not self.records.any():
            self._discard()  # of a run that was killed before it made anything
            earlier, differing = None, []
        if differing:
            raise DataError(
                f"{self.out} holds embeddings made with other settings ({'; '.join(differing[:3])}); "
                "use another --out, or --overwrite to replace them"
            )
        if earlier is None:
            self.fresh = True
            self.write(path, json.dumps(self._settings, sort_keys=True, indent=1) + "\n")

    def _discard(self) -> None:
        """Delete what earlier runs made here, and nothing else."""
        self.records.discard()
        for name in ("plan.jsonl", "run.json"):
            (self.folder / name).unlink(missing_ok=True)

    def _lock(self, held: ExitStack) -> None:
        """Take the lock of the whole folder, or that of a share; only ever while planning.

        A lock has one holder. So a share sees whether the whole folder's is free, and a whole run
        whether all shares' are.
        """
        busy = f"{self.out}: another process is writing there; wait for it, or use another --out"
        whole, own = self.folder / "lock", self.folder / f"lock-{self.label}"
        if self._share is not None:
            with locked(whole, busy):
                pass
            held.enter_context(locked(own, busy))
            return
        held.enter_context(locked(whole, busy))
        for name in {path.name.removesuffix(".held") for path in self.folder.glob("lock-*-of-*")}:
            with locked(self.folder / name, busy):
                pass

    @contextmanager
    def _planning(self) -> Iterator[None]:
        """Only one process at a time takes locks, reads and extends settings and plan."""
        busy = f"{self.out}: another process has been planning there for {_PLANNING_SECONDS / 60:g} minutes"
        with locked(self.folder / "lock-plan", busy, wait=_PLANNING_SECONDS):
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
        return [(int(row.pop("unit")), Source(**row)) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read: {error}; use --overwrite to start again") from None


def _evenly(n_sources: int, most: int, shares: int) -> int:
    """Return how many sources a unit gets, so that every share has as many units as the others."""
    rounds = max(1, math.ceil(n_sources / (most * shares)))
    return max(1, min(most, math.ceil(n_sources / (rounds * shares))))


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


def _state(source: Source) -> tuple[int, int, int, str | None]:
    return source.size, source.mtime_ns, source.offset, source.fault


def _with_state(source: Source, now: Source) -> Source:
    return replace(source, size=now.size, mtime_ns=now.mtime_ns, offset=now.offset, fault=now.fault)


def _differences(earlier: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key in sorted({*earlier, *now}):
        old, new = earlier.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}: {old} there, {new} now"
