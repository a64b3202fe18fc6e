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
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from ...errors import UntrainedWeightsWarning

TOOLS = ("heareval", "pytorch-lightning", "torch", "numpy", "scikit-learn", "sed_eval", "hear_audiomamba")
PACKAGE = Path(__file__).resolve().parents[2]
# What cannot change an embedding: who calls the model, and what stands beside it.
_NO_PART_OF_A_MODEL = {
    "__main__.py", "_moved.py", "adapters", "archive", "bundled", "classify", "cli", "evaluate", "pretrain",
}  # fmt: skip
_SOURCES = {".py", ".cpp", ".h"}


def versions() -> dict[str, str]:
    """Return the versions of Python and of HEAR's tools in this environment."""
    found = {"python": platform.python_version()}
    for name in TOOLS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hash_of_sources(files: Iterable[Path], folder: Path) -> str:
    """Return one SHA-256 over the names and contents of source files.

    Args:
        files: the files.
        folder: that their names are relative to.
    """
    digest = hashlib.sha256()
    for path in sorted(files):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def model_sources() -> list[Path]:
    """Return the files of this package that embeddings depend on, kernels included."""
    return [
        path
        for path in PACKAGE.rglob("*")
        if path.suffix in _SOURCES and path.relative_to(PACKAGE).parts[0] not in _NO_PART_OF_A_MODEL
    ]


def code_of(module: ModuleType) -> str:
    """Say which code a module is: its name, its version if it has one, and a hash of its package's sources."""
    top = sys.modules[module.__name__.partition(".")[0]]
    file = Path(top.__file__ or module.__file__ or "")
    if file.parent == PACKAGE:
        digest = hash_of_sources(model_sources(), PACKAGE)
    elif file.name == "__init__.py":
        digest = hash_of_sources(file.parent.rglob("*.py"), file.parent)
    else:
        digest = hash_of_sources([file], file.parent)
    version = vars(top).get("__version__")
    return f"{top.__name__}{f' {version}' if version else ''} sha256:{digest}"


def prediction_code() -> str:
    """Return the hash of the sources that the fast engine's scores depend on."""
    folder = PACKAGE / "evaluate" / "predictions"
    return hash_of_sources(folder.glob("*.py"), folder)


def embedding_code() -> str:
    """Return the hash of the source that this package's embeddings runner consists of."""
    file = PACKAGE / "evaluate" / "study" / "embed.py"
    return hash_of_sources([file], file.parent)


def probe(module_name: str, weights: str, options: dict[str, Any]) -> dict[str, Any]:
    """Load the model and describe it.

    Args:
        module_name: HEAR module.
        weights: path given to `load_model`, empty for none.
        options: keywords given to `load_model`.

    Returns:
        code, trained (False when the model says that its weights are random), sample_rate, embedding sizes,
        parameters, and the tools' versions.
    """
    module = importlib.import_module(module_name)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = module.load_model(*([weights] if weights else []), **options)
    parameters = sum(p.numel() for p in model.parameters()) if isinstance(model, nn.Module) else None
    return {
        "code": code_of(module),
        "trained": not any(issubclass(w.category, UntrainedWeightsWarning) for w in said),
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
