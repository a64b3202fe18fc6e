"""The CPU path of the published Mamba code, written anew in its structure, as the side to compare with.

Channels before tokens `(B, D, L)`, all decays and inputs as `(B, D, L, N)` tensors, then a Python loop over
the tokens: what `selective_scan_ref` of state-spaces/mamba 1.1.3 and `Mamba.forward` do without a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor


def published_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor, bias: Tensor
):
    """Scan `(B, D, L)` sequences; B and C are `(B, N, L)`. Returns `(B, D, L)`."""
    delta = F.softplus(delta + bias[:, None])
    decay = torch.exp(torch.einsum("bdl,dn->bdln", delta, A))
    drive = torch.einsum("bdl,bnl,bdl->bdln", delta, B, u)
    state, outputs = u.new_zeros(u.shape[0], u.shape[1], A.shape[1]), []
    for token in range(u.shape[2]):
        state = decay[:, :, token] * state + drive[:, :, token]
        outputs.append(torch.einsum("bdn,bn->bd", state, C[:, :, token]))
    return (torch.stack(outputs, dim=2) + u * D[:, None]) * F.silu(z)


@contextmanager
def published_path() -> Iterator[None]:
    """Make our models compute as the published code does: its scan, PyTorch's convolution and products."""

    def scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, **kwargs):
        flip = (lambda t: t.flip(-1)) if kwargs.get("reverse") else (lambda t: t)
        sequences = (flip(t.transpose(1, 2).contiguous()) for t in (u, delta, B, C, z))
        u, delta, B, C, z = sequences
        return flip(published_scan(u, delta, A, B, C, D, z, delta_bias)).transpose(1, 2)

    def conv(x, weight, bias, reverse=False, backend=None):
        flip = (lambda t: t.flip(-1)) if reverse else (lambda t: t)
        x = flip(x.transpose(1, 2).contiguous())
        y = F.conv1d(x, weight[:, None], bias, padding=weight.shape[1] - 1, groups=len(weight))
        return flip(F.silu(y[..., : x.shape[2]])).transpose(1, 2)

    with ExitStack() as stack:
        stack.enter_context(patch("hear_audiomamba.modules.mamba.can_mix", lambda *_: False))
        for name, function in (("selective_scan", scan), ("causal_conv1d", conv), ("linear", F.linear)):
            stack.enter_context(patch(f"hear_audiomamba.modules.mamba.{name}", function))
        yield
