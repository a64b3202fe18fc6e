"""Load a HEAR module once and tell what a study must know about it, and about the tools, as JSON.

python -m hear_audiomamba.evaluate.study.probe hear_audiomamba --options '{"variant": "ssam_tiny_200_16x4"}'
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.metadata
import json
import platform
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

TOOLS = ("heareval", "pytorch-lightning", "torch", "numpy", "scikit-learn", "sed_eval", "hear_audiomamba")


def versions() -> dict[str, str]:
    """Return the versions of Python and of HEAR's tools in this environment."""
    found = {"python": platform.python_version()}
    for name in TOOLS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def code_of(module: ModuleType) -> str:
    """Say which code a module is: its version, or the hash of its source files."""
    top = sys.modules[module.__name__.partition(".")[0]]
    version = getattr(top, "__version__", None)
    if version:
        return f"{top.__name__} {version}"
    file = Path(module.__file__ or "")
    digest = hashlib.sha256()
    for source in sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]:
        digest.update(source.read_bytes())
    return f"{module.__name__} sha256:{digest.hexdigest()}"


def probe(module_name: str, weights: str, options: dict[str, Any]) -> dict[str, Any]:
    """Load the model and describe it.

    Args:
        module_name: HEAR module.
        weights: path given to `load_model`, empty for none.
        options: keywords given to `load_model`.

    Returns:
        code, sample_rate, embedding sizes, parameters, and the tools' versions.
    """
    module = importlib.import_module(module_name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = module.load_model(*([weights] if weights else []), **options)
    parameters = sum(p.numel() for p in model.parameters()) if hasattr(model, "parameters") else None
    return {
        "code": code_of(module),
        "sample_rate": int(model.sample_rate),
        "scene_embedding_size": int(model.scene_embedding_size),
        "timestamp_embedding_size": int(model.timestamp_embedding_size),
        "parameters": parameters,
        "versions": versions(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("module")
    parser.add_argument("--model", default="")
    parser.add_argument("--options", default="{}")
    given = parser.parse_args()
    sys.stdout.write(json.dumps(probe(given.module, given.model, json.loads(given.options))) + "\n")
