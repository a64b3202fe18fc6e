"""Pictures by matplotlib, which is imported only where one is drawn."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_drawing() -> Iterator[None]:
    """Keep back what matplotlib warns of: signs that its fonts lack, and how it lists the system's fonts.

    It has its say while it is imported as well as while it draws. Also a decorator.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
