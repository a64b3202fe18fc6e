"""The package's own operators as graphs of standard ones, for programs that run without this package.

The scan becomes a loop over tokens whose body holds one token's state, so its cost stays linear in the
length, and nothing of the size (tokens, channels, states) is ever stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.torch_version import TorchVersion

from ..errors import MissingPackageError
from ..ops import causal_conv1d as _causal_conv1d  # noqa: F401  registers the operators
from ..ops.selective_scan.arguments import Scan

# The first whose exporters know the loop over tokens: `torch.export` has it from 2.6 on, ONNX from 2.8 on.
LEAST_TORCH = "2.8"


def check_torch(version: TorchVersion = torch.__version__) -> None:
    """Refuse a PyTorch that cannot export the scan, before anything is done.

    Args:
        version: of PyTorch; by default of the one in use.

    Raises:
        MissingPackageError: says which versions can.
    """
    if version < TorchVersion(LEAST_TORCH):
        raise MissingPackageError(
            f"exporting needs torch {LEAST_TORCH} or newer, here is {version}: pip install 'torch>={LEAST_TORCH}'"
        )


def decompositions() -> dict[Any, Callable[..., Any]]:
    """Return what `ExportedProgram.run_decompositions` needs: torch's own table, and our operators."""
    table = torch.export.default_decompositions()
    own = torch.ops.hear_audiomamba
    table.update({own.selective_scan.default: scan, own.causal_conv1d.default: convolution})
    return dict(table)


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, silu: bool, reverse: bool, initial_state: Tensor | None
) -> Tensor:
    """The causal convolution; arguments as `ops.causal_conv1d`."""
    if initial_state is not None:
        raise NotImplementedError("a stream's state cannot be exported")
    taps = weight.shape[-1]
    padded = F.pad(x.transpose(1, 2), (0, taps - 1) if reverse else (taps - 1, 0))
    kernel = (weight.flip(-1) if reverse else weight).unsqueeze(1)
    y = F.conv1d(padded, kernel, bias, groups=x.shape[2]).transpose(1, 2)
    result: Tensor = F.silu(y) if silu else y
    return result


def scan(*given: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The selective scan of a sequence, or of a map in four directions; arguments as the CPU operator's."""
    inputs = Scan(*given[:-1])
    nothing = inputs.u.new_empty(0)
    if inputs.is_map:
        return _scan_of_map(inputs), nothing, nothing
    return *_scan(inputs), nothing


def _scan(inputs: Scan) -> tuple[Tensor, Tensor]:
    from torch._higher_order_ops.scan import scan as loop

    u, delta, A, B, C, D, z, delta_bias, initial_state = inputs.tensors
    groups = B.shape[2]
    step = delta.float() if delta_bias is None else delta.float() + delta_bias
    if inputs.softplus:
        step = F.softplus(step)
    x = u.float()
    rates = A.unflatten(0, (groups, -1))
    if initial_state is None:
        state = x.new_zeros(u.shape[0], *rates.shape)
    else:
        state = initial_state.unflatten(1, (groups, -1))

    def one_token(state: Tensor, token: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        dt, dtx, b, c = token
        state = torch.exp(dt.unsqueeze(-1) * rates) * state + dtx.unsqueeze(-1) * b.unsqueeze(2)
        return state, (state @ c.unsqueeze(-1)).squeeze(-1)

    by_channel = (t.unflatten(2, (groups, -1)) for t in (step, step * x))
    tokens = tuple(t.transpose(0, 1).contiguous() for t in (*by_channel, B.float(), C.float()))
    last, y = loop(one_token, state, tokens, dim=0, reverse=inputs.reverse)
    y = y.transpose(0, 1).flatten(2)
    if D is not None:
        y = y + D * x
    if z is not None:
        y = y * F.silu(z.float())
    return y.to(u.dtype), last.flatten(1, 2)


def _scan_of_map(inputs: Scan) -> Tensor:
    """Return the sum of the scans by rows, by columns and backwards; see `ops.selective_scan_2d`."""
    u, delta, A, B, C, D, _, delta_bias, _ = inputs.tensors
    height, width, channels = inputs.height, inputs.width, u.shape[2]

    def by_columns(t: Tensor) -> Tensor:
        turned: Tensor = t.unflatten(1, (height, width)).transpose(1, 2).flatten(1, 2)
        return turned

    total: Tensor | None = None
    for direction in range(4):
        turned, backwards = direction % 2 == 1, direction >= 2
        own = slice(direction * channels, (direction + 1) * channels)
        parts = [u.float(), delta[:, :, direction], B[:, :, direction, None], C[:, :, direction, None]]
        x, step, inflow, readout = map(by_columns, parts) if turned else parts
        y, _ = _scan(
            Scan(
                x, step, A[own], inflow, readout, None if D is None else D[own], None,
                None if delta_bias is None else delta_bias[own], None, inputs.softplus, backwards, 0, 0,
            )
        )  # fmt: skip
        if turned:
            y = y.unflatten(1, (width, height)).transpose(1, 2).flatten(1, 2)
        total = y if total is None else total + y
    assert total is not None
    return total
