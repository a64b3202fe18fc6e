"""Embeddings of labelled audio: made once by the archive engine, and taken from an archive that has them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..archive.frames import FramePiece, read_frames
from ..archive.journal import FOLDER, read_plan
from ..archive.options import EmbedOptions
from ..archive.progress import Progress
from ..archive.read import read_scenes
from ..archive.run import Resources, embed_sources
from ..archive.sources import Source, stated
from ..embedding.embedder import AudioEmbedder
from ..errors import DataError
from ..io.files import read_json
from .head import Floats

OnProgress = Callable[[Progress], None] | None
Stretch = tuple[str, float | None, float | None]


@dataclass(frozen=True)
class Embedded:
    """Sources in an archive.

    Attributes:
        folder: the archive.
        sources: one for each stretch asked for, None where its audio could not be read.
        errors: path, start and reason of each that could not.
        npz: the archive has a file for each source, named after it.
        segments: the stretches are segments of the archive's sources.
    """

    folder: Path
    sources: tuple[Source | None, ...]
    errors: tuple[dict[str, Any], ...]
    npz: bool
    segments: bool = False

    def key_of(self, source: Source) -> tuple[str, float | None]:
        """What the archive's tables call a source, and where they say that it begins."""
        name = source.name if self.npz else source.label
        return name, None if self.npz and not self.segments else round(source.start, 3)


def embed_stretches(
    stretches: Sequence[Stretch],
    model: AudioEmbedder,
    folder: Path,
    *,
    timestamps: bool,
    resources: Resources | None = None,
    on_progress: OnProgress = None,
) -> Embedded:
    """Make sure that an archive holds the embeddings of stretches of audio files.

    Args:
        stretches: path, start and end in seconds (None: the whole file) of each.
        model: what embeds.
        folder: an archive that `embed` made with the same model, or a new folder. What it has of these
            files is used as it is; the rest is embedded into it.
        timestamps: timestamp embeddings are needed, instead of one scene embedding for each stretch.
        resources: what to use.
        on_progress: called after every source.

    Returns:
        Where they are.

    Raises:
        DataError: the archive was made with another model, or holds other kinds of embeddings.
    """
    options = _options(folder, timestamps)
    known = _held(folder)
    if options.segment_seconds is not None:
        return _segments(stretches, folder, known, options)
    wanted: dict[Stretch, Source] = {}
    for path, start, end in stretches:
        duration = None if start is None or end is None else end - start
        source = stated(Source(path, _name(path, start, end), start or 0.0, duration))
        there = known.get(_identity(source)) or known.get(_state(source))
        if there is not None:
            # The same file by another path; what it is called in the archive stays.
            source = replace(there, size=source.size, mtime_ns=source.mtime_ns)
        wanted[path, start, end] = source
    unique = list({source.key: source for source in wanted.values()}.values())
    summary = embed_sources(unique, model, folder, options, resources, on_progress)
    # Names are made unique when they are planned, and read back from there.
    named = {source.key: source for _, source in read_plan(folder)}
    failed = {(error["path"], error["start"]) for error in summary.errors}
    found = [named[wanted[stretch].key] for stretch in stretches]
    own = {(source.label, source.start) for source in found}
    return Embedded(
        folder,
        tuple(None if (source.label, source.start) in failed else source for source in found),
        tuple(error for error in summary.errors if (error["path"], error["start"]) in own),
        options.format == "npz",
    )


