"""What inference computes from weights alone, kept until the weights change."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, MutableMapping

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .eager import plain_call

Make = Callable[[Tensor], Tensor]
State = tuple[int, int, tuple[int, ...]]

_kept: MutableMapping[Tensor, dict[Make, tuple[State, Tensor]]] = WeakTensorKeyDictionary()


def prepared(weight: Tensor, make: Make) -> Tensor:
    """Return `make(weight)`, computed once for as long as the weight lives and stays as it is.

    Where gradients are recorded or anything watches the call, and away from the CPU, it is computed again.

    Args:
        weight: a parameter: the tensor itself, since a view made for the call would not be found again.
        make: a function of the module level, which is part of the key.
    """
    if not plain_call(weight) or weight.device.type != "cpu" or weight.is_inference():
        return make(weight)
    state = _state(weight)
    kept = _kept.setdefault(weight, {})
    if make not in kept or kept[make][0] != state:
        with torch.no_grad():
            kept[make] = (state, make(weight.detach()))
    return kept[make][1]


def _state(weight: Tensor) -> State:
    """Return what tells a changed weight: where it is, torch's count of changes, and some of its bytes.

    The bytes are for changes through `weight.data`, which torch does not count.
    """
    address, size = weight.data_ptr(), weight.nbytes
    if size < 8 or not weight.is_contiguous():
        return address, weight._version, ()
    samples = (0, size // 24 * 8, size // 16 * 8, size - 8)
    return address, weight._version, tuple(ctypes.c_uint64.from_address(address + at).value for at in samples)
