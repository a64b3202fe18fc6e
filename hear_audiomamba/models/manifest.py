"""The list of known weights: what there is, from where, under which licence. Needs no torch."""

from __future__ import annotations

import functools
import json
from typing import Any

from ..errors import CheckpointError
from .bundled import bundled_path


@functools.cache
def manifest() -> dict[str, Any]:
    """Return the list of known weights: `weights/manifest.json`.

    Keys: "defaults" (variant → tag) and "weights" ("variant.tag" → entry). An entry has licence, source and
    recipe, bytes and sha256 (null where they are not known), and where the file is, one of "file" (beside the
    manifest), "hub" (repo, file, revision), "url", and "by_hand" (what to do).
    """
    path = bundled_path("weights") / "manifest.json"
    try:
        listing: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"the list of weights {path} cannot be read: {error}") from None
    return listing
