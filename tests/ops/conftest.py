"""Fixtures that run one test on every backend and on every build of the compiled kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from hear_audiomamba.errors import BackendError
from hear_audiomamba.ops import native, use_backend

INSTRUCTION_SETS = ("avx512", "avx2", "portable")


def force_isa(name: str) -> Iterator[str]:
    """Yield while the kernels run one instruction set; skip where the machine or build lacks it."""
    try:
        native.choose_isa(name)
    except BackendError as error:
        pytest.skip(str(error))
    try:
        yield name
    finally:
        native.choose_isa(None)


@pytest.fixture(params=INSTRUCTION_SETS)
def isa(request) -> Iterator[str]:
    """Run the test once for each instruction set, on backend "cpu"."""
    with use_backend("cpu"):
        yield from force_isa(request.param)


@pytest.fixture(params=("reference", "torch", *(f"cpu-{isa}" for isa in INSTRUCTION_SETS)))
def engine(request) -> Iterator[str]:
    """Run the test once for each backend that a CPU has."""
    backend, _, isa = request.param.partition("-")
    with use_backend(backend):
        if isa:
            yield from force_isa(isa)
        else:
            yield backend


@pytest.fixture(params=(1, 2))
def threads(request) -> Iterator[int]:
    """Run the test on one thread and on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)
