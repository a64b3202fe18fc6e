"""The Triton scan against the reference and the published kernels' values: on a GPU, or interpreted on the CPU.

The interpreter takes a millisecond a token and state, so off a GPU the cases are short and the longest
marked slow. `test_triton` starts this file in a process of its own, with the interpreter on.
"""

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
from hear_audiomamba.ops import selective_scan, selective_scan_2d
from hear_audiomamba.ops.selective_scan import reference
from hear_audiomamba.ops.selective_scan import triton as backend
from hear_audiomamba.ops.selective_scan.arguments import Scan
from tests.golden import assert_golden, load_golden

DEVICE = "cuda" if GPU else "cpu"
# numpy, in the interpreter, says aloud what exp does in silence on a GPU: exp(100) is infinite.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state")
CASES = (
    "base", "groups1_n24", "groups4", "n1", "const_bc", "plain", "L1", "L2",
    "large_delta", "tiny_delta", "neg_A", "slow_A", "long",
)  # fmt: skip
QUICK = {"L1", "L2"}
LONG = () if GPU else pytest.mark.slow


def rms_ratio(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the root mean square of the error over that of the expected values."""
    expected = expected.double()
    error = (actual.detach().double().cpu() - expected).pow(2).mean().sqrt()
    return (error / expected.pow(2).mean().sqrt().clamp_min(1e-30)).item()


def make(batch=1, length=11, channels=5, states=3, groups=1, *, gate=True, skip=True, bias=True, start=False):
    """Return random inputs of a scan by name, None for those left out."""
    g = torch.Generator().manual_seed(batch * 1000 + length * 100 + channels * 10 + states)

    def normal(*shape):
        return torch.randn(*shape, generator=g)

    rows = (batch, length, channels)
    return {
        "u": normal(*rows),
        "delta": normal(*rows),
        "A": -torch.rand(channels, states, generator=g) * 2 - 0.1,
        "B": normal(batch, length, groups, states),
        "C": normal(batch, length, groups, states),
        "D": normal(channels) if skip else None,
        "z": normal(*rows) if gate else None,
        "delta_bias": normal(channels) if bias else None,
        "initial_state": normal(batch, channels, states) if start else None,
    }


def run(scan, inputs, dtype=None, device="cpu", softplus=True, reverse=False, last=True):
    """Return outputs and gradients of a scan by name, for random but fixed gradients of its outputs."""
    leaves = {}
    for name, value in inputs.items():
        value = None if value is None else value.detach().to(device=device, dtype=dtype or value.dtype)
        leaves[name] = None if value is None else value.requires_grad_()
    y, state = scan(Scan(*(leaves[n] for n in NAMES), softplus, reverse))
    g = torch.Generator().manual_seed(7)
    loss = (y * torch.randn(y.shape, generator=g).to(y)).sum()
    if last:
        loss = loss + (state * torch.randn(state.shape, generator=g).to(state)).sum()
    given = {n: leaf for n, leaf in leaves.items() if leaf is not None}
    grads = torch.autograd.grad(loss, list(given.values()), allow_unused=True)
    return {"y": y, "state": state} | dict(zip(given, grads))


def assert_agrees(inputs, limit=1e-5, **options):
    """Assert that values and all gradients agree with the reference in float64 on the same inputs."""
    actual = run(backend.selective_scan, inputs, device=DEVICE, **options)
    expected = run(reference.selective_scan, inputs, dtype=torch.float64, **options)
    for name, value in expected.items():
        assert actual[name].isfinite().all(), name
        ratio = rms_ratio(actual[name], value)
        assert ratio <= limit, f"{name}: rms ratio {ratio:.3g} > {limit:.3g}"


def golden_inputs(case: str, batch: int | None = None, length: int | None = None):
    """Return a golden case's inputs, channel-last, whole or cut to its first clips and tokens."""
    tensors, meta = load_golden("selective_scan")
    _ = tensors[f"{case}/u"]  # skips where the committed subset lacks the case
    shape = meta["cases"][case]
    inputs = dict.fromkeys(NAMES)
    for name in NAMES[:8]:
        value = tensors.get(f"{case}/{name}")
        if value is None:
            continue
        if name in "BC":
            if value.ndim == 2:
                value = value.expand(shape["b"], shape["L"], *value.shape)
            else:
                value = value.transpose(1, 2).unsqueeze(2) if value.ndim == 3 else value.permute(0, 3, 1, 2)
        elif value.ndim == 3:
            value = value.transpose(1, 2)
        inputs[name] = value[:batch, :length] if value.ndim > 2 else value
    return inputs, tensors, meta


@pytest.mark.parametrize("case", CASES)
def test_golden_outputs_by_their_first_tokens(case):
    length = None if GPU else 12
    inputs, tensors, meta = golden_inputs(case, 1, length)
    softplus = meta["cases"][case]["delta_softplus"]
    given = [None if inputs[n] is None else inputs[n].to(DEVICE) for n in NAMES]
    y, _ = backend.selective_scan(Scan(*given[:8], softplus=softplus))
    key = f"{case}/out"
    expected = {key: tensors[key][:1, :, :length].transpose(1, 2)}
    assert_golden(y.cpu(), expected, meta, key)


@pytest.mark.parametrize("case", [pytest.param(c, marks=() if c in QUICK else LONG) for c in CASES])
def test_golden_outputs_last_state_and_gradients(case):
    inputs, tensors, meta = golden_inputs(case)
    leaves = {
        n: None if t is None else t.detach().clone().to(DEVICE).requires_grad_() for n, t in inputs.items()
    }
    softplus = meta["cases"][case]["delta_softplus"]
    y, last = backend.selective_scan(Scan(*(leaves[n] for n in NAMES[:8]), softplus=softplus))
    assert_golden(y.cpu().transpose(1, 2), tensors, meta, f"{case}/out")
    assert_golden(last.cpu(), tensors, meta, f"{case}/last_state")
    (y * tensors[f"{case}/dy"].to(DEVICE).transpose(1, 2)).sum().backward()
    for name in NAMES[:8]:
        if leaves[name] is None:
            continue
        grad = leaves[name].grad.cpu()
        if name in "BC":
            ndim = tensors[f"{case}/{name}"].ndim
            grad = grad.sum((0, 1)) if ndim == 2 else grad.permute(0, 2, 3, 1)
            grad = grad.squeeze(1) if ndim == 3 else grad
        elif grad.ndim == 3:
            grad = grad.transpose(1, 2)
        assert_golden(grad, tensors, meta, f"{case}/grad_{name}")


@pytest.mark.parametrize("case", ["large_delta", "tiny_delta", "neg_A", "slow_A", "plain"])
def test_gradients_at_the_edges_of_float32(case):
    inputs, _, meta = golden_inputs(case, 1, 9)
    inputs["A"] = inputs["A"][:, :3]
    inputs["B"], inputs["C"] = inputs["B"][..., :3], inputs["C"][..., :3]
    assert_agrees(
        inputs, limit=1e-4 if case == "slow_A" else 1e-5, softplus=meta["cases"][case]["delta_softplus"]
    )


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 15, 16, 17])
def test_every_length_around_a_tile(length):
    assert_agrees(make(length=length, channels=3, states=2, start=True))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [64, 65, pytest.param(63, marks=LONG), pytest.param(130, marks=LONG)])
