"""The scan of a sequence: published numbers, then the reference at every size and layout."""

from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_audiomamba.ops import native, selective_scan, use_backend
from tests.golden import assert_golden, load_golden

from .cases import assert_close, reference_scan, scan_inputs, with_gradients

GOLDEN_CASES = (
    "base", "groups1_n24", "groups4", "n1", "const_bc", "plain", "L1", "L2",
    "large_delta", "tiny_delta", "neg_A", "slow_A", "long",
)  # fmt: skip
LENGTHS = (*range(1, 18), 63, 64, 65, 127, 128, 129, 200, 251)


def golden_inputs(case: str, tensors: dict) -> dict[str, torch.Tensor]:
    """Return a fixture's inputs as the operator takes them: channel-last, B and C with groups."""
    batch, channels, length = tensors[f"{case}/u"].shape
    inputs = {k.split("/")[1]: v for k, v in tensors.items() if k.startswith(f"{case}/")}
    for name in ("u", "delta", "z"):
        if name in inputs:
            inputs[name] = inputs[name].transpose(1, 2)
    for name in ("B", "C"):
        if inputs[name].ndim == 2:
            inputs[name] = inputs[name].expand(batch, length, channels, -1)
        elif inputs[name].ndim == 3:
            inputs[name] = inputs[name].transpose(1, 2)
        else:
            inputs[name] = inputs[name].permute(0, 3, 1, 2)
    names = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
    return {name: inputs[name] for name in names if name in inputs}


def as_golden(name: str, tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Return a result of the operator in the fixture's layout."""
    if name in ("u", "delta", "z", "out"):
        return tensor.transpose(1, 2)
    if name in ("B", "C"):
        if len(shape) == 2:
            return tensor.sum((0, 1))
        return tensor.transpose(1, 2) if tensor.ndim == 3 else tensor.permute(0, 2, 3, 1)
    return tensor


@pytest.mark.parametrize("case", GOLDEN_CASES)
def test_published_numbers(case, engine):
    tensors, meta = load_golden("selective_scan")
    inputs = {k: v.clone().requires_grad_() for k, v in golden_inputs(case, tensors).items()}
    softplus = meta["cases"][case]["delta_softplus"]
    out, last_state = selective_scan(**inputs, delta_softplus=softplus, return_last_state=True)
    gradients = torch.autograd.grad(out, list(inputs.values()), tensors[f"{case}/dy"].transpose(1, 2))
    assert_golden(as_golden("out", out, out.shape), tensors, meta, f"{case}/out")
    assert_golden(last_state, tensors, meta, f"{case}/last_state")
    for name, gradient in zip(inputs, gradients, strict=True):
        key = f"{case}/grad_{name}"
        gradient = as_golden(name, gradient, tensors[key].shape)
        assert_golden(gradient.reshape(tensors[key].shape), tensors, meta, key)


@functools.cache
def truth_of_length(length: int, states: int, reverse: bool) -> list[torch.Tensor]:
    """What the next test compares with: the same for each instruction set."""
    inputs = scan_inputs(2, length, 19, states, seed=length)
    return reference_scan(inputs, delta_softplus=True, reverse=reverse)


@pytest.mark.parametrize("states", (1, 8, 16, 24))
@pytest.mark.parametrize("length", LENGTHS)
def test_every_length_agrees_with_the_reference(length, states, isa):
    inputs = scan_inputs(2, length, 19, states, seed=length)
    options = {"delta_softplus": True, "reverse": length % 2 == 0}
    actual = with_gradients(lambda **k: selective_scan(**k, **options, return_last_state=True), inputs)
    assert_close(actual, truth_of_length(length, states, options["reverse"]))


@pytest.mark.parametrize("length", (1000, pytest.param(4096, marks=pytest.mark.slow)))
def test_long_clips_agree_with_the_reference(length, engine):
    if engine == "reference":
        pytest.skip("compares the others with it")
    inputs = scan_inputs(1, length, 17, 8, seed=length)
    actual = with_gradients(
        lambda **k: selective_scan(**k, delta_softplus=True, return_last_state=True), inputs
    )
    assert_close(actual, reference_scan(inputs, delta_softplus=True))


@settings(max_examples=40)
@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 40),
    per_group=st.integers(1, 70),
    groups=st.integers(1, 4),
    states=st.one_of(st.integers(1, 33), st.just(256)),
    softplus=st.booleans(),
    reverse=st.booleans(),
    optional=st.booleans(),
    name=st.sampled_from(("avx512", "avx2", "portable", "torch")),
)
def test_any_shape_agrees_with_the_reference(
    batch, length, per_group, groups, states, softplus, reverse, optional, name
):
    inputs = scan_inputs(batch, length, per_group * groups, states, groups, optional=optional, seed=length)
    options = {"delta_softplus": softplus, "reverse": reverse}
    if not softplus:
        inputs["delta"] = inputs["delta"].abs()
    with use_backend("torch" if name == "torch" else "cpu"):
        if name != "torch":
            _choose_or_skip(name)
        try:
            actual = with_gradients(
                lambda **k: selective_scan(**k, **options, return_last_state=True), inputs
            )
        finally:
            if name != "torch":
                native.choose_isa(None)
    assert_close(actual, reference_scan(inputs, **options))


def _choose_or_skip(name: str) -> None:
    try:
        native.choose_isa(name)
    except RuntimeError as error:
        pytest.skip(str(error))


