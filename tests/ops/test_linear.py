"""The linear layer equals PyTorch's, gradients included, for strided inputs and every precision."""

from __future__ import annotations

import gc
import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import forward_ad

from hear_audiomamba.ops import linear
from hear_audiomamba.ops.linear import _OneDnnLinear
from hear_audiomamba.ops.prepared import _kept, prepared


@settings(max_examples=40)
@given(rows=st.integers(1, 70), inner=st.integers(1, 70), out=st.integers(1, 70), bias=st.booleans())
def test_equals_pytorch(rows, inner, out, bias):
    generator = torch.Generator().manual_seed(rows * 71 + inner)
    wide = torch.randn(2, rows, inner + 5, generator=generator)
    weight = torch.randn(out, inner, generator=generator)
    b = torch.randn(out, generator=generator) if bias else None
    for x in (wide[..., :inner], wide[..., 5:], wide[..., :inner].contiguous()):
        expected = F.linear(x.double(), weight.double(), None if b is None else b.double())
        torch.testing.assert_close(linear(x, weight, b).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
@pytest.mark.parametrize("bias", [True, False])
def test_gradients(bias):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 9, 12, generator=generator).requires_grad_()
    weight = torch.randn(7, 12, generator=generator).requires_grad_()
    b = torch.randn(7, generator=generator).requires_grad_() if bias else None
    inputs = [t for t in (x, weight, b) if t is not None]
    dy = torch.randn(2, 9, 7, generator=generator)
    ours = torch.autograd.grad(_OneDnnLinear.apply(x, weight, b), inputs, dy)
    theirs = torch.autograd.grad(F.linear(x, weight, b), inputs, dy)
    for a, expected in zip(ours, theirs):
        torch.testing.assert_close(a, expected, rtol=1e-5, atol=1e-5)


def test_only_what_is_needed_gets_a_gradient():
    x, weight = torch.randn(3, 4), torch.randn(5, 4, requires_grad=True)
    linear(x, weight).sum().backward()
    assert x.grad is None and weight.grad.shape == (5, 4)


def test_training_the_bias_alone_gives_it_its_gradient():
    x, weight, bias = torch.randn(3, 4), torch.randn(5, 4), torch.randn(5, requires_grad=True)
    linear(x, weight, bias).sum().backward()
    assert torch.equal(bias.grad, torch.full((5,), 3.0))


def test_forward_mode_traces_and_transforms():
    x, weight, direction = torch.randn(3, 4), torch.randn(5, 4), torch.randn(3, 4)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(linear(forward_ad.make_dual(x, direction), weight)).tangent
    torch.testing.assert_close(tangent, direction @ weight.t())
    found = torch.func.vmap(lambda row: linear(row, weight))(x)
    torch.testing.assert_close(found, x @ weight.t())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of newer PyTorch, that tracing is to go
        traced = torch.jit.trace(linear, (x, weight))
    torch.testing.assert_close(traced(2 * x, weight), 2 * x @ weight.t())


CHANGES = {
    "in place": lambda weight: weight.mul_(2),
    "behind torch's count": lambda weight: weight.data.mul_(2),
    "other memory": lambda weight: setattr(weight, "data", 2 * weight.detach()),
    "loaded": lambda weight: weight.copy_(2 * weight),
}


@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_inference_follows_a_weight_that_changes(change):
    x, weight = torch.randn(9, 24).bfloat16(), torch.nn.Parameter(torch.randn(40, 24).bfloat16())
    before = [linear(x, weight) for _ in range(2)]
    assert torch.equal(before[0], before[1])
    CHANGES[change](weight)
    assert torch.equal(linear(x, weight), 2 * before[0])


def test_what_is_prepared_is_made_once_and_dies_with_its_weight():
    made = []

    def make(weight):
        made.append(weight.shape)
        return weight + 1

    weight = torch.nn.Parameter(torch.zeros(5, 3))
    with torch.no_grad():
        assert all(torch.equal(prepared(make, weight), weight + 1) for _ in range(3))
        assert len(made) == 1
    assert prepared(make, weight).requires_grad and len(made) == 2  # training sees the weight itself
    kept = len(_kept)
    del weight
    gc.collect()
    assert len(_kept) == kept - 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_are_pytorchs_own(dtype):
    x, weight = torch.randn(3, 4).to(dtype), torch.randn(5, 4).to(dtype)
    assert torch.equal(linear(x, weight), F.linear(x, weight))


def test_autocast_decides_as_for_any_layer():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(torch.randn(3, 4), torch.randn(5, 4)).dtype == torch.bfloat16
