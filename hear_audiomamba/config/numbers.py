"""Numbers as callers hand them in: those of any library, or a typed error."""

from __future__ import annotations

import math

from ..errors import AudioMambaError, ConfigError, InputError, shown


def plain_number(value: object) -> int | float | None:
    """Return a number of any library as one of Python's; None for what is no single real number.

    Scalars of numpy count, and arrays and tensors without axes. Truth values, text, complex numbers and integers
    of more than 64 bits do not.
    """
    if isinstance(value, int):
        return None if isinstance(value, bool) or not -(2**63) <= value < 2**64 else value
    if isinstance(value, float):
        return value
    import numpy as np

    try:
        array = np.asarray(value)
    except (
        TypeError,
        ValueError,
        RuntimeError,
    ):  # a ragged list, or a tensor that is elsewhere or has gradients
        return None
    if array.ndim or array.dtype.kind not in "iuf":
        return None
    return float(array) if array.dtype.kind == "f" else int(array)


def check_number(value: object, name: str, what: str, error: type[AudioMambaError] = ConfigError) -> float:
    """Return a number that must be there.

    Args:
        value: what was given.
        name: of the argument, for the error.
        what: is expected, for the error: "a number of seconds".
        error: to raise.

    Raises:
        AudioMambaError: it is no number, or NaN.
    """
    number = plain_number(value)
    if number is None or number != number:
        raise error(f"{name}: {shown(value)} is not {what}")
    return number


def check_whole(value: object, name: str, least: int = 1, error: type[AudioMambaError] = InputError) -> int:
    """Return a whole number of at least `least`.

    Raises:
        AudioMambaError: it is something else; `error` is raised.
    """
    number = plain_number(value)
    if number is None or not least <= number < math.inf or number != int(number):
        raise error(f"{name}: {shown(value)} is not a whole number of at least {least}")
    return int(number)