def read_clips(embedded: Embedded) -> tuple[Floats, Floats]:
    """Return the scene embeddings `(n, K)` float32 of an archive's stretches, and their seconds `(n,)`.

    Stretches that could not be read are left out.
    """
    rows: dict[tuple[str, float | None], list[int]] = defaultdict(list)
    sources = [source for source in embedded.sources if source is not None]
    for index, source in enumerate(sources):
        rows[embedded.key_of(source)].append(index)
    clips: Floats | None = None
    seconds = np.full(len(sources), np.nan)
    found = np.zeros(len(sources), bool)
    for table in read_scenes(embedded.folder):
        if clips is None:
            clips = np.zeros((len(sources), table.embeddings.shape[1]), np.float32)
        for at, path in enumerate(table.paths):
            start = None if np.isnan(table.start[at]) else round(float(table.start[at]), 3)
            for index in rows.get((path, start), ()):
                # Two stretches may begin together; they differ in length.
                wanted, length = sources[index].duration, float(table.duration[at])
                if found[index] and not _nearer(wanted, length, float(seconds[index])):
                    continue
                clips[index], seconds[index], found[index] = table.embeddings[at], length, True
    if clips is None or not found.all():
        missing = sources[int(np.flatnonzero(~found)[0])].label
        first = sources[int(np.flatnonzero(~found)[0])].start
        told = f"{embedded.folder}: holds no embedding of {missing} from {first:g} s"
        raise DataError(f"{told}; use another --embeddings")
    return clips, seconds


def read_pieces(embedded: Embedded) -> Iterator[tuple[int, FramePiece]]:
    """Yield the timestamp embeddings of an archive's stretches, some rows at a time.

    Yields:
        The number of the stretch, and a piece of it; pieces of a stretch follow one another.
    """
    number = {
        embedded.key_of(source)[0]: index
        for index, source in enumerate(embedded.sources)
        if source is not None
    }
    for piece in read_frames(embedded.folder):
        if piece.path in number:
            yield number[piece.path], piece


def _options(folder: Path, timestamps: bool) -> EmbedOptions:
    """Return the settings of an archive that is there, or those of a new one."""
    if not (folder / FOLDER / "run.json").exists():
        return EmbedOptions(scene=not timestamps, timestamps=timestamps, format="npy")
    options = EmbedOptions.from_dict(read_json(folder / FOLDER / "run.json")["options"])
    kind = "timestamp" if timestamps else "scene"
    if not (options.timestamps if timestamps else options.scene):
        raise DataError(f"{folder}: holds no {kind} embeddings, which are needed; use another --embeddings")
    return options


def _segments(
    stretches: Sequence[Stretch], folder: Path, known: dict[tuple[Any, ...], Source], options: EmbedOptions
) -> Embedded:
    """Find stretches among the segments of an archive; it cannot take others in."""
    sources = []
    for path, start, end in stretches:
        whole = stated(Source(path, os.path.basename(path)))
        there = known.get(_identity(whole)) or known.get(_state(whole))
        if there is None or start is None or end is None:
            told = "is not in it" if there is None else "has labels without start and end"
            raise DataError(
                f"{folder}: holds embeddings of segments, and {path} {told}; use another --embeddings"
            )
        sources.append(replace(there, start=start, duration=end - start))
    return Embedded(folder, tuple(sources), (), options.format == "npz", segments=True)


def _held(folder: Path) -> dict[tuple[Any, ...], Source]:
    """Return the sources of an archive, by the file and, of those done, by what tells a file without its folder.

    An archive may name files relative to a folder that commands were given in then.
    """
    known: dict[tuple[Any, ...], Source] = {}
    for number, source in read_plan(folder):
        known[_identity(source)] = source
        if (folder / FOLDER / "units" / f"{number:05d}.json").exists():
            known[_state(source)] = source
    return known


def _state(source: Source) -> tuple[Any, ...]:
    duration = None if source.duration is None else round(source.duration, 6)
    name = os.path.basename(source.path)
    return name, source.size, source.mtime_ns, source.member, round(source.start, 6), duration


def _identity(source: Source) -> tuple[str, str | None, float, float | None]:
    duration = None if source.duration is None else round(source.duration, 6)
    return os.path.realpath(source.path), source.member, round(source.start, 6), duration


def _name(path: str, start: float | None, end: float | None) -> str:
    parent, name = os.path.split(path)
    name = os.path.join(os.path.basename(parent), name)
    return name if start is None or end is None else f"{name}@{start:g}+{end - start:g}"


def _nearer(wanted: float | None, length: float, held: float) -> bool:
    return wanted is not None and abs(length - wanted) < abs(held - wanted)
