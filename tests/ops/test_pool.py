"""Threads of the kernels' own (csrc/pool.h): the same numbers as on torch's, for many callers, and after a fork."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from hear_audiomamba.io.process import waits_passively
from hear_audiomamba.modules.mamba import MambaBlock
from hear_audiomamba.ops import native, selective_scan

pytestmark = pytest.mark.skipif(
    native.why_not(torch.empty(0)) is not None, reason="the compiled kernel is not built"
)


@pytest.fixture
def own_threads():
    native.use_own_threads(True)
    yield
    native.use_own_threads(waits_passively())


def block_and_stream(batch: int, length: int) -> tuple[MambaBlock, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MambaBlock(64, bidirectional="v2").eval(), torch.randn(batch, length, 64)


def test_blocks_and_scans_have_the_same_bits_on_either_kind_of_thread(threads):
    block, stream = block_and_stream(3, 310)
    u, delta = torch.randn(2, 2, 300, 40)
    b, c = torch.randn(2, 2, 300, 8)
    a = -torch.rand(40, 8)
    results = []
    try:
        for own in (False, True):
            native.use_own_threads(own)
            with torch.no_grad():
                results.append([block(stream), selective_scan(u, delta, a, b, c, delta_softplus=True)])
    finally:
        native.use_own_threads(waits_passively())
    assert all(map(torch.equal, *results))


def test_gradients_have_the_same_bits_on_either_kind_of_thread(threads):
    tensors = [torch.randn(2, 50, 40), torch.randn(2, 50, 40), -torch.rand(40, 8), *torch.randn(2, 2, 50, 8)]
    found = []
    try:
        for own in (False, True):
            native.use_own_threads(own)
            leaves = [tensor.clone().requires_grad_() for tensor in tensors]
            y = selective_scan(*leaves, delta_softplus=True, backend="cpu")
            found.append(torch.autograd.grad(y.square().sum(), leaves))
    finally:
        native.use_own_threads(waits_passively())
    assert all(map(torch.equal, *found))


@pytest.mark.usefixtures("own_threads")
def test_many_callers_at_once():
    block, stream = block_and_stream(2, 120)
    with torch.no_grad():
        expected = block(stream)

    def call(_: int) -> bool:
        torch.set_num_threads(2)
        with torch.no_grad():
            return torch.equal(block(stream), expected)

    with ThreadPoolExecutor(6) as callers:
        assert all(callers.map(call, range(120)))


AFTER_A_FORK = """
import os, torch
from hear_audiomamba.modules.mamba import MambaBlock
from hear_audiomamba.ops import native

torch.set_num_threads(2)
block, stream = MambaBlock(64), torch.randn(1, 400, 64)
with torch.no_grad():
    expected = block(stream)
    child = os.fork()
    if not child:
        os._exit(0 if torch.equal(block(stream), expected) and torch.equal(block(stream), expected) else 3)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), torch.equal(block(stream), expected))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_forked_process_has_threads_of_its_own():
    done = subprocess.run(
        [sys.executable, "-c", AFTER_A_FORK], capture_output=True, text=True, timeout=120,
        env=os.environ | {"OMP_WAIT_POLICY": "passive"},
    )  # fmt: skip
    assert done.stdout.split() == ["0", "True"], done.stderr


@pytest.mark.parametrize(
    ("variables", "passive"),
    [({}, False), ({"OMP_WAIT_POLICY": "PASSIVE"}, True), ({"OMP_WAIT_POLICY": "active"}, False),
     ({"KMP_BLOCKTIME": "0"}, True), ({"KMP_BLOCKTIME": "200"}, False)],
)  # fmt: skip
def test_own_threads_are_for_processes_whose_threads_sleep(monkeypatch, variables, passive):
    for name in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert waits_passively() == passive
