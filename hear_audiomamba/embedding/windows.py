"""Spectrograms cut into the windows that encoders take: all clips of a batch at once, or frame by frame."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..encoders.base import Encoder
from .timestamps import RowGrid


@dataclass(frozen=True)
class WindowPlan:
    """How clips are cut.

    Windows follow each other so that their rows do; the last one is padded. Where the encoder is causal,
    a clip's last window is cut off behind its last patch, which changes nothing but the time it takes.

    Attributes:
        encoder: what the windows are for.
        grid: where its rows lie.
        size: frames of a window.
        pad_value: what stands for padding.
    """

    encoder: Encoder
    grid: RowGrid
    size: int
    pad_value: float

    @property
    def rows(self) -> int:
        """Rows of a whole window."""
        return self.encoder.count_rows(self.size)

    @property
    def advance(self) -> int:
        """Frames from one window to the next."""
        return self.rows * self.encoder.step

    def size_for(self, n_rows: int) -> int:
        """Return how many frames a window with `n_rows` rows of a clip needs."""
        if self.encoder.causal and n_rows < self.rows:
            # Tokens look back only, so what stands behind the last row need not be there.
            return self.encoder.fit_frames(math.ceil(n_rows * self.encoder.step))
        return self.size

    def cut(self, features: Tensor, n_samples: int) -> Tensor:
        """Cut the spectrograms of clips of the same length.

        Args:
            features: `(n_sounds, T, F)`, normalised.
            n_samples: length of the clips in samples.

        Returns:
            `(n_sounds · n_windows, frames, F)`, windows of a clip in order.
        """
        n_rows = self.grid.count(n_samples)
        size = self.size_for(n_rows)
        n_windows = -(-n_rows // self.encoder.count_rows(size))
        needed = (n_windows - 1) * self.advance + size
        features = features[:, :needed]
        features = F.pad(features, (0, 0, 0, needed - features.shape[1]), value=self.pad_value)
        if n_windows == 1:
            return features
        return features.unfold(1, size, self.advance).transpose(2, 3).flatten(0, 1)


class Window(NamedTuple):
    """A window of a clip.

    Attributes:
        frames: `(t, F)`, normalised and padded to a length the encoder takes.
        n_rows: how many of the encoder's rows belong to the clip.
    """

    frames: Tensor
    n_rows: int


class WindowCutter:
    """Cuts one clip's spectrogram into the windows of `WindowPlan.cut`, as frames arrive.

    Args:
        plan: how.
        finish_window: what to do with a window's true frames before they are padded, for instance
            normalise them by themselves.
    """

    def __init__(self, plan: WindowPlan, finish_window: Callable[[Tensor], Tensor] | None = None) -> None:
        self._plan, self._finish_window = plan, finish_window
        self._held: Tensor | None = None
        self._n_windows = 0

    def push(self, frames: Tensor, n_samples: int) -> list[Window]:
        """Take the next frames `(t, F)`; return the windows complete when the clip has `n_samples` or more."""
        plan = self._plan
        self._held = frames if self._held is None else torch.cat([self._held, frames])
        windows = []
        n_rows = plan.grid.count(n_samples)
        while len(self._held) >= plan.size and n_rows > (self._n_windows + 1) * plan.rows:
            frames, self._held = self._held[: plan.size], self._held[plan.advance :]
            windows.append(self._window(frames, plan.rows, plan.size))
        return windows

    def finish(self, n_samples: int) -> list[Window]:
        """Return the windows left when the clip has `n_samples` samples; the last one is padded."""
        plan = self._plan
        windows: list[Window] = []
        if self._held is None:
            return windows
        while (n_rows := plan.grid.count(n_samples) - self._n_windows * plan.rows) > 0:
            size = plan.size_for(n_rows)
            frames, self._held = self._held[:size], self._held[plan.advance :]
            windows.append(self._window(frames, min(n_rows, plan.rows), size))
        return windows

    def _window(self, frames: Tensor, n_rows: int, size: int) -> Window:
        if self._finish_window is not None and len(frames):
            frames = self._finish_window(frames)
        if len(frames) < size:
            frames = F.pad(frames, (0, 0, 0, size - len(frames)), value=self._plan.pad_value)
        self._n_windows += 1
        return Window(frames, n_rows)
