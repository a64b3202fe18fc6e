"""What keeps the finished part of a unit safe while the rest of it is under way."""

from __future__ import annotations

import errno
import time
from collections import deque
from contextlib import suppress
from typing import Any

from .clips import SourceJob
from .journal import Unit
from .records import Begun, Records
from .sources import Source
from .writers import UnitWriter

# How often finished files are put in their places and on record. They are at the end of a run in any
# case, and when it is interrupted; a power cut costs what was done since.
KEEP_SECONDS = 2.0
# What a file system says to a name that it cannot store; the other files' names may be fine.
_BAD_NAME = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}


class Keeper:
    """Takes the sources of a unit in their order, and puts on record how far the unit is.

    Args:
        records: of the output folder.
        unit: what is embedded.
        begun: how far it was.
        writer: of its files, resumed there.
    """

    def __init__(self, records: Records, unit: Unit, begun: Begun, writer: UnitWriter) -> None:
        self._records, self._unit, self._writer = records, unit, writer
        self._files = list(begun.files)
        self._facts: dict[str, Any] = {
            "sources": len(unit.sources), "clips": 0, "audio_seconds": 0.0, "errors": [], "truncated": [],
            **begun.facts,
        }  # fmt: skip
        self._n_settled = begun.done
        self._borders: deque[int] = deque()
        self._safe = begun
        self._n_published = 0
        self._kept_at = time.monotonic()

    def add(self, source: Source, job: SourceJob) -> str | None:
        """Write the embeddings of the next source; return why its file cannot be made, None if it can."""
        try:
            self._writer.add(source, job.clips)
        except OSError as error:
            if error.errno not in _BAD_NAME:
                raise
            return f"{source.label}: its result cannot be written: {error.strerror}"
        self._facts["clips"] += len(job.clips)
        self._facts["audio_seconds"] += job.seconds
        if job.missing:
            note = {"path": source.label, "start": source.start, "missing": job.missing}
            self._facts["truncated"].append(note)
        self._settled()
        return None

    def failed(self, source: Source, reason: str) -> None:
        """Note that the next source has no embeddings, and why."""
        self._facts["errors"].append({"path": source.label, "start": source.start, "reason": reason})
        self._settled()

    def border(self, n_sources: int) -> None:
        """Note that no batch holds windows from both sides of this number of sources."""
        self._borders.append(n_sources)
        self._note()

    def keep(self) -> None:
        """Put on record what is finished, if the last time was a while ago."""
        if time.monotonic() - self._kept_at >= KEEP_SECONDS:
            self._keep()

    def save(self) -> None:
        """Put on record what is finished, as the run ends and as far as the disk has room."""
        with suppress(OSError):
            self._keep()

    def complete(self) -> None:
        """Complete the unit."""
        new = self._writer.close()[self._n_published :]
        self._records.publish(self._unit.number, new)
        # Those beyond the last border may have been in their places before, and were made again.
        self._records.complete(self._unit.number, list(dict.fromkeys([*self._files, *new])), self._facts)

    def _settled(self) -> None:
        self._n_settled += 1
        self._note()

    def _note(self) -> None:
        """Remember the state at the latest border before which every source is written or has failed."""
        if not self._borders or self._borders[0] != self._n_settled:
            return
        self._borders.popleft()
        mark = self._writer.mark()
        if mark is not None:
            facts = {k: list(v) if isinstance(v, list) else v for k, v in self._facts.items()}
            self._safe = Begun(self._n_settled, facts, mark, ())

    def _keep(self) -> None:
        self._kept_at = time.monotonic()
        number, names = self._unit.number, self._writer.finished()
        new = names[self._n_published :]
        if self._safe.done == 0 and not new and not self._files:
            return
        self._writer.flush()
        # Published first: a record never names as done what is not in its place.
        self._records.publish(number, new)
        self._files += new
        self._n_published = len(names)
        safe = self._safe
        self._records.advance(number, Begun(safe.done, safe.facts, safe.mark, tuple(self._files)))
