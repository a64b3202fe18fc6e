"""Windows of any clips in full batches: cut as frames arrive, grouped by length, encoded together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..embedding.embedder import AudioEmbedder
from .encode import Deliver, Encoded


class Window(NamedTuple):
    """A window of a clip.

    Attributes:
        frames: `(t, F)`, normalised and padded to a length the encoder takes.
        n_rows: how many of the encoder's rows belong to the clip.
    """

    frames: Tensor
    n_rows: int


class WindowCutter:
    """Cuts one clip's spectrogram into the windows of `AudioEmbedder.cut_windows`, as frames arrive.

    Args:
        model: whose windows.
        finish_window: what to do with a window's true frames before they are padded, for instance
            normalise them by themselves.
    """

    def __init__(self, model: AudioEmbedder, finish_window: Callable[[Tensor], Tensor] | None = None) -> None:
        self._model, self._encoder = model, model.encoder
        self._finish_window = finish_window
        self._size = model.window_frames
        self._rows = self._encoder.count_rows(self._size)
        self._advance = round(self._rows * self._encoder.step)
        self._held: Tensor | None = None
        self._n_windows = 0

    def push(self, frames: Tensor, n_samples: int) -> list[Window]:
        """Take the next frames `(t, F)`; return the windows complete when the clip has `n_samples` or more."""
        self._held = frames if self._held is None else torch.cat([self._held, frames])
        windows = []
        n_rows = self._model.count_rows(n_samples)
        while len(self._held) >= self._size and n_rows > (self._n_windows + 1) * self._rows:
            windows.append(self._window(self._held[: self._size], self._rows))
        return windows

    def finish(self, n_samples: int) -> list[Window]:
        """Return the windows left when the clip has `n_samples` samples; the last one is padded."""
        windows = []
        while (n_rows := self._model.count_rows(n_samples) - self._n_windows * self._rows) > 0:
            size = self._size
            if self._encoder.causal and n_rows < self._rows:
                # Tokens look back only, so that what stands behind the last row need not be there.
                size = self._encoder.fit_frames(math.ceil(n_rows * self._encoder.step))
            windows.append(self._window(self._held[:size], min(n_rows, self._rows), size))
        return windows

    def _window(self, frames: Tensor, n_rows: int, size: int | None = None) -> Window:
        if self._finish_window is not None and len(frames):
            frames = self._finish_window(frames)
        missing = (size or len(frames)) - len(frames)
        if missing:
            frames = F.pad(frames, (0, 0, 0, missing), value=self._model.features.pad_value)
        self._held = self._held[self._advance :]
        self._n_windows += 1
        return Window(frames, n_rows)


class Receiver(Protocol):
    """Who a window's rows go to."""

    def receive(self, encoded: Encoded) -> None:
        """Take what became of one's next window."""


class WindowBatcher:
    """Gathers windows, whoever's they are, and hands them on in full batches of like length.

    Which windows share a batch depends on nothing but the order they came in, so that a run that is
    repeated gives the same bits. Rows reach each receiver in the order of its windows.

    Args:
        encode: `WindowEncoder.encode`: takes windows `(n, t, F)`, the number of rows to keep of each, and
            a function to call with the results.
        budget: windows in a batch.
        causal: padding behind a window changes nothing, so windows of other lengths may join.
        pad_value: what to pad with.
    """

    LOOKAHEAD = 4

    def __init__(
        self,
        encode: Callable[[Tensor, list[int], Deliver], None],
        budget: int,
        causal: bool,
        pad_value: float,
    ) -> None:
        self._encode, self._budget = encode, budget
        self._causal, self._pad_value = causal, pad_value
        self._waiting: list[tuple[Window, Receiver]] = []

    def add(self, window: Window, receiver: Receiver) -> None:
        """Take a window."""
        self._waiting.append((window, receiver))
        if len(self._waiting) >= self.LOOKAHEAD * self._budget:
            self._run(keep_remainder=True)

    def flush(self) -> None:
        """Hand on all windows still waiting."""
        self._run(keep_remainder=False)

    def _run(self, keep_remainder: bool) -> None:
        # Longest first; the sort is stable, and a clip's only short window is its last.
        self._waiting.sort(key=lambda item: -len(item[0].frames))
        while self._waiting:
            batch = self._waiting[: self._budget]
            if not self._causal:
                size = len(batch[0][0].frames)
                batch = [item for item in batch if len(item[0].frames) == size]
            if keep_remainder and len(batch) < self._budget:
                return
            self._waiting = self._waiting[len(batch) :]
            self._send(batch)

    def _send(self, batch: list[tuple[Window, Receiver]]) -> None:
        size = len(batch[0][0].frames)
        padded = [
            F.pad(window.frames, (0, 0, 0, size - len(window.frames)), value=self._pad_value)
            for window, _ in batch
        ]
        receivers = [receiver for _, receiver in batch]

        def deliver(results: list[Encoded]) -> None:
            for receiver, encoded in zip(receivers, results, strict=True):
                receiver.receive(encoded)

        self._encode(torch.stack(padded), [w.n_rows for w, _ in batch], deliver)
