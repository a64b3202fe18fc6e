"""Batches of windows through the model: several devices at once, and less at once when memory runs out."""

from __future__ import annotations

import copy
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from ..embedding.embedder import AudioEmbedder
from ..embedding.pooling import pool_parts
from ..errors import counted
from ..io.process import is_out_of_memory
from ..models.devices import find_device


class Encoded(NamedTuple):
    """What the encoder made of a window: its rows `(n, K)`, if wanted, their sum and, if the scene
    embedding needs it, their maximum `(K,)`, on the CPU."""

    total: Tensor
    largest: Tensor | None
    rows: Tensor | None


Deliver = Callable[[list[Encoded]], None]


class WindowEncoder:
    """Encodes batches of windows on one device or several; results are delivered in order.

    A thread for each device works on its batch while the caller prepares the next. On the CPU each of
    torch's threads takes batches of its own and computes them alone: the small operators of one batch
    do not divide well between cores, whole batches do.

    Args:
        model: what encodes.
        devices: where; by default where the model is. The model is copied to the others.
        budget: most windows encoded at once; by default 16, on GPUs 256. Halved when memory runs out.
        keep_rows: deliver the rows too; sum and maximum are enough for scene embeddings.
    """

    def __init__(
        self,
        model: AudioEmbedder,
        devices: Sequence[str | torch.device] = (),
        budget: int | None = None,
        keep_rows: bool = False,
    ) -> None:
        self._keep_rows = keep_rows
        places = [find_device(d) for d in devices] or [model.device]
        self._threads_before = torch.get_num_threads()
        self.models = [model.to(places[0]), *(copy.deepcopy(model).to(place) for place in places[1:])]
        self.budget = budget or model.max_batch_windows or (16 if places[0].type == "cpu" else 256)
        self._largest = self.budget
        self._warned = False
        if all(place.type == "cpu" for place in places):
            # Weights are only read, so that threads may share them.
            self.models *= max(1, self._threads_before // len(places))
            torch.set_num_threads(1)
        inline = len(self.models) == 1 and places[0].type == "cpu"
        self._threads = [] if inline else [ThreadPoolExecutor(1) for _ in self.models]
        self._under_way: deque[tuple[Future[list[Encoded]], Deliver]] = deque()
        self._turn = 0

    def __enter__(self) -> WindowEncoder:
        return self

    def __exit__(self, *error: object) -> None:
        for thread in self._threads:
            thread.shutdown(cancel_futures=True)
        torch.set_num_threads(self._threads_before)

    def encode(self, windows: Tensor, n_rows: list[int], deliver: Deliver) -> None:
        """Encode windows `(n, t, F)` and deliver, now or later, what the first `n_rows` rows of each hold."""
        index = self._turn % len(self.models)
        self._turn += 1
        if not self._threads:
            deliver(self._run(self.models[index], windows, n_rows))
            return
        task = self._threads[index].submit(self._run, self.models[index], windows, n_rows)
        self._under_way.append((task, deliver))
        while len(self._under_way) > 2 * len(self.models):
            self._deliver_one()

    def finish(self) -> None:
        """Deliver everything still under way."""
        while self._under_way:
            self._deliver_one()

    def _deliver_one(self) -> None:
        task, deliver = self._under_way.popleft()
        deliver(task.result())

    @torch.inference_mode()
    def _run(self, model: AudioEmbedder, windows: Tensor, n_rows: list[int]) -> list[Encoded]:
        done: list[Encoded] = []
        while len(done) < len(windows):
            at, size = len(done), min(self._largest, len(windows) - len(done))
            try:
                rows = model.encode_windows(windows[at : at + size].to(model.device))
                done += self._reduced(rows, n_rows[at : at + size], model.scene_pooling)
                continue
            except RuntimeError as error:
                if not is_out_of_memory(error) or size == 1:
                    raise
            # Outside the handler, where the error no longer keeps the failed batch's tensors alive.
            self._shrink(size, model.device)
        return done

    def _reduced(self, rows: Tensor, n_rows: list[int], pooling: str) -> list[Encoded]:
        totals, largest = pool_parts(rows, torch.tensor(n_rows, device=rows.device), pooling)
        none: list[Tensor | None] = [None] * len(rows)
        peaks = none if largest is None else list(largest.cpu())
        kept = none
        if self._keep_rows:
            kept = [own[:n] for own, n in zip(rows.cpu(), n_rows, strict=True)]
        return [Encoded(*window) for window in zip(totals.cpu(), peaks, kept, strict=True)]

    def _shrink(self, failed: int, device: torch.device) -> None:
        self._largest = max(1, min(self._largest, failed // 2))
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"out of memory on {device} with {counted(failed, 'window')} at once; continuing with {self._largest} "
                f"(start with --batch-windows {self._largest} to avoid this)",
                stacklevel=2,
            )
