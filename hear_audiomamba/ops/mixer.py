"""A whole Mamba mixer, or block, in one call of the compiled CPU kernel, for inference: see csrc/mixer.h.

It computes what the operators one by one compute, without a tensor between them that leaves the cache.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import native
from .backends import find_backend
from .eager import plain_call
from .native import DTYPES, MAX_STATES, MixerArgs, MixerDirection, View, pointer
from .prepared import kept
from .selective_scan import cpu as compiled_scan

PANEL = 32
TAPS = 4
MOST_RANK = 256
NORMS = {"layer": 1, "rms": 2}  # as Norm in csrc/interface.h


class Direction(NamedTuple):
    """The parameters of one direction of a mixer; see `modules.mamba.MambaMixer`."""

    conv: Tensor
    conv_bias: Tensor
    x_proj: Tensor
    dt_proj: Tensor
    dt_bias: Tensor
    a_log: Tensor
    d: Tensor


class Norm(NamedTuple):
    """The norm before a mixer: its kind, "layer" or "rms", its parameters `(width,)`, if any, and its eps."""

    kind: str
    weight: Tensor | None
    bias: Tensor | None
    eps: float


class Weights(NamedTuple):
    """The kernel's arguments as far as the weights decide them, and the tensors that these point to."""

    arguments: Any
    tensors: list[Tensor]


def can_mix(
    x: Tensor,
    in_proj: Tensor,
    out_proj: Tensor,
    directions: tuple[Direction, ...],
    backend: str | None,
    norm: Norm | None = None,
) -> bool:
    """Tell whether `mixer` can take a call; arguments as its own, and the backend asked for."""
    channels, states = directions[0].a_log.shape
    width = in_proj.shape[1]
    products = (in_proj, out_proj, *(way.x_proj for way in directions))
    dtype = in_proj.dtype
    of_norm = [] if norm is None else [t for t in (norm.weight, norm.bias) if t is not None]
    return (
        x.device.type == "cpu"
        and x.ndim == 3
        and x.shape[2] == width
        and x.numel() > 0
        and x.dtype == (dtype if norm is None else torch.float32)
        and all(weight.dtype == dtype for weight in products)
        and all(t.dtype == torch.float32 and t.shape == (width,) and t.is_contiguous() for t in of_norm)
        and width % PANEL == channels % PANEL == 0
        and directions[0].conv.shape[-1] == TAPS
        and directions[0].dt_proj.shape[1] <= MOST_RANK
        and states <= MAX_STATES
        and not torch.is_autocast_enabled("cpu")
        and plain_call(x, in_proj, out_proj, *of_norm, *(weight for way in directions for weight in way))
        and find_backend("selective_scan", backend, x, states) is compiled_scan
        and native.mixes(dtype)
    )


def mixes_in(dtype: torch.dtype, device: torch.device, backend: str | None) -> bool:
    """Tell whether the kernel computes whole mixers in a type, on a device and with the backend asked for.

    Raises:
        BackendError: that backend is not known, or cannot run there.
    """
    if device.type != "cpu":
        return False
    some = torch.empty((0, 0, PANEL), device=device, dtype=torch.float32)
    return find_backend("selective_scan", backend, some, 1) is compiled_scan and native.mixes(dtype)


def mixer(
    x: Tensor,
    in_proj: Tensor,
    out_proj: Tensor,
    directions: tuple[Direction, ...],
    reverse: bool,
    norm: Norm | None = None,
    scale: float = 1.0,
) -> Tensor:
    """Mix a sequence by one or two directions, which are added. Only for a call that `can_mix`.

    Args:
        x: `(batch, L, width)`.
        in_proj: `(2 · channels, width)`.
        out_proj: `(width, channels)`.
        directions: the second one, if any, runs against the first.
        reverse: run the first direction from the last token to the first.
        norm: normalise x before it is mixed, and add x to the result: a whole block.
        scale: factor of what is mixed.

    Returns:
        `(batch, L, width)` in x's dtype.
    """
    x = x if x.stride(-1) == 1 else x.contiguous()
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    weights = kept(_lay_out, in_proj, out_proj, *(weight for way in directions for weight in way))
    arguments = MixerArgs.from_buffer_copy(weights.arguments)
    arguments.batch, arguments.length = x.shape[:2]
    arguments.reverse, arguments.scale = reverse, scale
    if norm is not None:
        arguments.norm, arguments.eps = NORMS[norm.kind], norm.eps
        arguments.norm_weight, arguments.norm_bias = pointer(norm.weight), pointer(norm.bias)
    arguments.x, arguments.y = View.of(x), View.of(y)
    native.run("mixer", arguments)
    return y


def _lay_out(in_proj: Tensor, out_proj: Tensor, *directions: Tensor) -> Weights:
    """Return the weights as the kernel reads them."""
    size = len(Direction._fields)
    ways = [Direction(*directions[at : at + size]) for at in range(0, len(directions), size)]
    channels, states = ways[0].a_log.shape
    arguments = MixerArgs(
        width=in_proj.shape[1],
        channels=channels,
        states=states,
        rank=ways[0].dt_proj.shape[1],
        dtype=DTYPES[in_proj.dtype],
        directions=len(ways),
    )
    packed = _in_panels(in_proj), _in_panels(out_proj)
    arguments.in_proj, arguments.out_proj = map(pointer, packed)
    tensors = [*packed]
    for name, way in zip(("ahead", "back"), ways):
        fields = {
            "taps": way.conv[:, 0].float().t().contiguous(),
            "conv_bias": way.conv_bias.float().contiguous(),
            "dt_proj": way.dt_proj.float().t().contiguous(),
            "dt_bias": way.dt_bias.float().contiguous(),
            "decay": (-torch.exp(way.a_log.float()) * math.log2(math.e)).t().contiguous(),
            "D": way.d.float().contiguous(),
            "x_proj": _in_panels(way.x_proj),
        }
        setattr(arguments, name, MixerDirection(**{field: pointer(t) for field, t in fields.items()}))
        tensors += fields.values()
    return Weights(arguments, tensors)


def _in_panels(weight: Tensor) -> Tensor:
    """Return a weight `(out, in)` in panels of 32 outputs, with zeros behind the last row (see csrc/product.h)."""
    panels: Tensor = F.pad(weight, (0, 0, 0, -len(weight) % PANEL)).unflatten(0, (-1, PANEL))
    if weight.dtype == torch.float32:
        return panels.transpose(1, 2).contiguous()
    # AMX reads tiles of 32 inputs and 16 outputs, pairs of inputs side by side.
    tiles: Tensor = panels.unflatten(2, (-1, 16, 2)).unflatten(1, (2, 16))
    return tiles.permute(0, 3, 1, 4, 2, 5).contiguous()
