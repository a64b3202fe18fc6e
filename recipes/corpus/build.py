"""Build a corpus folder from a recipe: source by source, resumable, nothing half-done counted as done."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from hear_audiomamba.errors import AudioReadError, DataError
from hear_audiomamba.io.files import sha256_of

from . import decode, packages
from .licences import Copyright, is_non_commercial
from .manifest import Clip, Label, SourceReport, licence_summary, read_table, write_table
from .recipe import CorpusRecipe, PackageSource, SynthSource
from .synth import DERIVED, check_engine, sounds_of
from .synth.sound import SAMPLE_RATE

log = logging.getLogger(__name__)

# FLAC at 16 kHz, 16 bit takes a little more than half of the plain 32 kB a second.
FLAC_BYTES_PER_SECOND = 18_000
UNPACKED_PER_PACKED = 2.0
DEFAULT_HOURS = 0.1
VOICE_FOLDER = re.compile(r"/voices?/", re.IGNORECASE)

Report = Callable[[SourceReport], None]


def build_corpus(
    recipe: CorpusRecipe,
    out: str | Path,
    *,
    cache: str | Path | None = None,
    max_hours_per_source: float | None = None,
    max_sounds_per_source: int | None = None,
    only: tuple[str, ...] = (),
    on_source: Report | None = None,
) -> list[SourceReport]:
    """Build or continue a corpus.

    Args:
        recipe: what to build.
        out: the corpus folder: `audio/`, `manifest.csv`, `sources.csv`, `labels.csv`.
        cache: folder of downloaded packages, `out/.cache` by default; kept for the next build.
        max_hours_per_source: at most so much of each package and kind, times the package's weight in the
            recipe; long recordings then give a stretch from their middle, so that all of them are heard.
        max_sounds_per_source: at most so many items of each synthesis source.
        only: build only the sources whose name holds one of these words.
        on_source: called with each source's report as it is done.

    Returns:
        One report a source; a package that is gone or a synthesiser that is missing is named there
        and skipped.

    Raises:
        DataError: the disk has too little room (said before anything is downloaded).
        ConfigError: a synthesis engine is not known.
    """
    out = Path(out)
    cache = Path(cache) if cache else out / ".cache"
    for folder in (out, cache):
        folder.mkdir(parents=True, exist_ok=True)
    for source in recipe.synthesis:
        check_engine(source)
    if max_sounds_per_source:
        fewer = [s.replace(count=min(s.count, max_sounds_per_source)) for s in recipe.synthesis]
        recipe = recipe.replace(synthesis=fewer)
    chosen = [s for s in (*recipe.packages, *recipe.synthesis) if not only or any(w in s.name for w in only)]
    _check_room(chosen, out, cache, max_hours_per_source)

    reports = []
    unpacked = _Unpacked(out / ".work", cache)
    try:
        for source in sorted(chosen, key=_turn):
            report = _stored_report(out, source)
            if report is None:
                try:
                    if isinstance(source, PackageSource):
                        report = _from_package(source, recipe, out, unpacked, max_hours_per_source)
                    else:
                        report = _from_synthesis(source, out)
                except packages.PackageGone as error:
                    report = SourceReport(source.name, "gone", 0, 0.0, note=str(error))
                except DataError as error:
                    report = SourceReport(source.name, "failed", 0, 0.0, note=str(error))
            reports.append(report)
            _write_books(recipe, out, reports)
            if on_source:
                on_source(report)
    finally:
        unpacked.clear()
    return reports


def _turn(source: PackageSource | SynthSource) -> tuple[int, str]:
    """Packages first, one package's kinds together, so that it is unpacked once; what others feed last."""
    if isinstance(source, PackageSource):
        return 0, source.package
    return (2 if source.engine in DERIVED else 1), source.name


