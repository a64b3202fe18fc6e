"""The choice of a backend, what torch's own machinery makes of the operators, and bad arguments."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad

from hear_audiomamba.errors import BackendError, InputError
from hear_audiomamba.ops import (
    backends,
    causal_conv1d,
    native,
    selective_scan,
    selective_scan_2d,
    use_backend,
)

from .cases import assert_close, map_inputs, scan_inputs

needs_kernel = pytest.mark.skipif(not native.LIBRARY.is_file(), reason="the compiled kernel is not built")


def scan(backend=None, **changes):
    inputs = scan_inputs(2, 6, 8, 4) | changes
    return selective_scan(**inputs, delta_softplus=True, backend=backend)


def forget_choices() -> None:
    for remembered in (native.load, backends._announce, backends._resolve):
        remembered.cache_clear()


def test_unknown_backend_names_the_nearest():
    with pytest.raises(BackendError, match="'tritn'.*triton"):
        scan("tritn")
    with pytest.raises(BackendError, match="unknown backend"), use_backend("nonsense"):
        pass


def test_a_forced_backend_that_cannot_run_is_an_error(monkeypatch):
    monkeypatch.setenv("AUDIOMAMBA_BACKEND", "mamba_ssm")
    with pytest.raises(BackendError, match="mamba_ssm"):
        scan()


def test_argument_before_context_before_environment(monkeypatch):
    monkeypatch.setenv("AUDIOMAMBA_BACKEND", "cuda_of_another_name")
    with pytest.raises(BackendError):
        scan()
    with use_backend("torch"):
        scan()
        scan("reference")
    with pytest.raises(BackendError):
        scan()


def test_context_is_per_thread():
    names = []

    def other_thread():
        names.append(backends._chosen.get())

    with use_backend("reference"):
        thread = threading.Thread(target=other_thread)
        thread.start()
        thread.join()
    assert names == [None]


def test_the_choice_is_said_once(caplog):
    forget_choices()
    with caplog.at_level(logging.INFO, logger="hear_audiomamba.ops.backends"):
        for _ in range(3):
            scan("torch")
    assert [r.message for r in caplog.records] == ["selective_scan runs on backend 'torch'"]


def test_without_the_kernel_pytorch_runs_and_says_how_to_get_it(monkeypatch, caplog, tmp_path):
    forget_choices()
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "absent.so")
    try:
        with caplog.at_level(logging.WARNING, logger="hear_audiomamba.ops.backends"):
            scan()
        assert len(caplog.records) == 1 and "pip install" in caplog.text and "'torch'" in caplog.text
        with pytest.raises(BackendError, match="not built.*pip install"):
            scan("cpu")
    finally:
        forget_choices()


def test_a_kernel_of_another_version_is_not_used(monkeypatch, caplog):
    forget_choices()
    monkeypatch.setattr(native, "LIBRARY", Path(torch._C.__file__))  # a library with other functions
    try:
        with caplog.at_level(logging.WARNING, logger="hear_audiomamba.ops.backends"):
            scan()
        assert len(caplog.records) == 1 and "another version" in caplog.text and "pip install" in caplog.text
    finally:
        forget_choices()


@needs_kernel
def test_second_derivatives_say_which_backend_has_them():
    def second(backend):
        u = scan_inputs(2, 6, 8, 4)["u"].requires_grad_()
        x, weight = torch.rand(2, 6, 8, requires_grad=True), torch.rand(8, 4)
        for value, given in (
            (scan(backend, u=u), u),
            (causal_conv1d(x, weight, None, activation="silu", backend=backend), x),
        ):
            (first,) = torch.autograd.grad(value.square().sum(), given, create_graph=True)
            yield torch.autograd.grad(first.square().sum(), given)[0]

    assert all(torch.isfinite(gradient).all() for gradient in second("torch"))
    with pytest.raises(BackendError, match="no second derivatives.*torch"):
        next(second("cpu"))


@needs_kernel
@pytest.mark.parametrize("kept", [0.01, 0.5, 0.99])
def test_a_cut_kernel_is_not_used(monkeypatch, caplog, tmp_path, kept):
    """Using one ends the process."""
    cut = tmp_path / "cut.so"
    data = native.LIBRARY.read_bytes()
    cut.write_bytes(data[: int(len(data) * kept)])
    forget_choices()
    monkeypatch.setattr(native, "LIBRARY", cut)
    try:
        with caplog.at_level(logging.WARNING, logger="hear_audiomamba.ops.backends"):
            scan()
        assert "the compiled kernel is cut" in caplog.text and "pip install" in caplog.text
    finally:
        forget_choices()


@pytest.mark.parametrize(
    "name,value",
    [
        ("delta", torch.zeros(2, 5, 8)),
        ("A", torch.zeros(7, 4)),
        ("B", torch.zeros(2, 6, 3, 4)),
        ("B", torch.zeros(2, 6, 1, 5)),
        ("C", torch.zeros(2, 6, 5)),
        ("D", torch.zeros(9)),
        ("z", torch.zeros(2, 6, 9)),
        ("delta_bias", torch.zeros(8, 1)),
        ("initial_state", torch.zeros(2, 4, 8)),
        ("u", torch.zeros(2, 6, 8, dtype=torch.int64)),
        ("delta", torch.zeros(2, 6, 8, dtype=torch.complex64)),
        ("A", torch.zeros(8, 4, device="meta")),
    ],
)
def test_a_shape_dtype_or_device_that_does_not_fit_names_the_argument(name, value):
    with pytest.raises(InputError, match=rf"\b{name}\b"):
        scan(**{name: value})
    with pytest.raises(ValueError):
        scan(**{name: value})


def test_empty_and_oversized_inputs_are_errors():
    for sizes in ((2, 0, 8, 4), (2, 6, 0, 4), (2, 6, 8, 0)):
        with pytest.raises(InputError, match="L, D and N"):
            selective_scan(**scan_inputs(*sizes))
    with pytest.raises(InputError, match="D and N"):
        selective_scan_2d(**map_inputs(1, 2, 3, 0, 1), height=2, width=3)
    wide = scan_inputs(1, 3, 4, 257)
    assert torch.isfinite(selective_scan(**wide, delta_softplus=True)).all()  # falls back to PyTorch
    if native.LIBRARY.is_file():
        with pytest.raises(BackendError, match="256 states"):
            selective_scan(**wide, backend="cpu")
    with pytest.raises(InputError, match=r"u .*height"):
        selective_scan_2d(**map_inputs(1, 2, 3, 4, 1), height=2, width=2)
    with pytest.raises(InputError, match="activation"):
        causal_conv1d(torch.zeros(1, 2, 3), torch.zeros(3, 4), activation="relu")
    with pytest.raises(InputError, match="weight"):
        causal_conv1d(torch.zeros(1, 2, 3), torch.zeros(4, 4))


def test_no_clips_give_no_clips(engine):
    assert (
        scan(**{k: v[:0] for k, v in scan_inputs(2, 6, 8, 4).items() if v.ndim == 3 or k in "BC"}).shape[0]
        == 0
    )


@needs_kernel
def test_torch_accepts_the_registration():
    u, delta, A, B, C, D, z, bias, state = scan_inputs(1, 18, 5, 3).values()
    arguments = [t.requires_grad_() for t in (u, delta, A, B, C, D, z, bias)]
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    operators = torch.ops.hear_audiomamba
    torch.library.opcheck(
        operators.selective_scan.default,
        (*arguments, state.requires_grad_(), True, False, 0, 0, True),
        test_utils=checks,
    )
    torch.library.opcheck(
        operators.causal_conv1d.default, (u, torch.randn(5, 4), bias, True, True, None), test_utils=checks
    )


def block(u, delta, A, B, C, D, z, delta_bias, weight):
    """A piece of a Mamba block, for tracing."""
    u = causal_conv1d(u, weight, delta_bias, reverse=True)
    return selective_scan(u, delta, A, B, C, D, z, delta_bias, True).sin()


@needs_kernel
def test_export_keeps_the_operators():
    class Block(torch.nn.Module):
        def forward(self, *inputs):
            return block(*inputs)

    inputs = (*list(scan_inputs(2, 18, 5, 3).values())[:-1], torch.randn(5, 4))
    program = torch.export.export(Block(), inputs)
    called = {str(node.target) for node in program.graph.nodes}
    assert {"hear_audiomamba.selective_scan.default", "hear_audiomamba.causal_conv1d.default"} <= called
    assert_close([program.module()(*inputs)], [block(*inputs).double()], 1e-6)


@needs_kernel
@pytest.mark.parametrize("shape", ("sequence", "map"))
def test_a_graph_made_without_gradients_has_them(shape):
    """What the backward pass starts from was not kept when the graph ran."""

    class Scan(torch.nn.Module):
        def forward(self, *inputs):
            if shape == "sequence":
                return selective_scan(*inputs[:-1], delta_softplus=True, initial_state=inputs[-1])
            return selective_scan_2d(*inputs, height=3, width=6)

    made = scan_inputs(2, 35, 5, 3) if shape == "sequence" else map_inputs(2, 3, 6, 5, 3)
    inputs = tuple(made.values())
    with torch.no_grad():
        program = torch.export.export(Scan(), inputs).module()
    leaves = tuple(t.clone().requires_grad_() for t in inputs)
    found, expected = (torch.autograd.grad(f(*leaves).square().sum(), leaves) for f in (program, Scan()))
    assert_close(list(found), [t.double() for t in expected], 1e-6)


@pytest.mark.parametrize("like", ("fake", "meta"))
def test_shapes_and_types_without_values(like, engine):
    """What memory planners and counters of operations run."""
    for dtype in (
        (torch.float32, torch.bfloat16) if engine not in ("reference", "torch") else (torch.float64,)
    ):
        inputs = {k: v.to(dtype) for k, v in scan_inputs(2, 5, 8, 3).items()}
        image = {k: v.to(dtype) for k, v in map_inputs(2, 2, 3, 8, 3).items()}
        x, weight = torch.zeros(2, 6, 8, dtype=dtype).transpose(0, 1), torch.zeros(8, 4)

        def everything(move, inputs=inputs, image=image, x=x, weight=weight):
            return (
                *selective_scan(**{k: move(v) for k, v in inputs.items()}, return_last_state=True),
                selective_scan_2d(**{k: move(v) for k, v in image.items()}, height=2, width=3),
                *causal_conv1d(move(x), move(weight), return_last_state=True),
            )

        mode = FakeTensorMode()
        move = mode.from_tensor if like == "fake" else functools.partial(torch.Tensor.to, device="meta")
        with mode if like == "fake" else contextlib.nullcontext():
            shapes = everything(move)
        for got, real in zip(shapes, everything(lambda t: t), strict=True):
            assert (got.shape, got.dtype, got.stride()) == (real.shape, real.dtype, real.stride())


@needs_kernel
def test_views_that_are_to_be_negated_are():
    inputs = scan_inputs(2, 18, 1, 1)
    imaginary = torch.view_as_complex(torch.randn(2, 18, 1, 2)).conj().imag
    assert imaginary.is_neg()
    y = selective_scan(**inputs | {"u": imaginary}, delta_softplus=True)
    assert torch.equal(y, selective_scan(**inputs | {"u": imaginary.clone()}, delta_softplus=True))
    weight = torch.randn(1, 4)
    assert torch.equal(causal_conv1d(imaginary, weight), causal_conv1d(imaginary.clone(), weight))


@needs_kernel
@pytest.mark.parametrize("shape", ("sequence", "map"))
def test_the_compiler_is_promised_the_strides_that_the_kernel_gives(shape):
    """Gradients are dense, also for an input that is a transposed or expanded view."""
    operators = torch.ops.hear_audiomamba
    if shape == "sequence":
        u, delta, A, B, C, D, z, bias, state = scan_inputs(2, 18, 5, 3, 1).values()
        u, z = u.transpose(0, 1).contiguous().transpose(0, 1), z.transpose(1, 2).contiguous().transpose(1, 2)
        B = B[:, :1].expand(2, 18, 1, 3)
        inputs = (u, delta, A, B, C, D, z, bias, state, True, False, 0, 0)
    else:
        u, delta, A, B, C, D, bias = map_inputs(2, 3, 6, 5, 3).values()
        delta = delta.permute(2, 0, 1, 3).contiguous().permute(1, 2, 0, 3)
        inputs = (u, delta, A, B, C, D, None, bias, None, True, False, 3, 6)
    y, last, checkpoints = operators.selective_scan(*inputs, True)
    checks = ("test_schema", "test_faketensor")
    backward = operators.selective_scan_backward.default
    torch.library.opcheck(backward, (torch.ones_like(y), last, checkpoints, *inputs), test_utils=checks)
    x = torch.randn(2, 5, 18).transpose(1, 2)
    gradients = (torch.ones(2, 18, 5), x, torch.randn(4, 5).t(), None, True, True, None)
    torch.library.opcheck(operators.causal_conv1d_backward.default, gradients, test_utils=checks)


@needs_kernel
@pytest.mark.parametrize("gradients", (False, True))
def test_compile_without_graph_breaks(gradients):
    inputs = [*list(scan_inputs(2, 18, 5, 3).values())[:-1], torch.randn(5, 4)]
    inputs = [t.requires_grad_(gradients) for t in inputs]
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    y, expected = compiled(*inputs), block(*inputs)
    assert_close([y], [expected.double()], 1e-6)
    if gradients:
        actual = torch.autograd.grad(y.sum(), inputs)
        assert_close(list(actual), [g.double() for g in torch.autograd.grad(expected.sum(), inputs)], 1e-5)


def test_a_traced_block_computes_again(engine):
    inputs = [*list(scan_inputs(2, 18, 5, 3).values())[:-1], torch.randn(5, 4)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks of shapes; and that tracing is to go
        traced = torch.jit.trace(block, tuple(inputs), check_trace=False)
    changed = [2 * t if t.ndim == 3 else t for t in inputs]
    for given in (inputs, changed):
        assert_close([traced(*given)], [block(*given).double()], 1e-6)


def derivative_along(function, inputs, tangents):
    """Return the directional derivative by two calls in float64."""
    step = 1e-6
    ends = [[t.double() + sign * step * v for t, v in zip(inputs, tangents)] for sign in (1, -1)]
    return (function(*ends[0]) - function(*ends[1])) / (2 * step)


@pytest.mark.parametrize("how", ("dual numbers", "torch.func.jvp"))
def test_forward_mode_derivatives_are_right(engine, how):
    inputs = [*list(scan_inputs(2, 18, 5, 3).values())[:-1], torch.randn(5, 4)]
    tangents = [torch.randn_like(t) for t in inputs]
    if how == "torch.func.jvp":
        found = torch.func.jvp(block, tuple(inputs), tuple(tangents))[1]
    else:
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(t, v) for t, v in zip(inputs, tangents)]
            found = forward_ad.unpack_dual(block(*duals)).tangent
    with use_backend("reference"):
        expected = derivative_along(block, inputs, tangents)
    assert_close([found], [expected], 1e-5)


@needs_kernel
@pytest.mark.parametrize("transform", ("grad", "jvp", "vmap"))
def test_compiled_transforms_compute_what_the_others_do(transform):
    inputs = [*list(scan_inputs(2, 5, 5, 3).values())[:-1], torch.randn(5, 4)]
    functions = {
        "grad": torch.func.grad(lambda u: block(u, *inputs[1:]).sum()),
        "jvp": lambda u: torch.func.jvp(lambda u: block(u, *inputs[1:]), (u,), (u.cos(),))[1],
        "vmap": lambda u: torch.vmap(lambda scale: block(scale * u, *inputs[1:]))(torch.tensor([0.5, 1.0])),
    }
    function = functions[transform]
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    assert_close([compiled(inputs[0])], [function(inputs[0]).double()], 1e-5)
    plain = torch.compile(lambda u: block(u, *inputs[1:]), backend="aot_eager", fullgraph=True)
    assert_close([plain(inputs[0])], [block(*inputs).double()], 1e-6)


@needs_kernel
def test_one_compiled_scan_serves_all_sizes():
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True, dynamic=True)
    for sizes in ((2, 18, 5, 3), (3, 20, 5, 3), (1, 7, 8, 4)):
        inputs = [*list(scan_inputs(*sizes).values())[:-1], torch.randn(sizes[2], 4)]
        assert_close([compiled(*inputs)], [block(*inputs).double()], 1e-6)


def test_forward_mode_over_a_map(engine):
    inputs = list(map_inputs(1, 3, 4, 5, 2).values())
    tangents = [torch.randn_like(t) for t in inputs]

    def scan_map(*tensors):
        return selective_scan_2d(*tensors, height=3, width=4)

    found = torch.func.jvp(scan_map, tuple(inputs), tuple(tangents))[1]
    with use_backend("reference"):
        assert_close([found], [derivative_along(scan_map, inputs, tangents)], 1e-5)


def test_transforms_of_torch_func(engine):
    inputs = [*list(scan_inputs(2, 18, 5, 3).values())[:-1], torch.randn(5, 4)]

    def loss(u):
        return block(u, *inputs[1:]).sum()

    leaf = inputs[0].clone().requires_grad_()
    expected = torch.autograd.grad(loss(leaf), leaf)[0]
    assert_close([torch.func.grad(loss)(inputs[0])], [expected.double()], 1e-5)
    scales = torch.tensor([0.5, 1.0])
    by_scale = torch.vmap(lambda s: loss(s * inputs[0]))(scales)
    assert_close([by_scale], [torch.stack([loss(s * inputs[0]) for s in scales]).double()], 1e-5)


def test_autocast_inference_mode_and_parameters(engine):
    inputs = scan_inputs(2, 18, 8, 4)
    expected = selective_scan(**inputs, delta_softplus=True)
    with torch.inference_mode():
        assert torch.equal(selective_scan(**inputs, delta_softplus=True), expected)
    linear = torch.nn.Linear(8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        inputs["u"] = linear(inputs["u"])
        inputs["A"] = torch.nn.Parameter(inputs["A"])
        y = selective_scan(**inputs, delta_softplus=True)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert torch.isfinite(linear.weight.grad).all() and torch.isfinite(inputs["A"].grad).all()


@needs_kernel
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads through /proc")
def test_no_second_thread_pool():
    """Where torch's two threads do not sleep, they do all the work: a scan starts no other thread."""
    script = """
import os, torch
from hear_audiomamba.ops import selective_scan
torch.set_num_threads(2)
a = torch.randn(400, 400)
for _ in range(3): a = torch.tanh(a @ a)
before = len(os.listdir("/proc/self/task"))
selective_scan(a[None], a[None], -a.abs()[:, :4], a[None, :, :4], a[None, :, :4], delta_softplus=True, backend="cpu")
maps = {line.split()[-1] for line in open("/proc/self/maps") if "omp" in line and ".so" in line}
print(before, len(os.listdir("/proc/self/task")), len(maps))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "active", "KMP_BLOCKTIME": "200"},
    )
    before, after, runtimes = map(int, done.stdout.split())
    assert before == after and runtimes == 1
