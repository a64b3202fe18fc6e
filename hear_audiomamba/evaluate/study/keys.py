"""Which results may be used again: keys over everything that a number depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ...io.files import sha256_of
from ...models.known import known_weights
from ...models.registry import DEFAULT_VARIANT, find_variant
from .suite import Entrant, Suite

_EMBEDDING_TOOLS = {"heareval": ("heareval", "torch"), "fast": ("torch",)}
_PREDICTION_TOOLS = {
    "heareval": ("heareval", "pytorch-lightning", "torch", "scikit-learn", "sed_eval"),
    "fast": ("torch",),
}


def weights_identity(entrant: Entrant, trained: bool) -> str:
    """Say which weights a model has: a hash, or that there are none.

    Args:
        entrant: the model.
        trained: whether the model said, when it was loaded, that its weights are trained.
    """
    if entrant.weights:
        return f"sha256:{sha256_of(entrant.weights)}"
    if entrant.module != "hear_audiomamba":
        return "none given: the module's own"
    if not trained:
        return "none: random, from a fixed seed"
    name, _, tag = str(entrant.options.get("variant") or DEFAULT_VARIANT).partition(".")
    path = known_weights(find_variant(name).name, tag or None)
    return f"sha256:{sha256_of(path)}" if path else "none: random, from a fixed seed"


def embedding_key(
    entrant: Entrant, weights: str, probe: Mapping[str, Any], task_fingerprint: str, runner: str
) -> str:
    """Return the key of a model's embeddings of a task.

    Args:
        entrant: the model.
        weights: from `weights_identity`.
        probe: what the model said of itself when it was loaded.
        task_fingerprint: of the task's metadata and labels.
        runner: `heareval`, or `fast` with the hash of its source.
    """
    return _key(
        {
            "module": entrant.module,
            "code": probe["code"],
            "weights": weights,
            # Order and spelling of options are kept: heareval's own folder name tells neither.
            "options": dict(entrant.options),
            "task": task_fingerprint,
            "runner": runner,
            "versions": _versions(probe["versions"], _EMBEDDING_TOOLS[runner.partition(" ")[0]]),
        }
    )


def prediction_key(embedding: str, suite: Suite, versions: Mapping[str, str], code: str) -> str:
    """Return the key of the predictions made from embeddings; the seed is not part of it.

    Args:
        embedding: key of the embeddings.
        suite: names engine and grid.
        versions: of the tools where the predictions run.
        code: hash of the fast engine's sources; empty for HEAR's runner.
    """
    return _key(
        {
            "embedding": embedding,
            "engine": suite.engine,
            "code": code,
            "grid": suite.grid,
            "grid_points": suite.grid_points,
            "grid_seed": suite.grid_seed,
            "precision": suite.precision,
            "versions": _versions(versions, _PREDICTION_TOOLS[suite.engine]),
        }
    )


def _versions(versions: Mapping[str, str], tools: tuple[str, ...]) -> dict[str, str]:
    return {name: versions.get(name, "") for name in tools}


def _key(parts: Mapping[str, Any]) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
