"""Spectrograms of audio that arrives in pieces: the frames `model.features` gives for the whole."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..io.moments import Moments
from .base import FLAT, Frontend


class SpectrogramStream:
    """Turns consecutive samples into frames, each as soon as its samples are there.

    The frames are those of `features` on all samples together, normalised unless that needs the whole
    clip (`Frontend.clip_normalized`).

    Args:
        features: the front end of a model.
        raw: give the frames before normalisation, whatever the front end.

    Attributes:
        n_samples: samples so far.
        n_frames: frames given so far.
    """

    def __init__(self, features: Frontend, raw: bool = False) -> None:
        self._features, self._hop = features, features.hop_length
        self._compute = features.log_mel if raw or features.clip_normalized else features
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
    """Mean and standard deviation of all values of the frames seen, in float64 on the CPU."""

    def __init__(self) -> None:
        self._moments = Moments()

    def update(self, frames: Tensor) -> None:
        """Take more frames `(…, F)`."""
        self._moments.add(frames.reshape(-1, frames.shape[-1]).cpu().numpy())

    @property
    def mean(self) -> float:
        """Of all values; 0 before there are some."""
        return self._moments.overall()[0]

    @property
    def std(self) -> float:
        """The unbiased standard deviation; 0 before two values are there."""
        return self._moments.overall(ddof=1)[1]

    def normalize(self, frames: Tensor) -> Tensor:
        """Return the frames less the mean, divided by the standard deviation as `LogMel` does it."""
        mean, std = self._moments.overall(ddof=1)
        return torch.zeros_like(frames) if std < FLAT else (frames - mean) / (std + 1e-8)
