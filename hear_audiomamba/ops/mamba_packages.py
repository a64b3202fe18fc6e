"""Finding functions of the packages mamba-ssm and causal-conv1d, which often are installed but do not load."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def import_function(module: str, function: str, package: str) -> Callable[..., Any]:
    """Return a function of an optional package.

    Args:
        module: where it lives.
        function: its name.
        package: what to tell the user is missing.

    Raises:
        ImportError: the package is not installed, or is but fails to load, in one line with the cause.
    """
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), function)
        return found
    except ModuleNotFoundError as error:
        if error.name == module.partition(".")[0]:
            raise ImportError(f"the package {package} is not installed") from error
        raise ImportError(f"the package {package} does not load: {error}") from error
    except Exception as error:  # a kernel built for another torch fails in many ways
        raise ImportError(f"the package {package} does not load: {str(error).splitlines()[0]}") from error
