"""Probabilities over time, written by the archive engine in place of embeddings, and read back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..archive.clips import Clip, timestamp_pieces
from ..archive.frames import read_frames
from ..archive.journal import FOLDER
from ..archive.options import EmbedOptions
from ..archive.progress import Progress, Summary
from ..archive.read import audio_paths, read_scenes
from ..archive.run import Resources, embed_sources
from ..archive.sources import Source
from ..archive.writers import Product, Provenance, UnitWriter
from ..embedding.embedder import AudioEmbedder
from ..errors import AudioReadError, ConfigError
from ..io.audio import duration_of
from ..io.files import read_json
from .events import spans_of
from .head import Floats, Head
from .model_file import Classifier

# Recordings in a unit of work, which is the most that a kill can cost.
SHARD = 16


@dataclass(frozen=True)
class Recording:
    """The probabilities of one recording.

    Attributes:
        path: the audio file.
        starts, ends: `(n,)` seconds, increasing, the stretch that each row stands for.
        probabilities: `(n, C)` float32; may be a mapped file.
    """

    path: str
    starts: Floats
    ends: Floats
    probabilities: Floats


class ScoreWriter(UnitWriter):
    """Writes `scores-00000.npy` and, beside it, an index of the recordings in it.

    Args:
        head: from embeddings to probabilities.
    """

    def __init__(
        self, head: Head, folder: Path, unit: int, model: AudioEmbedder, options: EmbedOptions,
        provenance: Provenance,
    ) -> None:  # fmt: skip
        super().__init__(folder, unit, model, options, provenance)
        self._head, self._n_rows = head, 0
        array, index = score_names(unit)
        self._array, self._index = self._new(array).open("wb"), self._new(index).open("w", encoding="utf-8")

    def add(self, source: Source, clips: Sequence[Clip]) -> None:
        """Write the probabilities of a source."""
        first, times = self._n_rows, []
        if self.options.segment_seconds is None:
            for rows, when in timestamp_pieces(self.model, clips[0]):
                self._write(self._head.probabilities(rows))
                times.append(when / 1000)
        else:
            # Few at once: the clips of a long recording together would be large.
            for at in range(0, len(clips), 1024):
                self._write(
                    self._head.probabilities(np.stack([clip.scene for clip in clips[at : at + 1024]]))
                )
        row = {
            "path": source.label, "start": clips[0].start, "row": first, "rows": self._n_rows - first,
            "end": clips[-1].start + self._seconds(clips[-1]),
        }  # fmt: skip
        if times:
            joined = np.concatenate(times)
            row["first"], row["step"] = (
                float(joined[0]),
                float(joined[1] - joined[0]) if len(joined) > 1 else 0.0,
            )
        self._index.write(json.dumps(row, sort_keys=True) + "\n")

    def close(self) -> list[str]:
        """Complete the files; return their names."""
        self._array.close()
        self._index.close()
        return self.names

    def _write(self, probabilities: Floats) -> None:
        self._array.write(np.ascontiguousarray(probabilities, "<f4").tobytes())
        self._n_rows += len(probabilities)


def score_names(unit: int) -> tuple[str, str]:
    """Return the names of a unit's files: numbers (float32, little end first) and index."""
    return f"scores-{unit:05d}.bin", f"scores-{unit:05d}.jsonl"


def passes(sources: Sequence[Source], classifier: Classifier, hop_seconds: float | None) -> list[Source]:
    """Return the sources as they are gone over: once, or several times with a shift, for pieces that overlap.

    Args:
        sources: what `find_sources` returned.
        classifier: what to look for.
        hop_seconds: from one piece of a recording to the next; a whole part of `clip_seconds`, by default
            all of it. Not for events in time, whose timestamps lie closer anyway.

    Raises:
        ConfigError: the hop does not fit.
    """
    length = classifier.clip_seconds
    if hop_seconds is None:
        return list(sources)
    if length is None:
        raise ConfigError("hop: this classifier finds events in time and needs none")
    count = max(1, round(length / hop_seconds)) if hop_seconds > 0 else 1
    if not abs(length / count - hop_seconds) <= 1e-3 * length:
        near = ", ".join(f"{length / n:g}" for n in (1, 2, 4))
        raise ConfigError(
            f"hop: {hop_seconds:g} s, expected {length:g} s divided by a whole number, such as {near}"
        )
    return [
        source if k == 0 else _shifted(source, k, k * length / count)
        for source in sources
        for k in range(count)
        if k == 0 or _reaches(source, k * length / count)
    ]


def _shifted(source: Source, number: int, seconds: float) -> Source:
    rest = None if source.duration is None else source.duration - seconds
    name = f"{source.name}@{number}"
    return replace(source, start=source.start + seconds, duration=rest, name=name)


def _reaches(source: Source, seconds: float) -> bool:
    """Tell whether a source continues after some seconds; where its length is not known, it is taken to."""
    length = source.duration
    if length is None and source.member is None:
        try:
            length = duration_of(source.path) - source.start
        except AudioReadError:  # reported when the whole of it is read
            return False
    return length is None or length > seconds


