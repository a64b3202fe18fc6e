"""Fixtures that run one test on every backend and on every build of the compiled kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from hear_audiomamba.errors import BackendError
from hear_audiomamba.ops import BACKENDS, native, use_backend

from .emulated import MACHINE, EmulatedLibrary

INSTRUCTION_SETS = (
    "avx512",
    "avx2",
    "portable",
    pytest.param(MACHINE, marks=pytest.mark.slow),
)


@pytest.fixture(scope="session")
def emulated(tmp_path_factory) -> EmulatedLibrary:
    """The kernels for an ARM processor; skip where the tools for it are missing."""
    try:
        return EmulatedLibrary(tmp_path_factory.mktemp("emulated"))
    except OSError as error:
        pytest.skip(str(error))


def force_isa(name: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield while the kernels run one instruction set; skip where the machine or build lacks it."""
    if name == MACHINE:
        library = request.getfixturevalue("emulated")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, "load", lambda: library)
            yield name
        return
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
        yield from force_isa(request.param, request)


@pytest.fixture(params=("reference", "torch", *INSTRUCTION_SETS))
def engine(request) -> Iterator[str]:
    """Run the test once for each backend that a CPU has, and the compiled one for each instruction set."""
    name = request.param
    with use_backend(name if name in BACKENDS else "cpu"):
        if name in BACKENDS:
            yield name
        else:
            yield from force_isa(name, request)


@pytest.fixture(params=(1, 2))
def threads(request) -> Iterator[int]:
    """Run the test on one thread and on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)