def test_reverse_is_flip_scan_flip(engine):
    inputs = scan_inputs(2, 37, 20, 5)
    backward, last = selective_scan(**inputs, delta_softplus=True, reverse=True, return_last_state=True)
    flipped = {k: v.flip(1) if k in ("u", "delta", "B", "C", "z") else v for k, v in inputs.items()}
    y, last_flipped = selective_scan(**flipped, delta_softplus=True, return_last_state=True)
    assert_close([backward, last], [y.flip(1), last_flipped], 1e-6)


def test_a_clip_in_pieces_is_the_clip(engine):
    inputs = scan_inputs(2, 50, 20, 9)
    whole, last = selective_scan(**inputs, delta_softplus=True, return_last_state=True)
    state, pieces = inputs.pop("initial_state"), []
    for part in (slice(0, 13), slice(13, 14), slice(14, 50)):
        piece = {k: v[:, part] if k in ("u", "delta", "B", "C", "z") else v for k, v in inputs.items()}
        y, state = selective_scan(**piece, delta_softplus=True, initial_state=state, return_last_state=True)
        pieces.append(y)
    assert_close([torch.cat(pieces, 1), state], [whole, last], 1e-6)


def test_views_are_read_in_place(isa):
    """The views a Mamba block makes have unit channel stride, so nothing is copied."""
    xz = torch.randn(2, 30, 80)
    projected = torch.randn(2, 30, 4 + 2 * 6)
    delta = torch.randn(30, 2, 40).transpose(0, 1)
    inputs = {
        "u": xz[..., :40], "z": xz[..., 40:], "delta": delta, "A": -torch.rand(40, 6),
        "B": projected[..., 4:10], "C": projected[..., 10:],
    }  # fmt: skip
    assert all(native.readable(tensor) is tensor for tensor in inputs.values())
    y = selective_scan(**inputs, delta_softplus=True)
    expected = selective_scan(
        **{k: v.double() for k, v in inputs.items()}, delta_softplus=True, backend="reference"
    )
    assert_close([y], [expected])


def test_gradients_of_views(isa):
    inputs = scan_inputs(2, 33, 24, 6, optional=False)

    def through_views(u, delta, A, B, C):
        packed = torch.cat([u, delta], -1)
        rows = torch.cat([B, C], -1).squeeze(2)
        return selective_scan(
            packed[..., :24], packed[..., 24:], A, rows[..., :6], rows[..., 6:], delta_softplus=True
        )

    actual = with_gradients(through_views, inputs)
    expected = with_gradients(
        lambda **k: selective_scan(**k, delta_softplus=True, backend="reference"), inputs, torch.float64
    )
    assert_close(actual, expected)


@pytest.mark.parametrize("part", ("forward", "backward"))
def test_every_output_is_written(part, isa, monkeypatch):
    """Outputs are allocated full of NaN, with sizes that leave every kind of remainder."""
    empty, empty_like, new_empty = torch.empty, torch.empty_like, torch.Tensor.new_empty
    for owner, name, original in (
        (torch, "empty", empty),
        (torch, "empty_like", empty_like),
        (torch.Tensor, "new_empty", new_empty),
    ):

        def poisoned(*args, _original=original, **kwargs):
            return _original(*args, **kwargs).fill_(float("nan"))

        monkeypatch.setattr(owner, name, poisoned)
    inputs = scan_inputs(2, 35, 69, 13, 3)
    if part == "backward":
        results = with_gradients(
            lambda **k: selective_scan(**k, delta_softplus=True, return_last_state=True), inputs
        )
    else:
        results = selective_scan(**inputs, delta_softplus=True, return_last_state=True)
    assert all(torch.isfinite(r).all() for r in results)


def test_threads_do_not_change_a_bit(isa):
    inputs = scan_inputs(3, 65, 100, 24)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(with_gradients(lambda **k: selective_scan(**k, delta_softplus=True), inputs))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_batch_mates_do_not_matter(isa):
    inputs = scan_inputs(5, 40, 33, 8)
    together = selective_scan(**inputs, delta_softplus=True)
    shared = ("A", "D", "delta_bias")
    for i in range(5):
        one = {k: v if k in shared else v[i : i + 1] for k, v in inputs.items()}
        assert torch.equal(selective_scan(**one, delta_softplus=True)[0], together[i])


@pytest.mark.parametrize("dtype,limit", ((torch.bfloat16, 1e-2), (torch.float16, 2e-3)))
def test_half_precision_inputs_with_a_float32_state(dtype, limit, engine):
    inputs = {
        k: v.to(dtype) if k in ("u", "delta", "B", "C", "z") else v
        for k, v in scan_inputs(2, 70, 35, 16).items()
    }
    y, last = selective_scan(**inputs, delta_softplus=True, return_last_state=True)
    assert y.dtype == dtype and last.dtype == torch.float32
    actual = with_gradients(lambda **k: selective_scan(**k, delta_softplus=True), inputs)
    expected = with_gradients(
        lambda **k: selective_scan(**k, delta_softplus=True, backend="reference"), inputs, torch.float64
    )
    assert_close([last], [reference_scan(inputs, delta_softplus=True)[1]])
    assert_close(actual, expected, limit)


def test_denormals_and_silence_stay_finite(engine):
    inputs = scan_inputs(1, 300, 16, 4)
    inputs["u"][:, 20:] = 0
    inputs["u"][:, 5:10] = 1e-40
    y = selective_scan(**inputs, delta_softplus=True)
    assert torch.isfinite(y).all()


def test_not_a_number_reaches_only_its_channel(isa):
    inputs = scan_inputs(1, 20, 40, 4)
    inputs["u"][0, 7, 11] = float("nan")
    y = selective_scan(**inputs, delta_softplus=True)
    assert torch.isnan(y[0, 7:, 11]).all()
    y[0, 7:, 11] = 0
    assert torch.isfinite(y).all()
