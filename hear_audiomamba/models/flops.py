"""How many operations a model needs for a stretch of audio, counted without computing anything."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..config import ModelConfig
from ..modules.mamba_mixer import MambaMixer
from ..modules.ss2d import DIRECTIONS, SS2D
from .families import build_modules

# For each state: decay product and exponential, input product (2), recurrence (2), output (2), and one
# to share the step size. Each channel adds its skip and gate.
_PER_STATE, _PER_CHANNEL = 9, 3


class Flops(NamedTuple):
    """Floating-point operations, a multiply-add counted as two.

    Attributes:
        products: of matrix products, convolutions and attention.
        scans: of the selective scans.
        windows: windows the audio is cut into.
    """

    products: int
    scans: int
    windows: int

    @property
    def total(self) -> int:
        """All counted operations; norms, activations and the spectrogram are not among them."""
        return self.products + self.scans


def count_flops(config: ModelConfig, seconds: float = 10.0, window_seconds: float | None = None) -> Flops:
    """Count what embedding one clip takes.

    Args:
        config: the model.
        seconds: length of the clip.
        window_seconds: length of a window; by default the configuration's.

    Returns:
        See `Flops`. The last window counts whole, as it is computed whole.

    Source: the scan's count as in VMamba's `flops_selective_scan_fn` (9 · L · D · N); the rest by
        torch.utils.flop_counter.
    """
    features, encoder = build_modules(config, "meta")
    encoder.eval()
    window = config.window_seconds if window_seconds is None else window_seconds
    rate = features.sample_rate / features.hop_length
    frames = encoder.fit_frames(round(window * rate))
    windows = max(1, -(-round(seconds * rate) // frames))
    spectrogram = torch.empty(1, frames, features.n_mels, device="meta")
    scans = 0

    def count_scan(module: MambaMixer | SS2D, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal scans
        positions = output.numel() // output.shape[-1]
        per_position = module.d_inner * (_PER_STATE * module.d_state + _PER_CHANNEL)
        scans += positions * _directions(module) * per_position

    for module in encoder.modules():
        if isinstance(module, (MambaMixer, SS2D)):
            module.register_forward_hook(count_scan)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder.embed_frames(spectrogram)
    return Flops(windows * counter.get_total_flops(), windows * scans, windows)


def _directions(module: MambaMixer | SS2D) -> int:
    if isinstance(module, SS2D):
        return DIRECTIONS
    return 1 if module.bidirectional is None else 2
