"""What inference computes from weights alone, kept until the weights change."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, MutableMapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .eager import plain_call

T = TypeVar("T")
State = tuple[int, int, tuple[int, ...]]

_kept: MutableMapping[Tensor, dict[Callable[..., Any], tuple[list[State], Any]]] = WeakTensorKeyDictionary()


def prepared(make: Callable[..., T], *weights: Tensor) -> T:
    """Return `make(*weights)`, computed once for as long as the weights live and stay as they are.

    Where gradients are recorded or anything watches the call, and away from the CPU, it is computed again.
    The weights themselves may be replaced in any way: by a load, a cast, an edit in place, `weight.data`.

    Args:
        make: a function of the module level, which is part of the key.
        weights: parameters: the tensors themselves, since views made for the call would not be found again.
    """
    if not plain_call(*weights) or weights[0].device.type != "cpu":
        return make(*weights)
    return kept(make, *weights)


def kept(make: Callable[..., T], *weights: Tensor) -> T:
    """Return what `prepared` does, for a caller who has seen that `plain_call` holds, on the CPU."""
    first = weights[0]
    if first.is_inference():  # torch counts no changes of such tensors
        return make(*weights)
    states = [_state(weight) for weight in weights]
    results = _kept.setdefault(first, {})
    if make not in results or results[make][0] != states:
        with torch.no_grad():
            results[make] = (states, make(*(weight.detach() for weight in weights)))
    result: T = results[make][1]
    return result


def _state(weight: Tensor) -> State:
    """Return what tells a changed weight: where it is, torch's count of changes, and some of its bytes.

    The bytes are for changes through `weight.data`, which torch does not count.
    """
    address, size = weight.data_ptr(), weight.nbytes
    if size < 8 or not weight.is_contiguous():
        return address, weight._version, ()
    samples = (0, size // 24 * 8, size // 16 * 8, size - 8)
    return address, weight._version, tuple(ctypes.c_uint64.from_address(address + at).value for at in samples)
