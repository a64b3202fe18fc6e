"""What safetensors says of a disk that is full or gone, as the system's own error."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError


@contextmanager
def system_errors() -> Iterator[None]:
    """Raise the errors of the system that safetensors wraps in its own as what they are.

    Raises:
        OSError: with the system's number and reason.
    """
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from None
