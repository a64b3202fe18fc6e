"""The recordings nearest to queries in folders of embeddings."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from ..config import check_whole
from ..embedding.embedder import AudioEmbedder
from ..errors import DataError, InputError, one_line, require, shown
from ..io.audio import duration_of, load_audio
from .describe import weights_hash
from .read import read_archives, read_scenes

Metric = Literal["cosine", "euclidean"]
METRICS = ("cosine", "euclidean")
ENGINES = ("exact", "faiss", "usearch")
_STRETCH = re.compile(r"(?P<path>.+)@(?P<start>\d*\.?\d+)-(?P<end>\d*\.?\d+)")


class Query(NamedTuple):
    """What to look for: a file, or the stretch of it from `start` for `duration` seconds (None: all the rest)."""

    path: str
    start: float = 0.0
    duration: float | None = None


class Hit(NamedTuple):
    """A clip found: its score (cosine similarity, or minus the distance), file and stretch in seconds."""

    score: float
    path: str
    start: float
    duration: float


def parse_query(text: str) -> Query:
    """Understand a query: a path, or a path with a stretch in seconds, `night.wav@12.5-14`.

    Raises:
        InputError: the stretch ends before it starts.
    """
    found = None if Path(text).exists() else _STRETCH.fullmatch(text)
    if found is None:
        return Query(text)
    start, end = float(found["start"]), float(found["end"])
    if not end > start:
        raise InputError(f"query {text}: ends at {end:g} s, expected after its start, {start:g} s")
    return Query(found["path"], start, end - start)


def embed_query(query: str | Path | Query, model: AudioEmbedder, folder: str | Path) -> np.ndarray:
    """Embed a recording as those of a folder were.

    Args:
        query: an audio file, or a stretch of it.
        model: must be the one the folder was made with.
        folder: of embeddings.

    Returns:
        `(K,)` float32.

    Raises:
        AudioReadError: the file cannot be decoded.
        DataError: the folder was made with another model.
    """
    made_with = next(iter(read_scenes(folder))).provenance
    for name, there, here in (
        ("model", made_with["model"], model.config.variant),
        ("weights", made_with["weights_sha256"], weights_hash(model)),
        ("window length", made_with["window_frames"], model.window_frames),
        ("pooling", made_with["config"].get("scene_pooling", "mean"), model.config.scene_pooling),
    ):
        if there != here:
            there, here = str(there)[:24], str(here)[:24]
            fix = "give the same --model and options"
            raise DataError(f"{folder} was made with {name} {there}, the query's is {here}; {fix}")
    path, start, duration = query if isinstance(query, Query) else Query(str(query))
    audio = torch.from_numpy(load_audio(path, model.sample_rate, start=start, duration=duration))[None]
    return model.scene(audio)[0].cpu().numpy()


def search(
    query: np.ndarray,
    folder: str | Path,
    count: int = 10,
    metric: Metric = "cosine",
    engine: Literal["exact", "faiss", "usearch"] = "exact",
) -> list[Hit]:
    """Find the clips nearest to one query in one folder; see `search_all`."""
    return search_all(_vectors(query, "query", 1)[None], [folder], count, metric, engine)[0]


def search_all(
    queries: np.ndarray,
    folders: Sequence[str | Path],
    count: int = 10,
    metric: Metric = "cosine",
    engine: Literal["exact", "faiss", "usearch"] = "exact",
) -> list[list[Hit]]:
    """Find the clips nearest to each of several queries, exactly; the folders are read once.

    Args:
        queries: `(Q, K)`.
        folders: what `embed` wrote, of any format; read a shard at a time.
        count: how many to return for each query.
        metric: "cosine" similarity or "euclidean" distance.
        engine: "exact" is one matrix product a shard; "faiss" and "usearch" let those libraries do the
            same work, with the same result.

    Returns:
        Hits of each query, best first; equal scores in the order of the folders.

    Raises:
        DataError: no embeddings, or folders of different models.
        MissingPackageError: the engine is not installed.
        InputError: queries that are not finite or not as wide as the folder's embeddings, `count` < 1, or an
            unknown metric or engine.
    """
    queries = _vectors(queries, "queries", 2)
    count = check_whole(count, "count")
    if metric not in METRICS:
        raise InputError(f"metric: {shown(metric)} is not one of {', '.join(map(repr, METRICS))}")
    if engine not in ENGINES:
        raise InputError(f"engine: {shown(engine)} is not one of {', '.join(map(repr, ENGINES))}")
    best: list[list[tuple[float, int, Hit]]] = [[] for _ in queries]
    n_seen = 0
    for table in read_archives(folders):
        if queries.shape[1:] != table.embeddings.shape[1:]:
            raise InputError(f"query: shape {queries.shape[1:]}, expected {table.embeddings.shape[1:]}")
        if not np.isfinite(table.embeddings).all():
            raise DataError(f"{table.paths[0]} and others: their embeddings are not finite; embed them again")
        scores, rows = _nearest(queries, table.embeddings, min(count, len(table)), metric, engine)
        for own, values, places in zip(best, scores.tolist(), rows.tolist()):
            for score, row in zip(values, places):
                hit = Hit(score, table.paths[row], float(table.start[row]), float(table.duration[row]))
                own.append((-score, n_seen + row, hit))
            own.sort()
            del own[count:]
        n_seen += len(table)
    return [[hit for _, _, hit in own] for own in best]


def _vectors(given: object, name: str, n_axes: int) -> np.ndarray:
    try:
        vectors = np.asarray(given, dtype=np.float32)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(f"{name}: not an array of numbers: {one_line(error)}") from None
    if vectors.ndim != n_axes:
        raise InputError(f"{name}: shape {vectors.shape}, expected {'(K,)' if n_axes == 1 else '(Q, K)'}")
    if not np.isfinite(vectors).all():
        raise InputError(f"{name}: holds NaN or infinity; must be finite")
    return vectors


def seconds_of(hit: Hit) -> tuple[float, float]:
    """Return where a hit starts and ends; of an archive that does not say, the whole file.

    Raises:
        AudioReadError: the archive does not say, and the file cannot be read.
    """
    start = 0.0 if math.isnan(hit.start) else hit.start
    return start, duration_of(hit.path) if math.isnan(hit.duration) else start + hit.duration


def _nearest(
    queries: np.ndarray, rows: np.ndarray, count: int, metric: Metric, engine: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and indices `(Q, count)` of the nearest rows, best first."""
    if metric == "cosine":
        queries, rows = _unit(queries), _unit(rows)
    if engine == "exact":
        found = [_best(_scores(query, rows, metric), count) for query in queries]
        return np.stack([scores for scores, _ in found]), np.stack([top for _, top in found])
    if engine == "faiss":
        require("faiss", "the engine 'faiss'", "faiss-cpu")
        import faiss

        width = rows.shape[1]
        index = faiss.IndexFlatIP(width) if metric == "cosine" else faiss.IndexFlatL2(width)
        index.add(np.ascontiguousarray(rows))
        scores, top = index.search(queries, count)
        return (scores if metric == "cosine" else -np.sqrt(scores)), top
    if engine == "usearch":
        require("usearch", "the engine 'usearch'", "usearch")
        from usearch import index as usearch

        kind = usearch.MetricKind.IP if metric == "cosine" else usearch.MetricKind.L2sq
        matches = [usearch.search(np.ascontiguousarray(rows), q, count, kind, exact=True) for q in queries]
        distances = np.stack([np.asarray(own.distances) for own in matches])
        top = np.stack([np.asarray(own.keys) for own in matches]).astype(np.int64)
        return (1 - distances if metric == "cosine" else -np.sqrt(distances)), top
    raise AssertionError(engine)


def _scores(query: np.ndarray, rows: np.ndarray, metric: Metric) -> np.ndarray:
    return np.asarray(rows @ query if metric == "cosine" else -np.linalg.norm(rows - query, axis=1))


def _best(scores: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    top = np.argpartition(-scores, count - 1)[:count]
    # A partition takes any of those tied at its edge: take the first ones.
    tied = np.flatnonzero(scores >= scores[top].min())
    top = tied[np.lexsort((tied, -scores[tied]))][:count]
    return scores[top], top


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))
