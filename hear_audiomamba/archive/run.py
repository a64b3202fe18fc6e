"""The run: sources in, embeddings on disk, with nothing lost when it is stopped, killed or out of space."""

from __future__ import annotations

import errno
import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..config import check_value
from ..embedding.embedder import AudioEmbedder
from ..errors import ConfigError, DataError, OutputError, require
from .clips import SourceJob
from .decode import Block, DecodeSettings
from .encode import WindowEncoder
from .journal import Journal, Unit
from .keeper import Keeper
from .options import EmbedOptions
from .progress import Progress, Summary
from .records import Begun, Records
from .sources import Source
from .tables import WRITERS, text_files
from .windows import WindowBatcher
from .workers import Failure, decode_all, default_workers
from .writers import Product, Provenance

Decoded = tuple[Source, Iterator[Block | Failure]]
MOST_WORKERS = 1024
_UNSAID = (("columns", "default"),)  # so that archives from before this option can be continued
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class Resources:
    """What a run may use; the results do not depend on it.

    Attributes:
        devices: where to compute; by default where the model is.
        workers: decoding processes; None chooses by cores and device, 0 decodes in this process.
        share: (i, n): do the i-th of n shares of the units, 0 ≤ i < n.
        retry_errors: try units again in which a source failed.
        overwrite: throw away what earlier runs made in the output folder.
        keep_truncated: embed what is there of files that are not whole; each is noted in the summary. It counts
            for the files that are read in this run: with `retry_errors` for those that failed before.

    Raises:
        ConfigError: a number is out of range.
    """

    devices: tuple[str, ...] = ()
    workers: int | None = None
    share: tuple[int, int] | None = None
    retry_errors: bool = False
    overwrite: bool = False
    keep_truncated: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.devices, str):
            raise ConfigError(f"devices: expected a list of names, got {self.devices!r}")
        workers = check_value(int | None, self.workers, "workers")
        if workers is not None and not 0 <= workers <= MOST_WORKERS:
            raise ConfigError(f"workers: {workers}, expected 0 to {MOST_WORKERS}")
        share = check_value(tuple[int, int] | None, self.share, "share")
        object.__setattr__(self, "workers", workers)
        object.__setattr__(self, "share", share)
        if self.share is not None and not 0 <= self.share[0] < self.share[1]:
            raise ConfigError(f"share: {self.share[0]} of {self.share[1]}, expected 0 ≤ i < n")


def embed_sources(
    sources: Sequence[Source],
    model: AudioEmbedder,
    out: str | Path,
    options: EmbedOptions | None = None,
    resources: Resources | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    product: Product | None = None,
) -> Summary:
    """Embed sources into a folder; continue where an earlier run of the same settings ended.

    Args:
        sources: what `find_sources` returned.
        model: what `load_model` returned.
        out: output folder; made if need be.
        options: what to make.
        resources: what to use.
        on_progress: called after every source.
        product: what to write of each clip; None for its embeddings.

    Returns:
        What was done; sources that failed are in `errors` and in `errors.jsonl`.

    Raises:
        DataError: the folder is in use or holds something else, or the disk is full. Complete units
            stay, and the same call continues after them.
    """
    options, resources = options or EmbedOptions(), resources or Resources()
    out = Path(out)
    # Wrong options are found before anything is recorded.
    check_libraries(options, product)
    provenance = describe(model, options, product)
    settings = json.loads(provenance.to_json())
    progress = Progress(len(sources), on_progress)
    try:
        with (
            UnitRunner(model, options, provenance, resources, product) as runner,
            Journal(out, settings, resources.share, resources.overwrite) as journal,
        ):
            units = journal.plan(sources, options.shard_sources)
            if journal.fresh and not resources.overwrite:
                check_clear(out, units, options, product)
            todo = open_units(journal.records, units, resources.retry_errors)
            progress.start(units, todo, journal.records)
            runner.run(todo, journal.records, journal.tmp, progress)
            records = [journal.records.complete_record(unit.number) for unit in units]
            summary = progress.summary([record for record in records if record], model, settings)
            write_reports(journal, summary)
            return summary
    except KeyboardInterrupt:
        done = f"interrupted: {progress.n_done} of {progress.n_sources} done; the same command continues"
        raise KeyboardInterrupt(done) from None
    except OutputError:
        raise
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise DataError(f"{error.filename or out}: {error.strerror or error}") from None
        raise DataError(
            f"{out}: no space left ({error.strerror}); {progress.n_done} of {progress.n_sources} sources are "
            "safe; free some and run the same command again"
        ) from None


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


def describe(model: AudioEmbedder, options: EmbedOptions, product: Product | None = None) -> Provenance:
    """Return all that a run's results depend on, besides the audio."""
    settings: dict[str, Any] = {
        "options": {key: value for key, value in options.to_dict().items() if (key, value) not in _UNSAID},
        "config": model.config.to_dict(),
        "window_frames": model.window_frames,
        "precision": model.precision,
        "timestamps": model.timestamp_kind,
        "compat": model.compat,
    }
    if product is not None:
        settings["product"] = product.settings
    return Provenance(model.config.variant, weights_hash(model), settings)


def weights_hash(model: AudioEmbedder) -> str:
    """Return a SHA-256 over names, shapes and values of the encoder's tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.encoder.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_libraries(options: EmbedOptions, product: Product | None = None) -> None:
    """Refuse a format whose library is missing.

    Raises:
        MissingPackageError: says what to install.
    """
    if product is None and options.format == "parquet":
        require("pyarrow", "parquet", "hear_audiomamba[parquet]")


def open_units(records: Records, units: Sequence[Unit], retry_errors: bool) -> list[Unit]:
    """Return the units that are still to be embedded; those to be tried again are opened for that."""
    found = []
    for unit in units:
        record = records.complete_record(unit.number)
        if record is not None and retry_errors and record["errors"]:
            records.reopen(unit.number)
            record = None
        if record is None:
            found.append(unit)
        else:
            records.tidy(unit.number)
    return found


def check_clear(
    out: Path, units: Sequence[Unit], options: EmbedOptions, product: Product | None = None
) -> None:
    """Refuse to write over files that no run of ours is known to have made."""
    if product is not None:
        names = [name for unit in units for name in product.names(unit.number)]
    elif options.format == "npz":
        names = [f"{source.name}.npz" for unit in units for source in unit.sources]
    elif options.format == "csv":
        names = [name for unit in units for name in text_files("scene", unit.number, options.columns)]
    else:
        names = [
            f"{kind}-{unit.number:05d}.{options.format}" for unit in units for kind in ("scene", "timestamps")
        ]
    for name in names:
        if (out / name).exists():
            raise DataError(
                f"{out / name} exists and no run on record made it; use another --out, or --overwrite"
            )


def write_reports(journal: Journal, summary: Summary) -> None:
    """Write `summary.json`, and `errors.jsonl` where there are errors; of a share, with its number."""
    out, part = journal.out, "" if journal.label == "all" else f"-{journal.label}"
    lines = [json.dumps(error, sort_keys=True) + "\n" for error in summary.errors]
    errors = out / f"errors{part}.jsonl"
    if lines:
        journal.write(errors, "".join(lines))
    else:
        errors.unlink(missing_ok=True)
    journal.write(out / f"summary{part}.json", json.dumps(asdict(summary), sort_keys=True, indent=1) + "\n")
