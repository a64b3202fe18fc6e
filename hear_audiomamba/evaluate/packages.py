"""What the benchmark needs beyond the package's own requirements."""

from __future__ import annotations

import importlib.util

from ..errors import BackendError


def require_scipy() -> None:
    """Refuse to start without scipy, before anything is computed.

    Raises:
        BackendError: scipy is not installed; the message says how to install it.
    """
    if importlib.util.find_spec("scipy") is None:
        raise BackendError("the benchmark needs scipy: pip install 'hear_audiomamba[evaluate]'")