def score_sources(
    sources: Sequence[Source],
    classifier: Classifier,
    model: AudioEmbedder,
    folder: Path,
    *,
    resources: Resources | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    embed: Callable[..., Summary] = embed_sources,
) -> Summary:
    """Compute the probabilities of recordings; continue where an earlier call ended.

    Args:
        sources: what `passes` returned.
        classifier: what to look for.
        model: what the classifier takes embeddings from.
        folder: for the probabilities.
        resources: what to use.
        on_progress: called after every source.
        embed: what runs; `embed_on_ray` bound to a cluster does as well.

    Raises:
        DataError: the model is another one, or the folder is in use.
    """
    classifier.embedding.check(model)
    if classifier.clip_seconds is None:
        options = EmbedOptions(scene=False, timestamps=True, format="npy", shard_sources=SHARD)
    else:
        options = EmbedOptions(segment_seconds=classifier.clip_seconds, format="npy", shard_sources=SHARD)
    return embed(sources, model, folder, options, resources, on_progress, score_product(classifier.head))


def made_by_another(folder: Path, classifier: Classifier) -> bool:
    """Tell whether a folder holds the probabilities of another classifier."""
    if not (folder / FOLDER / "run.json").exists():
        return False
    made_with = read_json(folder / FOLDER / "run.json").get("product")
    return bool(made_with != score_product(classifier.head).settings)


def score_product(head: Head) -> Product:
    """Return what has the engine write probabilities."""
    digest = hashlib.sha256(json.dumps([head.kind, head.classes]).encode())
    arrays = [head.mean, head.scale, head.calibration.slope, head.calibration.offset]
    for array in [*arrays, *(part for layer in head.layers for part in (layer.weight, layer.bias))]:
        digest.update(np.ascontiguousarray(array, np.float32).tobytes())
    return Product({"classifier": digest.hexdigest()}, partial(ScoreWriter, head), score_names)


def read_scores(folder: Path, classifier: Classifier, sources: Sequence[Source]) -> Iterator[Recording]:
    """Read probabilities back, recording by recording, in the order of the sources.

    Args:
        folder: of `score_sources`.
        classifier: the one they were computed with.
        sources: what `score_sources` was given. Those that could not be decoded are left out.
    """
    wanted = {(source.label, round(source.start, 6)) for source in sources}
    held: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for file in sorted(folder.glob("scores-*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if (row["path"], round(row["start"], 6)) not in wanted:
                continue
            held.setdefault(row["path"], []).append((file.with_suffix(".bin"), row))
    n_classes = len(classifier.head.classes)
    for label in dict.fromkeys(source.label for source in sources):
        parts = [_part(file, row, classifier, n_classes) for file, row in held.get(label, [])]
        if parts:
            yield _woven(label, parts)


def _part(file: Path, row: dict[str, Any], classifier: Classifier, n_classes: int) -> Recording:
    shape = (row["rows"], n_classes)
    values = np.memmap(file, "<f4", "r", row["row"] * n_classes * 4, shape)
    length = classifier.clip_seconds
    if length is None:
        starts, ends = spans_of(
            row["first"] + np.arange(row["rows"]) * row["step"], row["end"] - row["start"]
        )
        starts, ends = starts + row["start"], ends + row["start"]
    else:
        starts = row["start"] + np.arange(row["rows"]) * length
        ends = np.minimum(starts + length, row["end"])
    return Recording(row["path"], starts, ends, values)


def _woven(path: str, parts: list[Recording]) -> Recording:
    """Put several passes over a recording, or stretches of it, in one order of time."""
    if len(parts) == 1:
        return parts[0]
    starts = np.concatenate([part.starts for part in parts])
    order = np.argsort(starts, kind="stable")
    ends = np.concatenate([part.ends for part in parts])[order]
    values = np.concatenate([part.probabilities for part in parts])[order]
    return Recording(path, starts[order], ends, values)


def score_archive(folder: Path, classifier: Classifier) -> Iterator[Recording]:
    """Compute the probabilities of an archive of embeddings that `embed` made.

    Args:
        folder: with timestamp embeddings for events in time, else with scene embeddings of files or segments.
        classifier: what to look for.

    Raises:
        DataError: the archive holds no such embeddings, or those of another model.
    """
    if (folder / FOLDER / "run.json").exists():
        classifier.embedding.check_archive(folder, read_json(folder / FOLDER / "run.json"))
    paths = audio_paths(folder)
    read = _frame_recordings if classifier.clip_seconds is None else _scene_recordings
    for recording in read(folder, classifier):
        yield replace(recording, path=paths.get(recording.path, recording.path))


def _frame_recordings(folder: Path, classifier: Classifier) -> Iterator[Recording]:
    times, values, begin = [], [], 0.0
    for piece in read_frames(folder):
        times.append(piece.times)
        values.append(classifier.head.probabilities(piece.embeddings))
        if piece.last:
            begin = 0.0 if np.isnan(piece.start) else piece.start
            starts, ends = spans_of(np.concatenate(times))
            yield Recording(piece.path, starts + begin, ends + begin, np.concatenate(values))
            times, values = [], []


def _scene_recordings(folder: Path, classifier: Classifier) -> Iterator[Recording]:
    parts: list[Recording] = []
    for table in read_scenes(folder):
        classifier.embedding.check_archive(folder, table.provenance)
        values = classifier.head.probabilities(table.embeddings)
        starts = np.nan_to_num(table.start)
        ends = starts + np.nan_to_num(table.duration, nan=classifier.clip_seconds or 0.0)
        names = np.array(table.paths, object)
        edges = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
        for first, end in pairwise(edges):
            own = slice(first, end)
            recording = Recording(table.paths[first], starts[own], ends[own], values[own])
            if parts and parts[-1].path != recording.path:
                yield _woven(parts[-1].path, parts)
                parts = []
            parts.append(recording)
    if parts:
        yield _woven(parts[-1].path, parts)
