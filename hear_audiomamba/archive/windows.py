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

    Whole windows go as soon as they fill a batch. Shorter ones, of which a clip has one at its end, wait
    until there are many: the more there are to choose from, the less padding a batch needs.

    Which windows share a batch depends on nothing but the order they came in, so that a run that is
    repeated gives the same bits. Rows reach each receiver in the order of its windows.

    Args:
        encode: `WindowEncoder.encode`: takes windows `(n, t, F)`, the number of rows to keep of each, and
            a function to call with the results.
        budget: windows in a batch.
        whole: frames of a whole window.
        causal: padding behind a window changes nothing, so windows of other lengths may join.
        pad_value: what to pad with.
    """

    LEAST_AHEAD, BATCHES_AHEAD = 256, 4

    def __init__(
        self,
        encode: Callable[[Tensor, list[int], Deliver], None],
        budget: int,
        whole: int,
        causal: bool,
        pad_value: float,
    ) -> None:
        self._encode, self._budget, self._whole = encode, budget, whole
        self._causal, self._pad_value = causal, pad_value
        self._ahead = max(self.LEAST_AHEAD, self.BATCHES_AHEAD * budget)
        self._waiting: list[tuple[Window, Receiver]] = []
        self._n_whole = self._n_since_flush = 0

    def add(self, window: Window, receiver: Receiver) -> None:
        """Take a window."""
        self._waiting.append((window, receiver))
        self._n_since_flush += 1
        self._n_whole += len(window.frames) == self._whole
        if self._n_whole == self._budget:
            self._run(only_whole=True)
        elif len(self._waiting) >= self._ahead:
            self._run(keep_remainder=True)

    @property
    def full(self) -> bool:
        """Enough windows came since the last flush that another costs little."""
        return self._n_since_flush >= self._ahead

    def flush(self) -> None:
        """Hand on all windows still waiting: later ones share no batch with earlier ones."""
        self._n_since_flush = 0
        self._run()

    def _run(self, only_whole: bool = False, keep_remainder: bool = False) -> None:
        # Longest first; the sort is stable, and a clip's only short window is its last.
        self._waiting.sort(key=lambda item: -len(item[0].frames))
        while self._n_whole if only_whole else self._waiting:
            batch = self._waiting[: self._budget]
            if not self._causal:
                size = len(batch[0][0].frames)
                batch = [item for item in batch if len(item[0].frames) == size]
            if keep_remainder and len(batch) < self._budget:
                return
            self._waiting = self._waiting[len(batch) :]
            self._n_whole -= sum(len(window.frames) == self._whole for window, _ in batch)
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
