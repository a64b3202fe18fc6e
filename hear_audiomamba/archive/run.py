"""The run: sources in, embeddings on disk, with nothing lost when it is stopped, killed or out of space."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..embedding.embedder import AudioEmbedder
from ..errors import DataError, OutputError, counted, require
from .describe import describe
from .journal import Journal, Unit
from .options import EmbedOptions, Resources
from .progress import Progress, Summary
from .records import Records
from .sources import Source
from .tables import file_names
from .units import UnitRunner
from .writers import Product

__all__ = ["Resources", "begin", "check_libraries", "conclude", "describe", "embed_sources"]

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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
            units, todo = begin(journal, sources, options, resources, product)
            progress.start(units, todo, journal.records)
            runner.run(todo, journal.records, journal.tmp, progress)
            return conclude(journal, units, progress, model, settings)
    except KeyboardInterrupt:
        done = f"interrupted: {progress.n_done} of {progress.n_sources} done; the same command continues"
        raise KeyboardInterrupt(done) from None
    except OutputError:
        raise
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise DataError(f"{error.filename or out}: {error.strerror or error}") from None
        raise DataError(
            f"{out}: no space left ({error.strerror}); safe: {progress.n_done} of "
            f"{counted(progress.n_sources, 'source')}; free some and run the same command again"
        ) from None


def check_libraries(options: EmbedOptions, product: Product | None = None) -> None:
    """Refuse a format whose library is missing.

    Raises:
        MissingPackageError: says what to install.
    """
    if product is None and options.format == "parquet":
        require("pyarrow", "parquet", "hear_audiomamba[parquet]")


def begin(
    journal: Journal,
    sources: Sequence[Source],
    options: EmbedOptions,
    resources: Resources,
    product: Product | None,
) -> tuple[list[Unit], list[Unit]]:
    """Return the units of a run, and those of them that are still to be embedded.

    Raises:
        DataError: a file is in the way that no run on record made.
    """
    units = journal.plan(sources, options.shard_sources)
    if journal.fresh and not resources.overwrite:
        _check_clear(journal.out, units, options, product)
    return units, _open_units(journal.records, units, resources.retry_errors)


def conclude(
    journal: Journal,
    units: Sequence[Unit],
    progress: Progress,
    model: AudioEmbedder,
    settings: dict[str, Any],
) -> Summary:
    """Write the reports of a run whose units are all complete, and return its summary.

    Raises:
        DataError: a unit is not complete.
    """
    records, missing = [], []
    for unit in units:
        record = journal.records.complete_record(unit.number)
        if record is None:
            missing.append(unit.number)
        else:
            records.append(record)
    if missing:
        raise DataError(f"{journal.out}: units {missing[:5]} are not complete; run the same command again")
    summary = progress.summary(records, model, settings)
    _write_reports(journal, summary)
    return summary


def _open_units(records: Records, units: Sequence[Unit], retry_errors: bool) -> list[Unit]:
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


def _check_clear(out: Path, units: Sequence[Unit], options: EmbedOptions, product: Product | None) -> None:
    """Refuse to write over files that no run of ours is known to have made."""
    for unit in units:
        for name in file_names(options, unit) if product is None else product.names(unit.number):
            if (out / name).exists():
                raise DataError(
                    f"{out / name} exists and no run on record made it; use another --out, or --overwrite"
                )


def _write_reports(journal: Journal, summary: Summary) -> None:
    """Write `summary.json`, and `errors.jsonl` where there are errors; of a share, with its number."""
    out, part = journal.out, "" if journal.label == "all" else f"-{journal.label}"
    lines = [json.dumps(error, sort_keys=True) + "\n" for error in summary.errors]
    errors = out / f"errors{part}.jsonl"
    if lines:
        journal.write(errors, "".join(lines))
    else:
        errors.unlink(missing_ok=True)
    journal.write(out / f"summary{part}.json", json.dumps(asdict(summary), sort_keys=True, indent=1) + "\n")