def test_lengths_around_a_segment(length, reverse):
    assert_agrees(make(length=length, channels=3, states=1, start=True), reverse=reverse)


@pytest.mark.parametrize("states", [1, 8, 16, 24])
def test_any_number_of_states(states):
    assert_agrees(make(length=3, channels=3, states=states))


@pytest.mark.parametrize("left_out", ["D", "z", "delta_bias", "softplus", "all"])
def test_arguments_left_out(left_out):
    names = ("D", "z", "delta_bias") if left_out == "all" else (left_out,)
    inputs = {n: None if n in names else t for n, t in make(batch=2, length=5).items()}
    if left_out in ("softplus", "all"):
        inputs["delta"] = inputs["delta"].abs()
    assert_agrees(inputs, softplus=left_out not in ("softplus", "all"))


def test_more_channels_than_a_program_holds_and_groups_that_do_not_fill_one():
    assert_agrees(make(length=4, channels=70, states=2))
    assert_agrees(make(length=4, channels=2 * 35, states=2, groups=2))
    assert_agrees(make(batch=2, length=4, channels=6, states=2, groups=6, start=True), reverse=True)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_sequence_cut_into_spans_gives_the_same_values_and_gradients(reverse, monkeypatch):
    inputs = make(length=64 * 3 + 5, channels=3, states=1, start=True)
    monkeypatch.setattr(backend, "WARPS_A_MULTIPROCESSOR", 4)
    spans = backend._plan(inputs["u"].to(DEVICE), 1, 1).spans
    assert spans == 4
    assert_agrees(inputs, reverse=reverse)


