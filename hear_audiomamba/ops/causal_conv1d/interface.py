"""The causal convolution's front door: checks the arguments, then hands them to a backend."""

from __future__ import annotations

from typing import Literal, overload

from torch import Tensor

from ...errors import InputError
from ..backends import find_backend
from ..checks import check, check_kind, check_rank
from ..eager import transformed
from .reference import with_past


@overload
def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = "silu",
    *,
    reverse: bool = False,
    initial_state: Tensor | None = None,
    return_last_state: Literal[False] = False,
    backend: str | None = None,
) -> Tensor: ...


@overload
def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = "silu",
    *,
    reverse: bool = False,
    initial_state: Tensor | None = None,
    return_last_state: Literal[True],
    backend: str | None = None,
) -> tuple[Tensor, Tensor]: ...


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = "silu",
    *,
    reverse: bool = False,
    initial_state: Tensor | None = None,
    return_last_state: bool = False,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Convolve each channel with its own few taps, looking only backwards, then apply SiLU.

    Args:
        x: input (batch, L, D), any row stride, so a view works.
        weight: taps (D, W), the last one for the current token.
        bias: (D,), or None.
        activation: "silu", or None.
        reverse: look only forwards instead: the same as flip, convolve, flip.
        initial_state: the W-1 inputs before the first token visited (batch, D, W-1), oldest first; None
            is zero.
        return_last_state: also return the last W-1 inputs visited.
        backend: one of `ops.BACKENDS`; None chooses (see `ops.use_backend`). Forward-mode derivatives
            and the transforms of `torch.func` always run on the reference, which alone can follow them.

    Returns:
        y (batch, L, D) in x's dtype; with `return_last_state` also the state (batch, D, W-1).

    Raises:
        InputError: an argument's shape, dtype or device does not fit; the message names it.
        BackendError: the backend asked for cannot run here.

    Source: state-spaces/mamba `Mamba.forward`, `conv1d` with left padding.
    """
    check_rank(x, "x", "batch, L, D")
    check_kind(x, "x")
    batch, length, channels = x.shape
    check_rank(weight, "weight", "D, W")
    taps = weight.shape[1]
    if length == 0 or taps == 0:
        raise InputError(f"x has shape {tuple(x.shape)}, weight {tuple(weight.shape)}; L and W must be >= 1")
    if activation not in ("silu", None):
        raise InputError(f"activation is {activation!r}, must be 'silu' or None")
    check(weight, "weight", (channels, taps), x)
    check(bias, "bias", (channels,), x)
    check(initial_state, "initial_state", (batch, channels, taps - 1), x)
    if transformed(x, weight, bias, initial_state):
        backend = "reference"
    if x.is_meta:  # shapes only, as when a model's operations are counted
        y = x.new_empty(x.shape)
    else:
        run = find_backend("causal_conv1d", backend, x, taps).causal_conv1d
        y = run(x, weight, bias, activation, reverse, initial_state)
    if not return_last_state:
        return y
    past = taps - 1
    padded = with_past(x, past, reverse, initial_state) if length < past else x
    last = padded[:, :past].flip(1) if reverse else padded[:, padded.shape[1] - past :]
    return y, last.transpose(1, 2)
