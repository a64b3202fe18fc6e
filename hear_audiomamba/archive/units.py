"""The units of a run, one after the other: decoded ahead, embedded in full batches, written and put on record."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from ..embedding.embedder import AudioEmbedder
from .clips import SourceJob
from .decode import Block, DecodeSettings
from .encode import WindowEncoder
from .journal import Unit
from .keeper import Keeper
from .options import EmbedOptions, Resources
from .progress import Progress
from .records import Begun, Records
from .sources import Source
from .tables import WRITERS
from .windows import WindowBatcher
from .workers import Failure, decode_all, default_workers
from .writers import Product, Provenance

Decoded = tuple[Source, Iterator[Block | Failure]]


class UnitRunner:
    """Embeds units one after the other with one model, decoding ahead across their borders.

    Args:
        model, options, provenance, resources, product: see `embed_sources`.
    """

    def __init__(
        self,
        model: AudioEmbedder,
        options: EmbedOptions,
        provenance: Provenance,
        resources: Resources,
        product: Product | None = None,
    ) -> None:
        self._model, self._options, self._provenance = model, options, provenance
        self._resources = resources
        self._new_writer = WRITERS[options.format] if product is None else product.writer
        self._encoder = WindowEncoder(model, resources.devices, keep_rows=options.timestamps)
        self._settings = DecodeSettings(model.sample_rate, options.segment_seconds, resources.keep_truncated)

    def __enter__(self) -> UnitRunner:
        return self

    def __exit__(self, *error: object) -> None:
        self._encoder.__exit__(*error)

    def run(self, units: Sequence[Unit], records: Records, tmp: Path, progress: Progress) -> None:
        """Embed units, from where they are, and put them on record."""
        begun = [records.begun(unit.number) for unit in units]
        sources = [s for unit, at in zip(units, begun, strict=True) for s in unit.sources[at.done :]]
        workers = self._resources.workers
        if workers is None:
            workers = default_workers(self._model.device.type, len(sources))
        with closing(decode_all(sources, self._settings, workers)) as decoded:
            for unit, at in zip(units, begun, strict=True):
                self._unit(unit, at, decoded, records, tmp, progress)

    def _unit(
        self,
        unit: Unit,
        begun: Begun,
        decoded: Iterator[Decoded],
        records: Records,
        tmp: Path,
        progress: Progress,
    ) -> None:
        folder = records.folder(unit.number)
        writer = self._new_writer(folder, unit.number, self._model, self._options, self._provenance)
        if begun.done:
            writer.resume(begun.mark)
        encoder = self._encoder
        batcher = WindowBatcher(
            encoder.encode, encoder.budget, self._model.plan.size, self._model.encoder.causal,
            self._model.features.pad_value,
        )  # fmt: skip
        keeper = Keeper(records, unit, begun, writer)
        waiting: deque[tuple[Source, SourceJob, str | None]] = deque()

        def settle(everything: bool) -> None:
            while waiting and (everything or waiting[0][1].done):
                source, job, reason = waiting.popleft()
                reason = reason or keeper.add(source, job)
                if reason is not None:
                    keeper.failed(source, reason)
                progress.add(source, 0.0 if reason else job.seconds, reason)
            keeper.keep()

        try:
            for index in range(begun.done, len(unit.sources)):
                source, blocks = next(decoded)
                job, reason = SourceJob(self._model, self._options, batcher, tmp, source.start), None
                for block in blocks:
                    if isinstance(block, Failure):
                        reason = str(block)
                        break
                    job.feed(block)
                    progress.heard(len(block.samples) / self._model.sample_rate)
                waiting.append((source, job, reason))
                if batcher.full:
                    batcher.flush()
                    keeper.border(index + 1)
                settle(everything=False)
            batcher.flush()
            encoder.finish()
            settle(everything=True)
        except BaseException:
            keeper.save()
            raise
        keeper.complete()
