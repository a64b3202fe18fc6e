"""The Triton convolution against the reference: on a GPU, or interpreted on the CPU (see `test_triton`)."""

# ruff: noqa: E402  (what cannot be imported here must not be, before the skip)

from __future__ import annotations

import os

import pytest
import torch

pytest.importorskip("triton")
GPU = torch.cuda.is_available()
if not GPU and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("no GPU; test_triton.py runs this file in Triton's interpreter", allow_module_level=True)

from hear_audiomamba.errors import BackendError
from hear_audiomamba.ops import causal_conv1d
from hear_audiomamba.ops.causal_conv1d import triton as backend

DEVICE = "cuda" if GPU else "cpu"
NAMES = ("x", "weight", "bias", "initial_state")


def make(batch=2, length=9, channels=5, taps=4, *, bias=True, start=False):
    """Return random inputs by name, None for those left out."""
    g = torch.Generator().manual_seed(length * 10 + taps)
    return {
        "x": torch.randn(batch, length, channels, generator=g),
        "weight": torch.randn(channels, taps, generator=g),
        "bias": torch.randn(channels, generator=g) if bias else None,
        "initial_state": torch.randn(batch, channels, taps - 1, generator=g) if start else None,
    }


def run(name, inputs, dtype=None, device="cpu", activation="silu", reverse=False):
    """Return outputs and gradients by name, for random but fixed gradients of the outputs."""
    leaves = {}
    for key, value in inputs.items():
        value = None if value is None else value.detach().to(device=device, dtype=dtype or value.dtype)
        leaves[key] = None if value is None else value.requires_grad_()
    x, weight, bias, start = (leaves[n] for n in NAMES)
    y, state = causal_conv1d(
        x,
        weight,
        bias,
        activation,
        reverse=reverse,
        initial_state=start,
        return_last_state=True,
        backend=name,
    )
    g = torch.Generator().manual_seed(7)
    loss = sum((out * torch.randn(out.shape, generator=g).to(out)).sum() for out in (y, state))
    given = {n: leaf for n, leaf in leaves.items() if leaf is not None}
    return {"y": y, "state": state} | dict(zip(given, torch.autograd.grad(loss, list(given.values()))))


def assert_agrees(inputs, **options):
    """Assert that values and all gradients agree with the reference in float64 on the same inputs."""
    actual = run("triton", inputs, device=DEVICE, **options)
    expected = run("reference", inputs, dtype=torch.float64, **options)
    for name, value in expected.items():
        torch.testing.assert_close(actual[name].cpu().double(), value, rtol=1e-5, atol=2e-6, msg=name)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 33])
def test_lengths_shorter_than_the_taps_and_around_a_program(length, reverse):
    assert_agrees(make(length=length, start=True), reverse=reverse)
    assert_agrees(make(length=length), reverse=reverse)


@pytest.mark.parametrize("taps", [1, 2, 3, 7])
def test_any_number_of_taps(taps):
    assert_agrees(make(taps=taps, start=taps > 1), reverse=True)


def test_no_bias_no_activation_and_more_channels_than_a_program_holds():
    assert_agrees(make(channels=70, bias=False), activation=None)


def test_a_view_is_read_in_place_and_poison_around_it_is_not():
    inputs = make(channels=4)
    wide = torch.full((2, 9, 10), float("nan"))
    wide[..., 3:7] = inputs["x"]
    y = causal_conv1d(wide.to(DEVICE)[..., 3:7], inputs["weight"].to(DEVICE), backend="triton")
    expected = causal_conv1d(inputs["x"], inputs["weight"], backend="reference")
    torch.testing.assert_close(y.cpu(), expected, rtol=1e-5, atol=2e-6)


def test_half_precision_computes_in_float32():
    inputs = make()
    inputs["x"] = inputs["x"].bfloat16()
    actual = run("triton", inputs, device=DEVICE)
    expected = run("reference", inputs, dtype=torch.float64)
    assert actual["y"].dtype == actual["x"].dtype == torch.bfloat16
    # A GPU rounds to nearest, which is half of this; the interpreter cuts the digits off.
    torch.testing.assert_close(actual["y"].cpu().double(), expected["y"], rtol=2**-7, atol=1e-6)


def test_too_many_taps_are_refused():
    inputs = make(taps=17)
    with pytest.raises(BackendError, match="17 taps"):
        causal_conv1d(inputs["x"].to(DEVICE), inputs["weight"].to(DEVICE), backend="triton")


def test_registered_as_an_operator_with_shapes_and_gradients():
    inputs = make(batch=1, length=3, channels=2, start=True)
    tensors = [inputs[n].to(DEVICE).requires_grad_() for n in NAMES]
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(backend._forward, (*tensors, True, False), test_utils=checks)
