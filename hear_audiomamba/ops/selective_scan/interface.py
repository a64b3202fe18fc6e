"""The selective scan's front door: checks the arguments, then hands them to a backend."""

from __future__ import annotations

from typing import Literal, overload

from torch import Tensor

from ...errors import InputError
from ..backends import find_backend
from ..checks import check, check_kind, check_rank
from ..eager import transformed
from .arguments import Scan
from .reference import accumulation_dtype


@overload
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    reverse: bool = False,
    initial_state: Tensor | None = None,
    return_last_state: Literal[False] = False,
    backend: str | None = None,
) -> Tensor: ...


@overload
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    reverse: bool = False,
    initial_state: Tensor | None = None,
    return_last_state: Literal[True],
    backend: str | None = None,
) -> tuple[Tensor, Tensor]: ...


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    reverse: bool = False,
    initial_state: Tensor | None = None,
    return_last_state: bool = False,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Run the selective state-space recurrence over a sequence.

    With `dt = softplus(delta + delta_bias)`, each channel's N states follow
    `x[t] = exp(dt[t] A) x[t-1] + dt[t] u[t] B[t]`, and `y[t] = (C[t]·x[t] + D u[t]) silu(z[t])`.

    Args:
        u: input (batch, L, D), float32, bfloat16, float16 or float64; any row stride, so a view works.
        delta: step size before bias and softplus (batch, L, D).
        A: decay rates (D, N), usually negative.
        B: input weights (batch, L, N), or (batch, L, G, N) where channel d uses group d // (D/G).
        C: output weights, shaped as B.
        D: skip weights (D,), or None for no skip.
        z: gate (batch, L, D), or None for no gate.
        delta_bias: (D,), or None.
        delta_softplus: pass the step through softplus (the identity above 20).
        reverse: run from the last token to the first; the output stays in token order.
        initial_state: state before the first token visited (batch, D, N); None is zero.
        return_last_state: also return the state after the last token visited.
        backend: one of `ops.BACKENDS`; None chooses (see `ops.use_backend`). Forward-mode derivatives
            and the transforms of `torch.func` always run on the reference, which alone can follow them.

    Returns:
        y (batch, L, D) in u's dtype; with `return_last_state` also the state (batch, D, N), float32
        (float64 for float64 inputs).

    Raises:
        InputError: an argument's shape, dtype or device does not fit; the message names it.
        BackendError: the backend asked for cannot run here.

    Source: Gu & Dao, arXiv 2312.00752, section 3.2; state-spaces/mamba `selective_scan_ref`.
    Deviates: channel-last data, and a direction and an initial state as arguments.
    """
    check_rank(u, "u", "batch, L, D")
    check_kind(u, "u")
    batch, length, channels = u.shape
    check_rank(A, "A", "D, N")
    d_state = A.shape[1]
    if length == 0 or channels == 0 or d_state == 0:
        raise InputError(
            f"u has shape {tuple(u.shape)} and A {tuple(A.shape)}; L, D and N must be at least 1"
        )
    if B.ndim == 3:
        B = B.unsqueeze(2)
    if C.ndim == 3:
        C = C.unsqueeze(2)
    check_rank(B, "B", "batch, L, G, N")
    groups = B.shape[2]
    if groups == 0 or channels % groups:
        raise InputError(f"B has {groups} groups, must divide the {channels} channels of u")
    check(delta, "delta", (batch, length, channels), u)
    check(A, "A", (channels, d_state), u)
    check(B, "B", (batch, length, groups, d_state), u)
    check(C, "C", (batch, length, groups, d_state), u)
    check(D, "D", (channels,), u)
    check(z, "z", (batch, length, channels), u)
    check(delta_bias, "delta_bias", (channels,), u)
    check(initial_state, "initial_state", (batch, channels, d_state), u)
    if u.is_meta:  # shapes only, as when a model's operations are counted
        dtype = accumulation_dtype(u, delta, A, B, C)
        y, last_state = u.new_empty(u.shape), u.new_empty((batch, channels, d_state), dtype=dtype)
        return (y, last_state) if return_last_state else y
    if transformed(u, delta, A, B, C, D, z, delta_bias, initial_state):
        backend = "reference"
    run = find_backend("selective_scan", backend, u, d_state).selective_scan
    y, last_state = run(Scan(u, delta, A, B, C, D, z, delta_bias, initial_state, delta_softplus, reverse))
    return (y, last_state) if return_last_state else y


def selective_scan_2d(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    *,
    height: int,
    width: int,
    delta_softplus: bool = True,
    backend: str | None = None,
) -> Tensor:
    """Scan a map in four directions and sum the results, without making copies of the map.

    Direction 0 visits the positions row by row, 1 column by column, 2 and 3 are 0 and 1 backwards.
    Everything stays indexed by position (row · width + column) in all four.

    Args:
        u: the map (batch, H·W, D), shared by the directions; any row stride.
        delta: step sizes before bias and softplus (batch, H·W, 4, D).
        A: decay rates (4·D, N), direction by direction.
        B: input weights (batch, H·W, 4, N).
        C: output weights (batch, H·W, 4, N).
        D: skip weights (4·D,), or None.
        delta_bias: (4·D,), or None.
        height: rows H of the map.
        width: columns W of the map.
        delta_softplus: pass the steps through softplus.
        backend: as in `selective_scan`.

    Returns:
        y (batch, H·W, D) in u's dtype.

    Raises:
        InputError: an argument's shape, dtype or device does not fit; the message names it.
        BackendError: the backend asked for cannot run here.

    Source: Liu et al., VMamba, arXiv 2401.10166, section 4.3 (SS2D: cross-scan and cross-merge).
    Deviates: the scans read one map in four orders instead of four reordered copies.
    """
    check_rank(u, "u", "batch, H·W, D")
    check_kind(u, "u")
    batch, length, channels = u.shape
    if length != height * width or length == 0:
        raise InputError(f"u has {length} positions, must be height · width = {height} · {width}, at least 1")
    check_rank(A, "A", "4·D, N")
    d_state = A.shape[1]
    if channels == 0 or d_state == 0:
        raise InputError(f"u has shape {tuple(u.shape)} and A {tuple(A.shape)}; D and N must be at least 1")
    check(delta, "delta", (batch, length, 4, channels), u)
    check(A, "A", (4 * channels, d_state), u)
    check(B, "B", (batch, length, 4, d_state), u)
    check(C, "C", (batch, length, 4, d_state), u)
    check(D, "D", (4 * channels,), u)
    check(delta_bias, "delta_bias", (4 * channels,), u)
    if u.is_meta:
        return u.new_empty(u.shape)
    if transformed(u, delta, A, B, C, D, delta_bias):
        backend = "reference"
    run = find_backend("selective_scan_2d", backend, u, d_state).selective_scan_2d
    y: Tensor = run(Scan(u, delta, A, B, C, D, None, delta_bias, None, delta_softplus, False, height, width))
    return y
