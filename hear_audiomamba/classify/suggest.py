"""Which sounds to label next: those the classifier is least sure of, and that differ from one another."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..archive.frames import read_frames
from ..archive.options import EmbedOptions
from ..archive.read import audio_paths, read_scenes
from ..errors import ConfigError, DataError
from ..io.labels import LabelTable
from .head import Floats
from .model_file import Classifier

# Diversity is sought among so many of the least sure, for each one wanted.
CANDIDATES_EACH = 20
# Recordings of an event task are listened to in pieces of this length.
STRETCH_SECONDS = 5.0
COLUMNS = ("path", "label", "start", "end", "guess", "probability")


class Suggestion(NamedTuple):
    """A sound to label; `start` and `end` in seconds, None for a whole file; what the classifier thinks of it."""

    path: str
    start: float | None
    end: float | None
    guess: str
    probability: float


class _Pool(NamedTuple):
    sounds: list[tuple[str, float | None, float | None]]
    embeddings: Floats
    probabilities: Floats


def pool_options(classifier: Classifier) -> EmbedOptions:
    """Return how audio is embedded to be suggested from: in pieces like those that were fitted on."""
    if classifier.clip_seconds is None:
        return EmbedOptions(scene=False, timestamps=True, format="npy")
    return EmbedOptions(segment_seconds=classifier.clip_seconds, format="npy")


def suggest(classifier: Classifier, pool: Path, count: int, table: LabelTable) -> list[Suggestion]:
    """Choose sounds whose labels would help most.

    Args:
        classifier: fitted on the labels so far.
        pool: an archive of embeddings of the sounds to choose from.
        count: how many.
        table: the labels so far, which are not suggested again.

    Returns:
        At most `count` suggestions: the first is the least sure; each other one is unsure and far from
        those before it.

    Raises:
        ConfigError: `count` < 1.
        DataError: the pool holds no embeddings, or those of another model.
    """
    if count < 1:
        raise ConfigError(f"suggest: {count}, expected at least 1")
    names = audio_paths(pool)
    pieces = _stretches(classifier, pool) if classifier.clip_seconds is None else _clips(classifier, pool)
    done = _labelled(table)
    kept: list[_Pool] = []
    for piece in pieces:
        sounds = [(names.get(path, path), start, end) for path, start, end in piece.sounds]
        new = np.array([not _known(done, *sound) for sound in sounds], bool)
        own = [sound for sound, wanted in zip(sounds, new) if wanted]
        kept.append(_Pool(own, piece.embeddings[new], piece.probabilities[new]))
    found = _Pool(
        [sound for piece in kept for sound in piece.sounds],
        np.concatenate([piece.embeddings for piece in kept]),
        np.concatenate([piece.probabilities for piece in kept]),
    )
    if not found.sounds:
        raise DataError(f"{pool}: all of its sounds are labelled already")
    doubt = doubts(found.probabilities, classifier.head.kind)
    rows = (found.embeddings - classifier.head.mean) / classifier.head.scale
    chosen = spread_out(rows, doubt, count)
    best = found.probabilities[chosen].argmax(axis=1)
    return [
        Suggestion(path, start, end, classifier.head.classes[b], float(found.probabilities[i, b]))
        for i, b in zip(chosen.tolist(), best.tolist())
        for path, start, end in [found.sounds[i]]
    ]


def doubts(probabilities: Floats, kind: str) -> Floats:
    """Return how unsure rows of probabilities `(n, C)` are, 0 to 1.

    Of a single-label task: how near the second class comes to the first; else how near the most doubtful
    class is to one half.
    """
    if kind == "single" and probabilities.shape[1] > 1:
        ordered = np.sort(probabilities, axis=1)
        return np.asarray(1 - (ordered[:, -1] - ordered[:, -2]))
    return np.asarray(2 * np.minimum(probabilities, 1 - probabilities).max(axis=1))


def spread_out(rows: Floats, doubt: Floats, count: int) -> NDArray[np.int64]:
    """Choose rows `(n, K)` one after the other, each by its doubt times its distance from those before it."""
    candidates = np.argsort(-doubt, kind="stable")[: count * CANDIDATES_EACH]
    points = rows[candidates] / np.maximum(np.linalg.norm(rows[candidates], axis=1, keepdims=True), 1e-9)
    weight = doubt[candidates] + 1e-6
    chosen = [0]
    distance = 1 - points @ points[0]
    while len(chosen) < min(count, len(candidates)):
        value = weight * np.maximum(distance, 1e-6)
        value[chosen] = -1
        chosen.append(int(value.argmax()))
        distance = np.minimum(distance, 1 - points @ points[chosen[-1]])
    return candidates[chosen]


def _clips(classifier: Classifier, pool: Path) -> Iterator[_Pool]:
    for table in read_scenes(pool):
        classifier.embedding.check_archive(pool, table.provenance)
        whole = table.provenance["options"].get("segment_seconds") is None
        ends = table.start + table.duration
        sounds: list[tuple[str, float | None, float | None]] = [
            (path, None, None) if whole else (path, float(start), float(end))
            for path, start, end in zip(table.paths, table.start, ends)
        ]
        yield _Pool(sounds, table.embeddings, classifier.head.probabilities(table.embeddings))


def _stretches(classifier: Classifier, pool: Path) -> Iterator[_Pool]:
    """Yield recordings in stretches of some seconds, each as doubtful as its most doubtful time."""
    head = classifier.head
    for piece in read_frames(pool):
        number = (piece.times // STRETCH_SECONDS).astype(int)
        step = float(piece.times[1] - piece.times[0]) if len(piece.times) > 1 else 0.0
        sounds, embeddings, probabilities = [], [], []
        for own in np.unique(number):
            rows = piece.embeddings[number == own]
            chances = head.probabilities(rows)
            last = float(piece.times[number == own][-1]) + step / 2
            sounds.append((piece.path, own * STRETCH_SECONDS, min((own + 1) * STRETCH_SECONDS, last)))
            embeddings.append(rows.mean(axis=0, dtype=np.float32))
            probabilities.append(chances[doubts(chances, head.kind).argmax()])
        yield _Pool(list(sounds), np.stack(embeddings), np.stack(probabilities))


def _labelled(table: LabelTable) -> dict[str, list[tuple[float, float]]]:
    done: dict[str, list[tuple[float, float]]] = {}
    for row in table.rows:
        whole = row.start is None or row.end is None or table.kind == "events"
        stretch = (-np.inf, np.inf) if whole else (float(row.start or 0.0), float(row.end or 0.0))
        done.setdefault(os.path.realpath(row.path), []).append(stretch)
    return done


def _known(
    done: dict[str, list[tuple[float, float]]], path: str, start: float | None, end: float | None
) -> bool:
    stretches: Sequence[tuple[float, float]] = done.get(os.path.realpath(path), ())
    if start is None or end is None:
        return bool(stretches)
    # Labelled where the larger part of it is.
    return any(min(end, b) - max(start, a) > 0.5 * (end - start) for a, b in stretches)
