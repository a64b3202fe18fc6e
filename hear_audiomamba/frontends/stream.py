"""Spectrograms of audio that arrives in pieces: the frames `model.features` gives for the whole."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .base import Frontend


class SpectrogramStream:
    """Turns consecutive samples into frames, each as soon as its samples are there.

    The frames are those of `features` on all samples together, normalised unless that needs the whole
    clip (`Frontend.clip_normalized`).

    Args:
        features: the front end of a model.

    Attributes:
        n_samples: samples so far.
        n_frames: frames given so far.
    """

    def __init__(self, features: Frontend) -> None:
        self._features, self._hop = features, features.hop_length
        self._compute = features.log_mel if features.clip_normalized else features
        self._lookahead = features.samples_after
        self._context = math.ceil(features.samples_before / self._hop)  # frames that touch samples before
        self._tail = torch.zeros(0, dtype=torch.float32)
        self._tail_start = 0
        self.n_samples = self.n_frames = 0

    def push(self, samples: Tensor) -> Tensor:
        """Take the next samples `(n,)` and return the frames `(t, F)` they complete, t ≥ 0."""
        self._tail = torch.cat([self._tail.to(samples.device), samples])
        self.n_samples += len(samples)
        return self._take((self.n_samples - self._lookahead) // self._hop + 1)

    def finish(self) -> Tensor:
        """Return the frames `(t, F)` that the end of the audio completes."""
        return self._take(self._features.n_frames(self.n_samples))

    def _take(self, ready: int) -> Tensor:
        n_new = ready - self.n_frames
        if n_new <= 0:
            return self._tail.new_zeros(0, self._features.n_mels)
        first = self.n_frames - self._tail_start // self._hop
        # No further than the last new frame needs: the rest is computed when its turn comes.
        needed = (first + n_new - 1) * self._hop + 2 * self._lookahead
        frames = self._compute(self._tail[None, :needed])[0, first : first + n_new]
        self.n_frames = ready
        keep_from = max(0, ready - self._context) * self._hop
        self._tail = self._tail[keep_from - self._tail_start :]
        self._tail_start = keep_from
        return frames


class RunningStatistics:
    """Mean and standard deviation of all values of the frames seen, in float64.

    Source: Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm" (1979).
    """

    def __init__(self) -> None:
        self.count, self.mean, self._squares = 0, 0.0, 0.0

    def update(self, frames: Tensor) -> None:
        """Take more frames, any shape."""
        n = frames.numel()
        if not n:
            return
        values = frames.double()
        mean = float(values.mean())
        delta, total = mean - self.mean, self.count + n
        self._squares += float((values - mean).square().sum()) + delta * delta * self.count * n / total
        self.mean += delta * n / total
        self.count = total

    @property
    def std(self) -> float:
        """The unbiased standard deviation; 0 before two values are there."""
        return math.sqrt(self._squares / (self.count - 1)) if self.count > 1 else 0.0

    def normalize(self, frames: Tensor) -> Tensor:
        """Return the frames less the mean, divided by the standard deviation as `LogMel` does it."""
        return (frames - self.mean) / (self.std + 1e-8)
