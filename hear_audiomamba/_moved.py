"""Import paths that the documentation once named: they still work, and say where their module is now."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# The old name and the new one, both below this package; what lies under the old name lies under the new one.
MOVED = {
    "audio": "io.audio",
    "bundled": "models.bundled",
    "check": "embedding.check",
    "convert": "models.convert",
    "embedder": "embedding.embedder",
    "evaluate.fast": "evaluate.predictions",
    "extract.spectrogram": "frontends.stream",
    "extract.streaming": "embedding.streaming",
    "extract.manifest": "io.manifest",
    "extract": "archive",
    "features": "frontends.logmel",
    "features_kaldi": "frontends.kaldi",
    "flops": "models.flops",
    "inputs": "embedding.inputs",
    "memory": "io.process",
    "pretrain.reading": "pretrain.data.reading",
    "registry": "models.registry",
    "tagging": "embedding.tagging",
    "weights": "models.weights",
}
_PACKAGE = __package__ or "hear_audiomamba"


class MovedModules(MetaPathFinder, Loader):
    """Finds a module under its old name by importing the one under its new name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to load a module of this package that has moved, None for any other."""
        if new_name(fullname) is None:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module under its new name."""
        new = new_name(spec.name)
        assert new is not None
        warnings.warn(f"{spec.name} is now {new}; import it from there", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(new)
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the module has run under its new name, whose specification it keeps."""
        module.__spec__ = self._own_spec


def new_name(fullname: str) -> str | None:
    """Return where the module of an old full name is now, None if it has not moved."""
    package, _, name = fullname.partition(".")
    if package != _PACKAGE:
        return None
    for old in sorted(MOVED, key=len, reverse=True):
        if name == old or name.startswith(f"{old}."):
            return f"{_PACKAGE}.{MOVED[old]}{name[len(old) :]}"
    return None


def install() -> None:
    """Let old import paths work, once a process."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
