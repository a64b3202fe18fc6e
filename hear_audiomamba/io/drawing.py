"""Pictures by matplotlib, which is imported only where one is drawn."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import ConfigError, one_line, require


@contextmanager
def quiet_drawing() -> Iterator[None]:
    """Keep back what matplotlib warns of: signs that its fonts lack, and how it lists the system's fonts.

    It has its say while it is imported as well as while it draws. Also a decorator.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def require_drawing(task: str, install: str) -> None:
    """Refuse a task that draws, before anything is done, where matplotlib is missing or does not start.

    Args:
        task: in words.
        install: what to give pip, for instance "hear_audiomamba[classify]".

    Raises:
        MissingPackageError: matplotlib is not installed.
        ConfigError: `MPLBACKEND` names a backend that matplotlib does not have.
    """
    require("matplotlib", task, install)
    with quiet_drawing():
        try:
            import matplotlib  # noqa: F401
        except ValueError as error:
            raise ConfigError(f"MPLBACKEND (an environment variable): {one_line(error)}") from None
