"""Names of files in texts, whatever the locale: every text that the package writes is valid UTF-8.

Where the locale is not UTF-8, Python holds the bytes of a name that it cannot decode as lone surrogates. No text file,
page or table takes these.
"""

from __future__ import annotations

import os
import re

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
