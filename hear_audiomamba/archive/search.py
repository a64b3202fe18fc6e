"""The recordings nearest to a query in a folder of embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from ..embedding.embedder import AudioEmbedder
from ..errors import DataError, InputError, require
from ..io.audio import load_audio
from .read import read_scenes
from .run import weights_hash

Metric = Literal["cosine", "euclidean"]
ENGINES = ("exact", "faiss", "usearch")


class Hit(NamedTuple):
    """A clip found: its score (cosine similarity, or minus the distance), file and stretch in seconds."""

    score: float
    path: str
    start: float
    duration: float


def embed_query(path: str | Path, model: AudioEmbedder, folder: str | Path) -> np.ndarray:
    """Embed a recording as those of a folder were.

    Args:
        path: an audio file.
        model: must be the one the folder was made with.
        folder: of embeddings.

    Returns:
        `(K,)` float32.

    Raises:
        AudioReadError: the file cannot be decoded. DataError: the folder was made with another model.
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
    audio = torch.from_numpy(load_audio(path, model.sample_rate))[None]
    return model.scene(audio)[0].cpu().numpy()


def search(
    query: np.ndarray,
    folder: str | Path,
    count: int = 10,
    metric: Metric = "cosine",
    engine: Literal["exact", "faiss", "usearch"] = "exact",
) -> list[Hit]:
    """Find the clips nearest to a query, exactly.

    Args:
        query: `(K,)`.
        folder: what `embed` wrote, of any format; read a shard at a time.
        count: how many to return.
        metric: "cosine" similarity or "euclidean" distance.
        engine: "exact" is one matrix product a shard; "faiss" and "usearch" let those libraries do the
            same work, with the same result.

    Returns:
        Hits, best first; equal scores in the order of the folder.

    Raises:
        DataError: no embeddings. MissingPackageError: the engine is not installed.
        InputError: the query's width is not that of the folder, or `count` < 1.
    """
    query = np.asarray(query, dtype=np.float32)
    if count < 1:
        raise InputError(f"count: {count}, expected at least 1")
    best: list[tuple[float, int, Hit]] = []
    n_seen = 0
    for table in read_scenes(folder):
        if query.shape != table.embeddings.shape[1:]:
            raise InputError(f"query: shape {query.shape}, expected {table.embeddings.shape[1:]}")
        if not np.isfinite(table.embeddings).all():
            raise DataError(
                f"{folder}: embeddings of {table.paths[0]} and others are not finite; embed again"
            )
        scores, rows = _nearest(query, table.embeddings, min(count, len(table)), metric, engine)
        for score, row in zip(scores.tolist(), rows.tolist()):
            hit = Hit(score, table.paths[row], float(table.start[row]), float(table.duration[row]))
            best.append((-score, n_seen + row, hit))
        best = sorted(best)[:count]
        n_seen += len(table)
    return [hit for _, _, hit in best]


def _nearest(
    query: np.ndarray, rows: np.ndarray, count: int, metric: Metric, engine: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and indices of the nearest rows, best first."""
    if metric == "cosine":
        query, rows = _unit(query), _unit(rows)
    if engine == "exact":
        scores = rows @ query if metric == "cosine" else -np.linalg.norm(rows - query, axis=1)
        top = np.argpartition(-scores, count - 1)[:count]
        # A partition takes any of those tied at its edge: take the first ones.
        tied = np.flatnonzero(scores >= scores[top].min())
        top = tied[np.lexsort((tied, -scores[tied]))][:count]
        return scores[top], top
    if engine == "faiss":
        require("faiss", "the engine 'faiss'", "faiss-cpu")
        import faiss

        index = faiss.IndexFlatIP(len(query)) if metric == "cosine" else faiss.IndexFlatL2(len(query))
        index.add(np.ascontiguousarray(rows))
        scores, top = index.search(query[None], count)
        return (scores[0] if metric == "cosine" else -np.sqrt(scores[0])), top[0]
    if engine == "usearch":
        require("usearch", "the engine 'usearch'", "usearch")
        from usearch import index as usearch

        kind = usearch.MetricKind.IP if metric == "cosine" else usearch.MetricKind.L2sq
        found = usearch.search(np.ascontiguousarray(rows), query, count, kind, exact=True)
        distances, keys = np.asarray(found.distances), np.asarray(found.keys, np.int64)
        return (1 - distances if metric == "cosine" else -np.sqrt(distances)), keys
    raise InputError(f"engine: {engine!r} is not one of {', '.join(map(repr, ENGINES))}")


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))
