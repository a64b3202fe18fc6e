"""Which implementation of an operator runs: the caller's choice, then the environment, then the machine.

A backend module holds the operator under its own name plus `unsupported(u, d_state)`, which says in a
few words why it cannot take a call, or returns None when it can. It may ask `u`, which stands for the
operator's main input, for its device, its dtype and its number of channels.
"""

from __future__ import annotations

import functools
import importlib
import logging
import operator
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType

import torch
from torch import Tensor

from ..errors import BackendError, did_you_mean

logger = logging.getLogger(__name__)

ENVIRONMENT_VARIABLE = "AUDIOMAMBA_BACKEND"
BACKENDS = ("reference", "torch", "cpu", "triton", "mamba_ssm")
# mamba-ssm's kernels come second: they want (batch, D, L), so each call copies all its tensors.
AUTOMATIC = {"cpu": ("cpu", "torch"), "cuda": ("triton", "mamba_ssm", "torch")}

_MODULES = {
    "selective_scan": {
        "reference": "hear_audiomamba.ops.selective_scan.reference",
        "torch": "hear_audiomamba.ops.selective_scan.chunked",
        "cpu": "hear_audiomamba.ops.selective_scan.cpu",
        "triton": "hear_audiomamba.ops.selective_scan.triton",
        "mamba_ssm": "hear_audiomamba.ops.selective_scan.mamba_ssm",
    },
    "selective_scan_2d": {
        "reference": "hear_audiomamba.ops.selective_scan.reference",
        "torch": "hear_audiomamba.ops.selective_scan.chunked",
        "cpu": "hear_audiomamba.ops.selective_scan.cpu",
        "triton": "hear_audiomamba.ops.selective_scan.triton",
        "mamba_ssm": "hear_audiomamba.ops.selective_scan.mamba_ssm",
    },
    "causal_conv1d": {
        "reference": "hear_audiomamba.ops.causal_conv1d.reference",
        "torch": "hear_audiomamba.ops.causal_conv1d.reference",
        "cpu": "hear_audiomamba.ops.causal_conv1d.cpu",
        "triton": "hear_audiomamba.ops.causal_conv1d.triton",
        "mamba_ssm": "hear_audiomamba.ops.causal_conv1d.mamba_ssm",
    },
}

_loaded: dict[str, ModuleType] = {}
_chosen: ContextVar[str | None] = ContextVar("hear_audiomamba_backend", default=None)


@contextmanager
def use_backend(name: str | None) -> Iterator[None]:
    """Run every operator inside the `with` block, in this thread, on one backend: for tests and comparisons.

    A model keeps the backend that `load_model` or a training's configuration names, in all threads.

    Args:
        name: one of `BACKENDS`, or None to choose by machine again.

    Raises:
        BackendError: the name is not known.
    """
    token = _chosen.set(None if name is None else _known(name))
    try:
        yield
    finally:
        _chosen.reset(token)


def find_backend(op: str, backend: str | None, u: Tensor, d_state: int) -> ModuleType:
    """Return the module that will run `op` on inputs like `u`.

    Args:
        op: a key of the operator table: "selective_scan", "selective_scan_2d" or "causal_conv1d".
        backend: the caller's choice; None asks `use_backend`, then `AUDIOMAMBA_BACKEND`, then the machine.
        u: the operator's main input (batch, L, D); its device, dtype and channels decide.
        d_state: states per channel (0 for the convolution).

    Returns:
        A module with a function of the operator's name.

    Raises:
        BackendError: the backend asked for is not known, or cannot take this call.
    """
    # Where sizes are symbols of the compiler, the graph is for these ones.
    channels, d_state = operator.index(u.shape[-1]), operator.index(d_state)
    return _loaded[_decide(op, backend, u.device.type, u.dtype, channels, d_state)]


def _decide(
    op: str, backend: str | None, device: str, dtype: torch.dtype, channels: int, d_state: int
) -> str:
    wanted = backend or _chosen.get() or os.environ.get(ENVIRONMENT_VARIABLE) or None
    return _resolve(op, wanted, device, dtype, channels, d_state)


# A compiled graph keeps the backend it was traced with. This is all that
# `torch.compiler.assume_constant_result` does, which would import the whole compiler, and triton, here.
_decide._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def _resolve(
    op: str, wanted: str | None, device: str, dtype: torch.dtype, channels: int, d_state: int
) -> str:
    modules = _MODULES[op]
    like = torch.empty((0, 0, channels), device=device, dtype=dtype)
    reason = None
    if wanted is not None and _known(wanted) in modules:
        reason = _why_not(modules[wanted], like, d_state)
        if reason is not None:
            raise BackendError(f"backend {wanted!r} cannot run {op}: {reason}")
        _announce(op, wanted, None)
        return modules[wanted]
    # If the wanted backend lacks this operator, the default is used.
    for name in AUTOMATIC.get(device, ("torch",)):
        if name not in modules:
            continue
        why_not = _why_not(modules[name], like, d_state)
        if why_not is None:
            _announce(op, name, reason)
            return modules[name]
        reason = reason or f"{name}: {why_not}"
    raise BackendError(f"no backend can run {op} on {device}: {reason}")


def _known(name: str) -> str:
    if name not in BACKENDS:
        raise BackendError(f"unknown backend {name!r}; {did_you_mean(name, BACKENDS)}")
    return name


def _why_not(path: str, like: Tensor, d_state: int) -> str | None:
    try:
        _loaded[path] = importlib.import_module(path)
    except ImportError as error:
        return str(error)
    reason: str | None = _loaded[path].unsupported(like, d_state)
    return reason


@functools.cache
def _announce(op: str, name: str, reason: str | None) -> None:
    """Say once which backend an operator took; louder when a faster one had to be passed over."""
    if reason is None:
        logger.info("%s runs on backend %r", op, name)
    else:
        logger.warning("%s runs on the slower backend %r (%s)", op, name, reason)
