"""The results file of a model: what was run, with what, and every score."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .cell import Cell
from .probe import versions
from .suite import Entrant, Suite

SCHEMA = "hear_audiomamba.results/1"


def results_of(
    entrant: Entrant, probe: Mapping[str, Any], weights: str, suite: Suite, cells: Sequence[Cell]
) -> dict[str, Any]:
    """Return what `results/<model>.json` holds (docs/evaluation.md has its fields).

    Args:
        entrant: the model.
        probe: what the model said of itself when it was loaded.
        weights: identity of its weights.
        suite: the protocol.
        cells: the model's cells.
    """
    tool_versions = {"embeddings": probe["versions"]}
    if suite.engine == "fast":
        tool_versions["predictions"] = versions()
    return {
        "schema": SCHEMA,
        "model": entrant.name,
        "module": entrant.module,
        "code": probe["code"],
        "weights": weights,
        "trained": probe["trained"],
        "options": dict(entrant.options),
        "parameters": probe["parameters"],
        "sample_rate": probe["sample_rate"],
        "embedding_size": probe["scene_embedding_size"],
        "suite": suite.name,
        "protocol": {
            "engine": suite.engine,
            "grid": suite.grid,
            "grid_points": suite.grid_points,
            "grid_seed": suite.grid_seed,
            "precision": suite.precision,
            "seeds": suite.seed_list,
        },
        "versions": tool_versions,
        "tasks": {
            c.check.task: {
                "score": (c.check.metadata.get("evaluation") or [None])[0],
                "state": c.state,
                "runs": [c.runs[s] for s in sorted(c.runs)],
                "failures": c.failures,
            }
            for c in cells
        },
    }


def merge_tasks(path: Path, results: dict[str, Any], cells: Sequence[Cell]) -> dict[str, Any]:
    """Return results with what an earlier study or another shard left in the same file.

    Nothing is taken over unless all that the file says of model and protocol, but for seeds, is the same.

    Args:
        path: of the results file.
        results: of this process, from `results_of`.
        cells: the model's cells.
    """

    def made_with(of: dict[str, Any]) -> dict[str, Any]:
        protocol = {key: value for key, value in of["protocol"].items() if key != "seeds"}
        return {key: value for key, value in of.items() if key not in ("suite", "tasks")} | {
            "protocol": protocol
        }

    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        tasks = earlier["tasks"] if made_with(earlier) == made_with(results) else {}
        mine = {cell.check.task: cell for cell in cells}
        for name, cell in mine.items():
            if cell.mine or name not in tasks or results["tasks"][name]["state"] in ("done", "failed"):
                continue
            # Another shard's cell: what became of it is known there.
            for key in ("state", "failures"):
                results["tasks"][name][key] = tasks[name][key]
        return {**results, "tasks": {**tasks, **results["tasks"]}}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return results
