"""What the benchmark needs beyond the package's own requirements."""

from __future__ import annotations

import importlib.util

from ..errors import MissingPackageError


def require_scipy() -> None:
    """Refuse to start without scipy, before anything is computed.

    Raises:
        MissingPackageError: scipy is not installed; the message says how to install it.
    """
    if importlib.util.find_spec("scipy") is None:
        raise MissingPackageError.of("the benchmark", "evaluate")
