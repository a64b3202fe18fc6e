"""Windows of any clips in full batches: grouped by length, encoded together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..embedding.windows import Window
from .encode import Deliver, Encoded


class Receiver(Protocol):
    """Who a window's rows go to."""

    def receive(self, encoded: Encoded) -> None:
        """Take what became of one's next window."""


class WindowBatcher:
    """Collects the windows of all clips, and passes them on in full batches of similar length.

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
        self._n_since_flush = 0

    def add(self, window: Window, receiver: Receiver) -> None:
        """Take a window."""
        self._waiting.append((window, receiver))
        self._n_since_flush += 1
        if len(self._waiting) >= self.LOOKAHEAD * self._budget:
            self._run(keep_remainder=True)

    @property
    def full(self) -> bool:
        """Enough windows came since the last flush that another costs little."""
        return self._n_since_flush >= self.LOOKAHEAD * self._budget

    def flush(self) -> None:
        """Hand on all windows still waiting: later ones share no batch with earlier ones."""
        self._n_since_flush = 0
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
