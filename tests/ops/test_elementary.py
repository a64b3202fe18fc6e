"""The exponential, softplus and SiLU inside the scan, of each backend, beside the exact values in float64.

Bounds are in units of 2^-24, half the distance from 1 to the next float32. What they allow:

- The exponent is rounded: as the product of delta and A, and in the compiled kernel also as the product of A and
  log2(e). Each rounding changes e^x by up to |x| units, in any implementation in float32.
- The exponential of a library is at most one float32 number off, which is up to 2 units.
- The kernel's polynomial is within 1.5 units (9e-8), and its last steps round by about as much.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hear_audiomamba.ops import BACKENDS, selective_scan

UNIT = 2.0**-24


def grid(low: float, high: float) -> Tensor:
    """Return numbers spread evenly over a range, and as many near zero."""
    even = torch.linspace(low, high, 20_001)
    return torch.cat([even, even / 64, even / 4096])


def one_step(
    n: int, *, u: float = 1.0, start: float = 1.0, softplus: bool = False, **given: Tensor
) -> tuple[Tensor, Tensor]:
    """Return output and last state `(n,)` of a scan of one step and one state a channel.

    What is not given is 1, A is -1, and z is absent.
    """
    delta = given.get("delta", torch.ones(n)).view(1, 1, n)
    z = given["z"].view(1, 1, n) if "z" in given else None
    one = torch.ones(1, 1, 1, 1)
    y, state = selective_scan(
        torch.full((1, 1, n), u), delta, given.get("A", -torch.ones(n)).view(n, 1), one, one,
        z=z, delta_softplus=softplus, initial_state=torch.full((1, n, 1), start), return_last_state=True,
    )  # fmt: skip
    return y[0, 0], state[0, :, 0]


def units(actual: Tensor, exact: Tensor) -> Tensor:
    """Return relative errors in units of 2^-24."""
    return ((actual.double() - exact) / exact).abs() / UNIT


def test_decays(engine):
    x = grid(-80.0, 0.0)
    _, state = one_step(len(x), A=x, u=0.0)
    # Here delta is 1, so that a library rounds the exponent not at all.
    allowed = 3 * (1 + x.double().abs()) if engine not in BACKENDS else 2.0
    assert (units(state, x.double().exp()) <= allowed).all()


def test_decays_next_to_one_keep_their_distance_from_one(isa):
    """What a slow state forgets in a step is exact to the rounding of 1, so no error grows over thousands of steps."""
    x = -torch.logspace(-9, -3, 5_000)
    _, state = one_step(len(x), A=x, u=0.0)
    assert (((state.double() - 1) - x.double().expm1()).abs() <= UNIT).all()


@pytest.mark.parametrize("side", (-80.0, 19.0))
def test_softplus(engine, side):
    x = grid(min(side, 0.0), max(side, 0.0))
    y, _ = one_step(len(x), delta=x, softplus=True, start=0.0)
    # Without a fused multiply-add the exponent is rounded; e^x, its ratio to log(1 + e^x) and their product follow.
    assert (units(y, torch.log1p(x.double().exp())) <= 6 + x.double().abs()).all()


@pytest.mark.parametrize("side", (-80.0, 80.0))
def test_silu(engine, side):
    x = grid(min(side, 0.0), max(side, 0.0))
    x = x[x != 0]
    y, _ = one_step(len(x), z=x, A=torch.zeros_like(x), u=0.0)
    assert (units(y, x.double() * x.double().sigmoid()) <= 6 + x.double().abs()).all()
