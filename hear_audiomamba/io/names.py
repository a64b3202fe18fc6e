"""Names of files in texts, whatever the locale: every text that the package writes is valid UTF-8.

Where the locale is not UTF-8, Python holds the bytes of a name that it cannot decode as lone surrogates. No text file,
page or table takes these.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence, Set

from ..errors import InputError

# Of all surrogates, only U+DC80 to U+DCFF stand for bytes.
_NO_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def valid_text(text: str) -> str:
    """Return a text without surrogates: bytes that are UTF-8 become their characters, others `\\xNN`."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        data = _NO_BYTES.sub("\ufffd", text).encode("utf-8", "surrogateescape")
        return data.decode("utf-8", "backslashreplace")
    return text


def path_of(text: str) -> str:
    """Return the path that a text names: one that the locale cannot encode has the bytes of its UTF-8."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return os.fsdecode(text.encode("utf-8", "surrogateescape"))
    return text


def one_path(given: object, name: str) -> str:
    """Return a path that a caller hands in.

    Args:
        given: text, or a `Path`.
        name: of the argument, for the error.

    Raises:
        InputError: it is something else, or no file can be called so.
    """
    text = os.fspath(given) if isinstance(given, os.PathLike) else given
    if not isinstance(text, str):
        kind = type(given).__name__
        raise InputError(
            f"{name}: expected a path, got {kind}; write a table to a .csv or .parquet file first"
        )
    if "\0" in text:
        raise InputError(f"{name}: no path can hold the character 0, as {text!r} does")
    return text


def several_paths(given: object, name: str) -> list[str]:
    """Return paths that a caller hands in, one or several.

    Args:
        given: a path, or a list, an array or a column of them.
        name: of the argument, for the error.

    Raises:
        InputError: it is something else, such as a table, or there are none.
    """
    if not isinstance(given, (Sequence, Set, Iterator)) or isinstance(given, (str, bytes)):
        import numpy as np

        values = np.asarray(given, dtype=object)
        given = values.tolist() if values.ndim == 1 else [given]
    paths = [one_path(path, name) for path in given]
    if not paths:
        raise InputError(f"{name}: an empty list; give at least one path")
    return paths
