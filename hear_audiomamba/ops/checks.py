"""Checks of operator arguments: an error that names the argument, never a crash in a kernel."""

from __future__ import annotations

from torch import Tensor

from ..errors import InputError


def check(tensor: Tensor | None, name: str, shape: tuple[int, ...], like: Tensor) -> None:
    """Check one tensor's shape, kind and device; None, an optional argument left out, passes.

    Args:
        tensor: the argument.
        name: what the caller calls it.
        shape: the shape it must have.
        like: the operator's main input, whose device it must share.

    Raises:
        InputError: it does not fit.
    """
    if tensor is None:
        return
    if tensor.shape != shape:
        raise InputError(f"{name} has shape {tuple(tensor.shape)}, must be {shape}")
    check_kind(tensor, name)
    if tensor.device != like.device:
        raise InputError(f"{name} is on {tensor.device}, the main input on {like.device}; move one of them")


def check_kind(tensor: Tensor, name: str) -> None:
    """Check that a tensor holds real floating-point numbers.

    Raises:
        InputError: it does not.
    """
    if not tensor.is_floating_point():
        raise InputError(f"{name} has dtype {tensor.dtype}, must be a floating-point tensor")


def check_rank(tensor: Tensor, name: str, dimensions: str) -> None:
    """Check a tensor's number of dimensions, which `dimensions` lists, as in "batch, L, D".

    Raises:
        InputError: it has another rank.
    """
    if tensor.ndim != dimensions.count(",") + 1:
        raise InputError(f"{name} has shape {tuple(tensor.shape)}, must be ({dimensions})")
