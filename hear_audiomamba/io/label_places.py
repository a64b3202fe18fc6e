"""Which labels belong to the sounds of an archive."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Sequence

from .label_checks import LabelRow
from .labels import LabelTable
from .names import path_of


def labels_of(
    table: LabelTable, paths: Sequence[str], starts: Sequence[float], ends: Sequence[float]
) -> list[str | None]:
    """Find the labels of sounds.

    Args:
        table: labels of files, or of stretches of them.
        paths: the audio file of each sound.
        starts, ends: seconds in the file; NaN for a sound that is its whole file.

    Returns:
        For each sound the label, several joined with ";", or None. A label with times counts for the sounds that
        it shares at least half of its own length or of the sound's with; of several, the one that shares most.
    """
    rows: dict[str, list[LabelRow]] = defaultdict(list)
    for row in table.rows:
        if row.labels:
            rows[os.path.realpath(row.path)].append(row)
    real = {path: os.path.realpath(path_of(path)) for path in set(paths)}
    return [
        _nearest(rows.get(real[path], ()), start, end)
        for path, start, end in zip(paths, starts, ends, strict=True)
    ]


def _nearest(rows: Sequence[LabelRow], start: float, end: float) -> str | None:
    start, end = (0.0 if math.isnan(start) else start), (math.inf if math.isnan(end) else end)
    best, most = None, 0.0
    for row in rows:
        if row.start is None or row.end is None:
            # The whole file's label holds where no label with times does.
            best = best or ";".join(row.labels)
            continue
        shared = min(end, row.end) - max(start, row.start)
        if shared > most and shared >= 0.5 * min(row.end - row.start, end - start):
            best, most = ";".join(row.labels), shared
    return best