def _check_room(sources: list, out: Path, cache: Path, cap: float | None) -> None:
    download, largest, hours = 0, 0, 0.0
    seen = set()
    for source in sources:
        if _stored_report(out, source):
            continue
        planned = source.hours or DEFAULT_HOURS
        hours += min(planned, cap * source.weight) if cap and isinstance(source, PackageSource) else planned
        if isinstance(source, PackageSource) and source.package not in seen:
            seen.add(source.package)
            try:
                size = packages.download_size(source.package, cache)
            except packages.PackageGone:
                continue
            download += size
            held = packages.cached_package(source.package, cache)
            largest = max(largest, size or (held.stat().st_size if held else 0))
    need = download + UNPACKED_PER_PACKED * largest + hours * 3600 * FLAC_BYTES_PER_SECOND
    free = shutil.disk_usage(out).free
    if need > free:
        raise DataError(
            f"{out}: the corpus needs about {need / 1e9:.1f} GB ({download / 1e9:.1f} GB to download), "
            f"{free / 1e9:.1f} GB are free; free some, or take less with --max-hours-per-source or --only"
        )


class _Unpacked:
    """The one package unpacked at a time."""

    def __init__(self, work: Path, cache: Path) -> None:
        self.work, self.cache, self.package = work, cache, ""
        self.version = ""

    def folder(self, package: str) -> Path:
        if package != self.package:
            self.clear()
            deb = packages.fetch_package(package, self.cache)
            packages.unpack(deb, self.work / package)
            self.package, self.version = package, packages.package_version(deb)
        return self.work / package

    def clear(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        self.package = ""


def _from_package(
    source: PackageSource, recipe: CorpusRecipe, out: Path, unpacked: _Unpacked, cap: float | None
) -> SourceReport:
    folder = unpacked.folder(source.package)
    rights = Copyright.of_package(folder, source.package)
    chosen, bad = _select(source, recipe, folder, rights)
    budget = cap * source.weight * 3600 if cap else None
    if source.kind == "music":
        shares = fair_shares([seconds for _, _, seconds, _ in chosen], budget)
    else:
        # A word or an effect is worth little in part: take whole recordings, a fixed random choice of them.
        chosen = _within(chosen, budget)
        shares = [seconds for _, _, seconds, _ in chosen]
    clips = []
    for (inside, path, seconds, licence), share in zip(chosen, shares):
        name = _flac_name(inside)
        target = out / "audio" / source.kind / source.package / name
        try:
            if not target.is_file():
                start = (seconds - share) / 2
                samples = decode.decode(path, recipe.sample_rate, start, None if share == seconds else share)
                decode.write_flac(target, samples, recipe.sample_rate)
            clips.append(_clip(out, target, source.split, source.name, licence, source.kind))
        except AudioReadError as error:
            log.info("%s: %s", source.name, error)
            bad += 1
    note = f"{bad} files could not be used" if bad else ""
    labels = [Label(clip.path, label) for clip in clips for label in source.labels]
    return _finish(out, source, clips, labels, unpacked.version, note)


def _select(source: PackageSource, recipe: CorpusRecipe, folder: Path, rights: Copyright):
    """Return the (path in package, file, seconds, licence) the rule takes, and how many cannot be read."""
    excluded = [re.compile(pattern) for pattern in recipe.exclude]
    shortest, longest = source.limits
    chosen, bad = [], 0
    for inside, path in packages.audio_files(folder):
        if not re.search(source.pattern, inside) or any(p.search(source.package + inside) for p in excluded):
            continue
        if source.kind == "music" and VOICE_FOLDER.search(inside):
            continue
        licence = rights.licence(inside) or source.licence
        if is_non_commercial(licence):
            continue
        try:
            seconds = decode.duration(path)
        except AudioReadError:
            bad += 1
            continue
        if shortest <= seconds <= longest:
            chosen.append((inside, path, seconds, licence))
    return chosen, bad


def _from_synthesis(source: SynthSource, out: Path) -> SourceReport:
    work = out / ".work" / source.name
    work.mkdir(parents=True, exist_ok=True)
    folder = out / "audio" / "synth" / source.name
    clips, labels = [], []
    for sound in sounds_of(source, work, out):
        target = folder / f"{sound.name}.flac"
        try:
            if not target.is_file():
                decode.write_flac(target, sound.samples, SAMPLE_RATE)
        except AudioReadError as error:
            log.info("%s: %s", source.name, error)
            continue
        clips.append(_clip(out, target, source.split, source.name, source.licence, "synth"))
        labels += [Label(clips[-1].path, label) for label in sound.labels]
    shutil.rmtree(work, ignore_errors=True)
    return _finish(out, source, clips, labels, "", "")


def fair_shares(lengths: list[float], budget: float | None) -> list[float]:
    """Cut recordings down to a common length so that together they fit a budget.

    Args:
        lengths: of the recordings, seconds.
        budget: seconds for all together; None for no limit.

    Returns:
        How much of each to take: short ones whole, long ones all the same.
    """
    if budget is None or sum(lengths) <= budget:
        return list(lengths)
    left, waiting = budget, len(lengths)
    shares = [0.0] * len(lengths)
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        shares[index] = min(lengths[index], left / waiting)
        left -= shares[index]
        waiting -= 1
    return shares


def _within(chosen: list, budget: float | None) -> list:
    if budget is None:
        return chosen
    taken = []
    for item in sorted(chosen, key=lambda entry: hashlib.sha256(entry[0].encode()).digest()):
        budget -= item[2]
        if budget >= 0:
            taken.append(item)
    return sorted(taken, key=lambda entry: entry[0])


def _finish(
    out: Path, source, clips: list[Clip], labels: list[Label], version: str, note: str
) -> SourceReport:
    hours = round(sum(clip.seconds for clip in clips) / 3600, 4)
    report = SourceReport(
        source.name,
        "ok" if clips else "empty",
        len(clips),
        hours,
        version,
        licence_summary(clips) if clips else "",
        note,
    )
    folder = out / ".sources"
    write_table(folder / f"{source.name}.clips.csv", Clip, clips)
    write_table(folder / f"{source.name}.labels.csv", Label, labels)
    # Written last: a source with a report is done.
    write_table(folder / f"{source.name}.report.csv", SourceReport, [report])
    return report


def _stored_report(out: Path, source) -> SourceReport | None:
    path = out / ".sources" / f"{source.name}.report.csv"
    return read_table(path, SourceReport)[0] if path.is_file() else None


def _write_books(recipe: CorpusRecipe, out: Path, reports: list[SourceReport]) -> None:
    """Write the three tables from all sources done so far, also those of earlier, partial builds."""
    folder = out / ".sources"
    by_name = {report.source: report for report in reports}
    for source in (*recipe.packages, *recipe.synthesis):
        if source.name not in by_name and (report := _stored_report(out, source)):
            by_name[source.name] = report
    done = sorted(name for name, report in by_name.items() if report.files)
    write_table(out / "manifest.csv", Clip, _rows(folder, done, "clips", Clip))
    write_table(out / "labels.csv", Label, _rows(folder, done, "labels", Label))
    write_table(out / "sources.csv", SourceReport, [by_name[name] for name in sorted(by_name)])


def _rows(folder: Path, names: list[str], table: str, kind: type) -> Iterator[object]:
    for name in names:
        yield from read_table(folder / f"{name}.{table}.csv", kind)


def _clip(out: Path, path: Path, split: str, source: str, licence: str, kind: str) -> Clip:
    seconds = round(decode.duration(path), 3)
    return Clip(path.relative_to(out).as_posix(), split, source, licence, seconds, sha256_of(path), kind)


def _flac_name(inside: str) -> str:
    """Return a short name that stays unique: the file's own, and a hash of its whole path."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(inside).stem).strip("-")[:60]
    return f"{stem}-{hashlib.sha256(inside.encode()).hexdigest()[:8]}.flac"
