"""What the steps of the GPU report share: where they run, times and memory, and the models they measure."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from ..embedding.embedder import AudioEmbedder
from ..encoders.base import PatchPredictor
from ..models.families import all_blocks, build_modules
from ..models.registry import find_variant


class Place(NamedTuple):
    """Where a step runs, and whether at toy size."""

    device: str
    toy: bool

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("cuda")

    def wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def seconds(self, function: Callable[[], Any]) -> float:
        """Return a call's median time after some that are not counted."""
        times = []
        for run in range(3 if self.toy else 15):
            self.wait()
            start = time.perf_counter()
            function()
            self.wait()
            if run >= (1 if self.toy else 5):
                times.append(time.perf_counter() - start)
        return statistics.median(times)

    def peak_bytes(self, function: Callable[[], Any]) -> int | None:
        """Return how much memory a call adds at its peak; None on the CPU."""
        if not self.on_gpu:
            return None
        self.wait()
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        function()
        self.wait()
        return torch.cuda.max_memory_allocated(self.device) - before


def whole_model(
    variant: str, device: str, kind: type[AudioEmbedder] = AudioEmbedder, **options: Any
) -> AudioEmbedder:
    """Return a variant with random weights, the same on every device, and every block computed."""
    config = find_variant(variant).config
    config = config.replace(encoder=all_blocks(config.encoder))
    torch.manual_seed(0)
    features, encoder = build_modules(config)
    return kind(config, features, encoder, **options).to(device)


def training_step(place: Place, encoder: torch.nn.Module, batch: int) -> Callable[[], None]:
    """Return one step of AdamW in mixed precision that predicts patches behind hidden frames."""
    predictor = whole_model("ssam_tiny", place.device).encoder
    if not isinstance(predictor, PatchPredictor):
        raise TypeError(f"{type(predictor).__name__} predicts no patches")
    true = predictor.patch_embed.patches
    features = torch.randn(batch, 200, 80, device=place.device)
    hidden = torch.rand(batch, 200, 1, device=place.device) < 0.5
    optimizer = torch.optim.AdamW(encoder.parameters(), 1e-4)
    kind = "cuda" if place.on_gpu else "cpu"

    def step() -> None:
        with torch.autocast(kind, torch.bfloat16):
            found = predictor.predict_patches(encoder(features.masked_fill(hidden, 0.0)))
            loss = (found.float() - true(features)).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step
