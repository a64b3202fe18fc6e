"""The adaptors to mamba-ssm and causal-conv1d: their layouts, held to the reference.

Where the packages are not installed, functions that keep to their documented interface stand in for them.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses import FakeTensorMode

from hear_audiomamba.errors import BackendError
from hear_audiomamba.ops import backends
from hear_audiomamba.ops.causal_conv1d import reference as conv_reference
from hear_audiomamba.ops.mamba_packages import import_function
from hear_audiomamba.ops.selective_scan import reference as scan_reference
from hear_audiomamba.ops.selective_scan.arguments import Scan

SCAN = "hear_audiomamba.ops.selective_scan.mamba_ssm"
CONV = "hear_audiomamba.ops.causal_conv1d.mamba_ssm"


class _StatesWithoutGradient(torch.autograd.Function):
    """What mamba-ssm does with the gradient of the last state: it is taken, and lost."""

    @staticmethod
    def forward(ctx, y, state):
        return y.clone(), state.clone()

    @staticmethod
    def backward(ctx, grad_y, grad_state):
        return grad_y, None


def stand_in_scan(
    u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False
):
    """Scan with mamba-ssm's interface: tokens last and dense, one dtype for what varies, float32 parameters."""
    for tensor in (u, delta, B, C, z):
        assert tensor is None or (tensor.stride(-1) == 1 and tensor.dtype == u.dtype)
    assert all(t is None or t.dtype == torch.float32 for t in (A, D, delta_bias))
    assert B.shape == C.shape == (u.shape[0], B.shape[1], A.shape[1], u.shape[2])
    back = [None if t is None else t.transpose(1, 2) for t in (u, delta, z)]
    weights = [t.permute(0, 3, 1, 2) for t in (B, C)]
    y, last = scan_reference.selective_scan(
        Scan(*back[:2], A, *weights, D, back[2], delta_bias, softplus=delta_softplus)
    )
    return _StatesWithoutGradient.apply(y.transpose(1, 2), last)


def stand_in_conv(x, weight, bias=None, seq_idx=None, activation=None):
    """Convolve with causal-conv1d's interface: (batch, D, L), channels dense in multiples of 8."""
    assert x.stride(1) == 1 and x.stride(2) % 8 == 0 and x.stride(0) % 8 == 0
    y = F.conv1d(x, weight.unsqueeze(1), bias, padding=weight.shape[1] - 1, groups=x.shape[1])
    y = y[..., : x.shape[2]]
    return F.silu(y) if activation == "silu" else y


@pytest.fixture
def adaptor(monkeypatch):
    """Return a function that imports an adaptor afresh over the stand-ins."""

    def load(name: str) -> ModuleType:
        package, interface = ModuleType("mamba_ssm.ops"), ModuleType("selective_scan_interface")
        interface.selective_scan_fn = stand_in_scan
        convolution = ModuleType("causal_conv1d")
        convolution.causal_conv1d_fn = stand_in_conv
        for path, module in {
            "mamba_ssm": ModuleType("mamba_ssm"),
            "mamba_ssm.ops": package,
            "mamba_ssm.ops.selective_scan_interface": interface,
            "causal_conv1d": convolution,
        }.items():
            monkeypatch.setitem(sys.modules, path, module)
        monkeypatch.delitem(sys.modules, name, raising=False)
        module = importlib.import_module(name)
        monkeypatch.delitem(sys.modules, name)
        return module

    return load


def scan_inputs(dtype=torch.float32, groups=2):
    torch.manual_seed(0)
    rows, weights = (2, 7, 6), (2, 7, groups, 3)
    u, delta, z = (torch.randn(rows).to(dtype) for _ in range(3))
    B, C = (torch.randn(weights).to(dtype) for _ in range(2))
    return [u, delta, -torch.rand(6, 3), B, C, torch.randn(6), z, torch.randn(6)]


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_values_and_gradients(adaptor, reverse):
    outs = []
    for module in (adaptor(SCAN), scan_reference):
        leaves = [t.clone().requires_grad_() for t in scan_inputs()]
        y, last = module.selective_scan(Scan(*leaves, softplus=True, reverse=reverse))
        outs.append((y, last, *torch.autograd.grad(y.square().sum(), leaves)))
    for actual, expected in zip(*outs):
        torch.testing.assert_close(actual, expected)


def test_scan_of_half_precision_with_float32_weights(adaptor):
    inputs = scan_inputs(torch.bfloat16)
    inputs[3] = inputs[3].float()
    y, last = adaptor(SCAN).selective_scan(Scan(*inputs, softplus=True))
    assert y.dtype == torch.bfloat16 and last.dtype == torch.float32


def test_a_gradient_through_the_last_state_is_refused_and_never_lost(adaptor):
    leaves = [t.clone().requires_grad_() for t in scan_inputs()]
    _, last = adaptor(SCAN).selective_scan(Scan(*leaves, softplus=True))
    with pytest.raises(BackendError, match="last state"):
        last.sum().backward()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("start", [False, True])
def test_convolution_values_and_gradients(adaptor, reverse, start):
    torch.manual_seed(0)
    wide = torch.randn(2, 5, 21)
    outs = []
    for module in (adaptor(CONV), conv_reference):
        leaves = [wide.clone(), torch.ones(8, 4).cumsum(1), torch.randn(8) * 0 + 0.5, torch.ones(2, 8, 3)]
        leaves = [t.requires_grad_() for t in leaves]
        x, weight, bias, state = leaves
        y = module.causal_conv1d(x[..., 3:11], weight, bias, "silu", reverse, state if start else None)
        outs.append((y, *torch.autograd.grad(y.square().sum(), leaves if start else leaves[:3])))
    for actual, expected in zip(*outs):
        torch.testing.assert_close(actual, expected)


def test_what_the_packages_cannot_take_is_said(adaptor):
    scan, conv = adaptor(SCAN), adaptor(CONV)
    assert "CUDA" in scan.unsupported(torch.ones(1, 1, 8), 16)
    assert "CUDA" in conv.unsupported(torch.ones(1, 1, 8), 4)


def test_the_dispatch_tells_the_convolution_how_many_channels_there_are(adaptor, monkeypatch):
    """On a GPU; here its tensors are stand-ins that only know shapes and the device."""
    module = adaptor(CONV)
    monkeypatch.setitem(sys.modules, CONV, module)
    with FakeTensorMode():
        x, odd = torch.empty(2, 5, 16, device="cuda"), torch.empty(2, 5, 9, device="cuda")
        assert backends.find_backend("causal_conv1d", "mamba_ssm", x, 4) is module
        with pytest.raises(BackendError, match="multiples of 8"):
            backends.find_backend("causal_conv1d", "mamba_ssm", odd, 4)
    backends._loaded.pop(CONV)


def test_a_package_that_does_not_load_gives_one_line(monkeypatch):
    with pytest.raises(ImportError, match="no-such-package is not installed"):
        import_function("no_such_package.inner", "f", "no-such-package")

    def undefined_symbol(name):
        raise ImportError("selective_scan_cuda.so: undefined symbol: _ZN3c10\nmore lines")

    monkeypatch.setattr(importlib, "import_module", undefined_symbol)
    with pytest.raises(ImportError, match=r"mamba-ssm does not load: .*undefined symbol: _ZN3c10$"):
        import_function("mamba_ssm", "f", "mamba-ssm")
