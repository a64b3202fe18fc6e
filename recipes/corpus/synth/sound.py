"""One synthesised sound, and the rate all of them share."""

from __future__ import annotations

import dataclasses

import numpy as np

SAMPLE_RATE = 16000


@dataclasses.dataclass(frozen=True)
class Sound:
    """A named sound: mono float32 samples at 16 kHz and labels such as `note:60` or `language:cs`."""

    name: str
    samples: np.ndarray
    labels: tuple[str, ...]


def levelled(samples: np.ndarray, peak: float = 0.7) -> np.ndarray:
    """Return the samples scaled to a peak; silence stays silent."""
    highest = float(np.abs(samples).max(initial=0.0))
    return samples.astype(np.float32) * (peak / highest if highest > 1e-5 else 1.0)


def trimmed(samples: np.ndarray, floor: float = 1e-3, tail: float = 0.1) -> np.ndarray:
    """Cut the silent ends of a sound, leaving `tail` seconds after it."""
    loud = np.flatnonzero(np.abs(samples) > floor * max(float(np.abs(samples).max(initial=0.0)), 1e-9))
    if not len(loud):
        return samples
    return samples[max(0, loud[0] - 160) : loud[-1] + int(tail * SAMPLE_RATE)]