def test_few_clips_are_cut_and_many_are_not():
    assert backend.span_length(250, programs=2304, multiprocessors=132) >= 250
    assert backend.span_length(250, programs=9, multiprocessors=132) == 64
    assert backend.span_length(22000, programs=6, multiprocessors=132) % backend.SEGMENT == 0
    assert 22000 / backend.span_length(22000, programs=6, multiprocessors=132) > 100


def test_views_are_read_in_place_and_poisoned_memory_around_them_is_not():
    inputs = make(batch=2, length=6, channels=4, states=2)
    xz = torch.full((2, 6, 12), float("nan"))
    weights = torch.full((2, 6, 9), float("nan"))
    xz[..., :4], xz[..., 8:] = inputs["u"], inputs["z"]
    weights[..., 1:3], weights[..., 7:] = inputs["B"][:, :, 0], inputs["C"][:, :, 0]
    xz, weights = xz.to(DEVICE), weights.to(DEVICE)
    views = {n: None if t is None else t.to(DEVICE) for n, t in inputs.items()}
    views |= {"u": xz[..., :4], "z": xz[..., 8:]}
    views |= {"B": weights[..., None, 1:3], "C": weights[..., None, 7:]}
    y, _ = backend.selective_scan(Scan(*(views[n] for n in NAMES), softplus=True))
    expected, _ = reference.selective_scan(Scan(*(inputs[n] for n in NAMES), softplus=True))
    assert rms_ratio(y, expected) <= 1e-5


