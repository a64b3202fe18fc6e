"""How far a run is, and what it did in the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..embedding.embedder import AudioEmbedder
from .journal import Unit
from .records import Records
from .sources import Source


@dataclass(frozen=True)
class Summary:
    """What is in the output folder after a run, and what the run took.

    Attributes:
        sources: given to the run (its share of them). embedded, failed: how many of them have results, or none.
        clips: embeddings of files or segments.
        audio_seconds: length of all audio embedded.
        resumed: sources that an earlier run had done.
        seconds: wall time of this run. times_real_time: audio embedded in this run over that time.
        errors: path, start (s) and reason of each source that failed.
        truncated: path, start (s) of each source of which only the readable part is embedded, and what is missing.
        model, weights_sha256, device: what computed.
    """

    sources: int
    embedded: int
    failed: int
    clips: int
    audio_seconds: float
    resumed: int
    seconds: float
    times_real_time: float
    model: str
    weights_sha256: str
    device: str
    errors: list[dict[str, Any]] = field(default_factory=list)
    truncated: list[dict[str, Any]] = field(default_factory=list)


class Progress:
    """Counts what a run has done; time left is reckoned by bytes of input.

    Attributes:
        n_sources, n_done, n_failed, n_resumed: sources.
        audio_seconds: audio read and embedded in this run.
        error: reason why the latest source failed, or None.
    """

    def __init__(self, n_sources: int, on_progress: Callable[[Progress], None] | None = None) -> None:
        self.n_sources, self.n_done, self.n_failed, self.n_resumed = n_sources, 0, 0, 0
        self.audio_seconds = 0.0
        self.error: str | None = None
        self._on_progress = on_progress
        self._begun = time.monotonic()
        self._bytes_total, self._bytes_done = 1, 0

    def start(self, units: Sequence[Unit], todo: Sequence[Unit], records: Records) -> None:
        """Take stock: the units of this run, and those of them that are not done."""
        self.n_sources = sum(len(unit.sources) for unit in units)
        left, errors = 0, 0
        self._bytes_total = 1
        for unit in todo:
            begun = records.begun(unit.number)
            left += len(unit.sources) - begun.done
            errors += len(begun.facts.get("errors", ()))
            self._bytes_total += sum(source.size for source in unit.sources[begun.done :])
        self.n_resumed = self.n_done = self.n_sources - left
        complete = (records.complete_record(unit.number) for unit in units)
        self.n_failed = errors + sum(len(record["errors"]) for record in complete if record)
        self._begun = time.monotonic()
        self._tell()

    def heard(self, seconds: float) -> None:
        """Count audio that was read."""
        self.audio_seconds += seconds

    def add(self, source: Source, seconds: float, error: str | None) -> None:
        """Count a source that is done or has failed."""
        self.n_done += 1
        self.n_failed += error is not None
        self._bytes_done += source.size
        self.error = error
        self._tell()
        self.error = None

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return time.monotonic() - self._begun

    @property
    def times_real_time(self) -> float:
        """Seconds of audio a second."""
        return self.audio_seconds / max(self.seconds, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Time left at the speed so far; None before there is one."""
        share = self._bytes_done / self._bytes_total
        return self.seconds * (1 - share) / share if share > 0 else None

    def summary(
        self, records: Sequence[dict[str, Any]], model: AudioEmbedder, settings: dict[str, Any]
    ) -> Summary:
        """Sum up the records of all units."""
        errors = [error for record in records for error in record["errors"]]
        sources = sum(record["sources"] for record in records)
        return Summary(
            sources=sources, embedded=sources - len(errors), failed=len(errors),
            clips=sum(record["clips"] for record in records),
            audio_seconds=sum(record["audio_seconds"] for record in records), resumed=self.n_resumed,
            seconds=round(self.seconds, 3), times_real_time=round(self.times_real_time, 2),
            model=settings["model"], weights_sha256=settings["weights_sha256"], device=str(model.device),
            errors=errors, truncated=[note for record in records for note in record.get("truncated", ())],
        )  # fmt: skip

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self)
