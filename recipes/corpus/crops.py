"""Which stretches of a corpus the teachers listen to, and reading them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hear_audiomamba.errors import DataError

from .decode import decode
from .manifest import Clip, read_table
from .synth.sound import SAMPLE_RATE

CROP_SECONDS = 2.0

Crop = tuple[str, float, float]


def choose_crops(
    corpus: str | Path, count: int, shares: Mapping[str, float] | None = None, seed: int = 0
) -> list[Crop]:
    """Choose two-second crops spread over a corpus.

    Args:
        corpus: the corpus folder.
        count: how many crops to choose in all, about.
        shares: part of the crops for each source whose name starts with a key, the longest key that fits
            (`{"music": 3, "speech": 2, "notes": 1}`); other sources get none. None takes crops in
            proportion to each kind's seconds.
        seed: of the choice.

    Returns:
        `(path, start_seconds, seconds)` of each crop, sorted; a clip shorter than a crop is taken whole,
        and so often as its group needs.

    Raises:
        DataError: there is no manifest, or no clip belongs to any group.
    """
    clips = read_table(Path(corpus) / "manifest.csv", Clip)
    groups: dict[str, list[Clip]] = {}
    for clip in clips:
        name = _group(clip, shares)
        if name is not None:
            groups.setdefault(name, []).append(clip)
    if not groups:
        raise DataError(f"{corpus}: no clip belongs to any of {', '.join(shares or ())}")
    weights = shares or {name: sum(clip.seconds for clip in members) for name, members in groups.items()}
    total = sum(weights[name] for name in groups)
    chosen: set[Crop] = set()
    for name, members in groups.items():
        wanted = max(1, round(count * weights[name] / total))
        chosen.update(_spread(members, wanted, _generator(name, seed)))
    return sorted(chosen)


def read_crop(corpus: str | Path, crop: Crop) -> np.ndarray:
    """Return a crop's samples, shape (n,), float32 at 16 kHz.

    Raises:
        AudioReadError: the file cannot be decoded.
    """
    path, start, seconds = crop
    return decode(Path(corpus) / path, SAMPLE_RATE, start, seconds)


def _group(clip: Clip, shares: Mapping[str, float] | None) -> str | None:
    if shares is None:
        return clip.kind
    fitting = [key for key in shares if clip.source.startswith(key)]
    return max(fitting, key=len) if fitting else None


def _spread(members: Sequence[Clip], wanted: int, rng: np.random.Generator) -> list[Crop]:
    """Choose crops of a group: all clips in turn, long ones more often, never the same stretch twice."""
    slots = np.array([max(1, int(clip.seconds / CROP_SECONDS)) for clip in members])
    # The square root keeps an hour-long source from taking all, and still hears more of it than of a word.
    odds = np.sqrt(slots)
    per_clip = np.minimum(slots, np.ceil(wanted * odds / odds.sum())).astype(int)
    crops = []
    for clip, number in zip(members, per_clip):
        if clip.seconds <= CROP_SECONDS:
            crops.append((clip.path, 0.0, clip.seconds))
            continue
        room = clip.seconds - CROP_SECONDS
        starts = (np.arange(number) + rng.random(number)) / number * room
        crops += [(clip.path, round(float(start), 3), CROP_SECONDS) for start in starts]
    if len(crops) > wanted:
        crops = [crops[i] for i in rng.choice(len(crops), wanted, replace=False)]
    return crops


def _generator(name: str, seed: int) -> np.random.Generator:
    return np.random.default_rng((seed, int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)))