def test_every_output_element_is_written(monkeypatch):
    plain_empty = torch.Tensor.new_empty

    def poisoned(self, *args, **kwargs):
        out = plain_empty(self, *args, **kwargs)
        return out.fill_(float("nan")) if out.is_floating_point() else out

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned)
    assert_agrees(make(length=67, channels=3, states=1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_the_state_in_float32(dtype):
    inputs = make(length=9, channels=4, states=2)
    for name in ("u", "delta", "B", "C", "z"):
        inputs[name] = inputs[name].to(dtype)
    # The inputs are exact in both; what is left is the rounding of the outputs to `dtype`.
    actual = run(backend.selective_scan, inputs, device=DEVICE)
    expected = run(reference.selective_scan, inputs, dtype=torch.float64)
    assert actual["y"].dtype == actual["u"].dtype == actual["B"].dtype == dtype
    assert actual["state"].dtype == torch.float32
    assert rms_ratio(actual["y"], expected["y"]) <= torch.finfo(dtype).eps
    # The gradient handed in is rounded to `dtype` too, so gradients carry that error as well.
    for name in ("u", "delta", "A", "B", "C", "z"):
        assert rms_ratio(actual[name], expected[name]) <= 4 * torch.finfo(dtype).eps, name


def test_pieces_with_their_states_handed_on_give_the_whole():
    inputs = {
        n: None if t is None else t.to(DEVICE) for n, t in make(length=13, channels=3, states=2).items()
    }

    def scan(part, state):
        cut = [t[:, part] if n in ("u", "delta", "B", "C", "z") else t for n, t in inputs.items()]
        return backend.selective_scan(Scan(*cut[:8], state, softplus=True))

    whole, last = scan(slice(None), None)
    first, state = scan(slice(0, 5), None)
    second, state = scan(slice(5, None), state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(state, last, rtol=1e-6, atol=1e-6)


def test_parameters_with_gaps_and_an_empty_batch():
    inputs = make(length=4)
    for name in ("D", "delta_bias"):
        wide = torch.full((5, 2), float("nan"))
        wide[:, 0] = inputs[name]
        inputs[name] = wide[:, 0]
    assert_agrees(inputs)
    nothing = {n: t[:0] if t is not None and t.ndim > 2 else t for n, t in make(length=4).items()}
    given = [None if t is None else t.to(DEVICE) for t in list(nothing.values())[:8]]
    y, last = backend.selective_scan(Scan(*given, softplus=True))
    assert y.shape == (0, 4, 5) and last.shape == (0, 5, 3)


def test_two_runs_give_the_same_bits():
    inputs = make(length=9, channels=4, states=2)
    once, again = (run(backend.selective_scan, inputs, device=DEVICE) for _ in range(2))
    assert all(torch.equal(once[name], again[name]) for name in once)


def test_the_dispatch_finds_it_and_refuses_what_it_cannot_take():
    inputs = {n: t.to(DEVICE) for n, t in make(length=4).items() if t is not None}
    y = selective_scan(**inputs, delta_softplus=True, backend="triton")
    expected = selective_scan(**inputs, delta_softplus=True, backend="reference")
    assert rms_ratio(y, expected.cpu()) <= 1e-5
    with pytest.raises(BackendError, match="float64"):
        selective_scan(**inputs | {"u": inputs["u"].double()}, backend="triton")


def test_four_directions_over_a_map():
    g = torch.Generator().manual_seed(0)
    height, width, channels, states = 3, 2, 2, 1
    u = torch.randn(1, height * width, channels, generator=g).to(DEVICE)
    delta = torch.randn(1, height * width, 4, channels, generator=g).to(DEVICE)
    A = -torch.rand(4 * channels, states, generator=g).to(DEVICE)
    B, C = (torch.randn(1, height * width, 4, states, generator=g).to(DEVICE) for _ in range(2))
    arguments = (u, delta, A, B, C, None, None)
    y, expected = (
        selective_scan_2d(*arguments, height=height, width=width, backend=name)
        for name in ("triton", "reference")
    )
    assert rms_ratio(y, expected.cpu()) <= 1e-5


def test_registered_as_an_operator_with_shapes_and_gradients():
    inputs = make(length=3, channels=2, states=1)
    tensors = [None if inputs[n] is None else inputs[n].to(DEVICE).requires_grad_() for n in NAMES]
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    for keep in (False, True):
        torch.library.opcheck(backend._operator, (*tensors, True, False, 0, 0, keep), test_utils=checks)


def test_a_graph_made_without_gradients_has_them():
    """What the backward pass starts from was not kept when the graph ran."""
    inputs = make(length=3, channels=2, states=1)
    leaves = [None if inputs[n] is None else inputs[n].to(DEVICE).requires_grad_() for n in NAMES]
    given = [t for t in leaves if t is not None]
    late, early = (
        torch.autograd.grad(backend._operator(*leaves, True, False, 0, 0, keep)[0].square().sum(), given)
        for keep in (False, True)
    )
    assert all(torch.equal(a, b) for a, b in zip(late, early, strict=True))


def test_compiled_as_one_graph():
    inputs = make(length=4, channels=2, states=1)
    leaves = {n: None if t is None else t.to(DEVICE).requires_grad_() for n, t in inputs.items()}

    def loss(leaves):
        y, last = backend.selective_scan(Scan(*(leaves[n] for n in NAMES[:8]), softplus=True))
        return (y.sin().sum() + last.sum()) * 2

    plain = torch.autograd.grad(loss(leaves), leaves["u"])[0]
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(torch.autograd.grad(compiled(leaves), leaves["u"])[0], plain)
