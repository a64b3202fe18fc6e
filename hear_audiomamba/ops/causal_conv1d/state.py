"""What a causal convolution hands to the next piece of a sequence."""

from __future__ import annotations

import torch
from torch import Tensor


def last_inputs(x: Tensor, initial_state: Tensor | None, past: int, reverse: bool) -> Tensor:
    """Return the last `past` inputs visited.

    Args:
        x: inputs (batch, L, D) of this piece.
        initial_state: the last inputs of the piece before (batch, D, past), or None for zeros; needed where
            this piece is shorter than `past`.
        past: taps less one.
        reverse: the piece was visited from its end.

    Returns:
        (batch, D, past), oldest first.
    """
    length = x.shape[1]
    kept = min(past, length)
    last = x[:, :kept].flip(1) if reverse else x[:, length - kept :]
    last = last.transpose(1, 2)
    if kept == past:
        return last
    if initial_state is None:
        initial_state = x.new_zeros(x.shape[0], x.shape[2], past)
    return torch.cat([initial_state[:, :, kept:].to(x.dtype), last], dim=2)
