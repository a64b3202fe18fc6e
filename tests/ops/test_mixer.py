"""A mixer in one call of the compiled kernel gives what the operators one by one give, in float64."""

from __future__ import annotations

import copy
import functools
import itertools
import os
import pickle
import subprocess
import sys

import pytest
import torch

from hear_audiomamba.errors import BackendError, InputError
from hear_audiomamba.io.process import is_out_of_memory
from hear_audiomamba.modules import mamba as module_of_blocks
from hear_audiomamba.modules.compute import cast_products
from hear_audiomamba.modules.mamba import MambaBlock, MambaMixer
from hear_audiomamba.ops import mixer as module
from hear_audiomamba.ops import native, use_backend

from .cases import assert_close

pytestmark = pytest.mark.skipif(
    native.why_not(torch.empty(0)) is not None, reason="the compiled kernel is not built"
)
KINDS = [None, "v2"]


def make_mixer(width=32, bidirectional=None, seed=0, **sizes) -> MambaMixer:
    """Return a mixer whose parameters are all random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mixer = MambaMixer(width, bidirectional=bidirectional, **sizes)
        for parameter in (mixer.D, mixer.A_log):
            parameter.data += 0.3 * torch.randn_like(parameter)
    return mixer


def sequence(batch: int, length: int, width: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(batch * 1000 + length)
    return torch.randn(batch, length, width, generator=generator)


@torch.no_grad()
def exact(mixer: MambaMixer, x: torch.Tensor, reverse: bool = False) -> torch.Tensor:
    with use_backend("reference"):
        return copy.deepcopy(mixer).double()(x.double(), reverse)


@torch.no_grad()
def fused(mixer: MambaMixer, x: torch.Tensor, reverse: bool = False) -> torch.Tensor:
    """Return the result of the one call, and see to it that it is the one."""
    ways = mixer._directions()
    assert module.can_mix(x, mixer.in_proj.weight, mixer.out_proj.weight, ways, mixer.backend)
    return mixer(x, reverse)


@functools.cache
def truth_of_length(bidirectional: str | None, length: int, reverse: bool) -> torch.Tensor:
    """What `test_every_length` compares with: the same for each instruction set."""
    return exact(make_mixer(bidirectional=bidirectional), sequence(1, length), reverse)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 11, 12, 13, 95, 96, 97, 251, 300])
@pytest.mark.parametrize("bidirectional", KINDS)
def test_every_length(isa, bidirectional, length):
    mixer, x = make_mixer(bidirectional=bidirectional), sequence(1, length)
    for reverse in (False, True):
        assert_close([fused(mixer, x, reverse)], [truth_of_length(bidirectional, length, reverse)])


SIZES = ({"d_state": 1}, {"d_state": 24, "expand": 3}, {"dt_rank": 33, "d_state": 5}, {"expand": 1})


@functools.cache
def truth_of_size(bidirectional: str | None, at: int) -> torch.Tensor:
    """What `test_every_size` compares with: the same for each instruction set and for all threads."""
    return exact(make_mixer(64, bidirectional, **SIZES[at]), sequence(2, 130, 64))


@pytest.mark.parametrize("size", range(len(SIZES)))
@pytest.mark.parametrize("bidirectional", KINDS)
def test_every_size(isa, threads, bidirectional, size):
    mixer = make_mixer(64, bidirectional, **SIZES[size])
    assert_close([fused(mixer, sequence(2, 130, 64))], [truth_of_size(bidirectional, size)])


@pytest.mark.parametrize("bidirectional", KINDS)
def test_same_bits_for_any_threads_and_batch(bidirectional):
    mixer, x = make_mixer(bidirectional=bidirectional), sequence(5, 310)
    before, results = torch.get_num_threads(), []
    try:
        for threads, batch in itertools.product((1, 2, 3), (1, 2, 5)):
            torch.set_num_threads(threads)
            results.append(fused(mixer, x[:batch]))
    finally:
        torch.set_num_threads(before)
    for result in results:
        assert torch.equal(result, results[2][: len(result)])


@pytest.mark.parametrize("length", [1, 31, 33, 97, 300])
@pytest.mark.parametrize("bidirectional", KINDS)
@torch.no_grad()
def test_bfloat16_rounds_only_what_enters_a_product(threads, bidirectional, length):
    if not native.mixes(torch.bfloat16):
        pytest.skip("this processor has no AMX, which the bfloat16 mixer is made of")
    mixer = make_mixer(64, bidirectional, d_state=24)
    cast_products(mixer, torch.bfloat16)
    x = sequence(3, length, 64).bfloat16()
    # Inputs and results of three products are rounded, each to a relative 2^-9 at most.
    assert_close([fused(mixer, x)], [exact(mixer, x)], limit=3 * 2**-9)


def make_block(width=64, bidirectional=None, norm="layer", **sizes) -> MambaBlock:
    """Return a block whose parameters are all random, and whose norm is not the one it starts with."""
    block = MambaBlock(width, norm, bidirectional=bidirectional, **sizes)
    block.mixer = make_mixer(width, bidirectional, **sizes)
    generator = torch.Generator().manual_seed(7)
    for parameter in block.norm.parameters():
        parameter.data = torch.randn(width, generator=generator)
    return block


@torch.no_grad()
def one_call(block: MambaBlock, stream: torch.Tensor, reverse: bool = False) -> torch.Tensor:
    """Return the result of the one call, and see to it that it is the one."""
    norm = module_of_blocks._read_norm(block.norm)
    assert norm is not None and block.mixer.in_block(stream, norm, reverse) is not None
    return block(stream, reverse)


@functools.cache
@torch.no_grad()
def truth_of_block(bidirectional: str | None, norm: str, length: int, reverse: bool) -> torch.Tensor:
    """What the next test compares with: the same for each instruction set and for all threads."""
    block = make_block(bidirectional=bidirectional, norm=norm).double()
    stream = stream_of(length).double()
    with use_backend("reference"):
        return stream + block.mixer(block.norm(stream), reverse)


def stream_of(length: int) -> torch.Tensor:
    """Return tokens that a norm changes."""
    return 3 + 5 * sequence(3, length, 64)


@pytest.mark.parametrize("length", [1, 97, 300])
@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("bidirectional", KINDS)
@torch.no_grad()
def test_a_block_is_a_norm_a_mixer_and_a_sum(isa, threads, bidirectional, norm, length):
    block, stream = make_block(bidirectional=bidirectional, norm=norm), stream_of(length)
    for reverse in (False, True):
        truth = truth_of_block(bidirectional, norm, length, reverse)
        assert_close([one_call(block, stream, reverse)], [truth])


@torch.no_grad()
def test_a_block_in_bfloat16_keeps_its_stream_in_float32():
    if not native.mixes(torch.bfloat16):
        pytest.skip("this processor has no AMX, which the bfloat16 mixer is made of")
    block, stream = make_block(), sequence(2, 130, 64)
    exactly = block(stream) - stream
    cast_products(block, torch.bfloat16)
    added = one_call(block, stream) - stream
    # Inputs and weights of four products are rounded, each to a relative 2^-9 at most.
    assert_close([added], [exactly], limit=8 * 2**-9)


@torch.no_grad()
def test_hooks_on_the_parts_of_a_block_are_called():
    block, stream, called = make_block(), sequence(1, 20, 64), []
    block.mixer.register_forward_hook(lambda *_: called.append("mixer"))
    block.norm.register_forward_pre_hook(lambda *_: called.append("norm"))
    block(stream)
    assert called == ["norm", "mixer"]


@torch.no_grad()
def test_a_norm_that_changes_is_followed_and_one_of_another_kind_computed():
    block, stream = make_block(), sequence(1, 20, 64)
    block.norm.weight.mul_(2.0)
    torch.testing.assert_close(one_call(block, stream), stream + block.mixer(block.norm(stream)))
    for norm in (torch.nn.Identity(), torch.nn.LayerNorm(64, elementwise_affine=False)):
        block.norm = norm
        torch.testing.assert_close(block(stream), stream + block.mixer(norm(stream)))
    block.norm = torch.nn.LayerNorm(32)  # the kernel would read beyond its weights
    with pytest.raises(RuntimeError, match="normalized_shape"):
        block(stream)


def test_rows_and_clips_apart_in_memory():
    mixer, wide = make_mixer(), sequence(3, 140, 80)
    x = wide[:, 5:135, 7:39]
    assert torch.equal(fused(mixer, x), fused(mixer, x.contiguous()))
    backwards_in_memory = wide.transpose(1, 2)[:, :32].contiguous().transpose(1, 2)
    assert torch.equal(fused(mixer, backwards_in_memory), fused(mixer, backwards_in_memory.contiguous()))


def test_a_row_that_is_not_a_number_spoils_no_row_before_it_and_no_other_clip():
    mixer, x = make_mixer(), sequence(2, 100)
    clean = fused(mixer, x)
    x[0, 50] = torch.nan
    spoiled = fused(mixer, x)
    assert torch.equal(spoiled[0, :50], clean[0, :50]) and torch.equal(spoiled[1], clean[1])
    assert spoiled[0, 50:].isnan().all()


def test_no_clips():
    with torch.no_grad():
        assert make_mixer()(torch.ones(0, 5, 32)).shape == (0, 5, 32)


@torch.no_grad()
def test_an_input_of_another_width_or_rank_is_refused_as_by_any_layer():
    for shape in ((2, 5, 64), (2, 5, 31), (5, 32), (1, 2, 5, 32)):
        with pytest.raises((InputError, RuntimeError)):
            make_mixer()(torch.ones(shape))


@torch.no_grad()
def test_products_of_two_precisions_are_refused_as_by_any_layer():
    mixer = make_mixer()
    mixer.x_proj.weight.data = mixer.x_proj.weight.data.bfloat16()
    with pytest.raises(RuntimeError, match="dtype"):
        mixer(sequence(1, 20))


CHANGES = {
    "in place": lambda p: p.mul_(1.5),
    "behind torch's count": lambda p: p.data.mul_(1.5),
    "other memory": lambda p: setattr(p, "data", 1.5 * p.detach()),
}


@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_every_parameter_that_changes_is_followed(change):
    mixer, x = make_mixer(bidirectional="v2"), sequence(1, 20)
    fused(mixer, x)
    for parameter in mixer.parameters():
        CHANGES[change](parameter)
        assert_close([fused(mixer, x)], [exact(mixer, x)])


@torch.no_grad()
def test_loaded_copied_and_pickled_mixers_have_weights_of_their_own():
    mixer, other, x = make_mixer(), make_mixer(seed=1), sequence(1, 20)
    results = [fused(mixer, x), fused(other, x)]
    copies = copy.deepcopy(mixer), pickle.loads(pickle.dumps(mixer))
    mixer.load_state_dict(other.state_dict())
    assert torch.equal(fused(mixer, x), results[1])
    assert all(torch.equal(fused(each, x), results[0]) for each in copies)


def test_what_cannot_be_fused_runs_operator_by_operator():
    x = sequence(1, 20)
    mixers = {
        "one A for two ways": make_mixer(bidirectional="v1"),
        "width": make_mixer(40),
        "taps": make_mixer(d_conv=3),
        "other backend": make_mixer(),
    }
    mixers["other backend"].backend = "torch"
    for mixer in mixers.values():
        x = sequence(1, 20, mixer.in_proj.in_features)
        with torch.no_grad():
            assert_close([mixer(x)], [exact(mixer, x)])
    mixer, x = make_mixer(), sequence(1, 20)
    assert mixer(x).requires_grad
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        assert mixer(x).dtype == torch.bfloat16


def test_gradients_of_a_mixer_are_those_of_its_operators():
    mixer, x = make_mixer(), sequence(1, 20)
    with torch.no_grad():
        inferred = mixer(x)
    trained = mixer(x)
    torch.testing.assert_close(inferred, trained.detach(), rtol=1e-5, atol=1e-6)
    trained.sum().backward()
    assert all(parameter.grad is not None for parameter in mixer.parameters())


OUT_OF_MEMORY = """
import resource, torch
from pathlib import Path
from hear_audiomamba.errors import BackendError
from hear_audiomamba.modules.mamba import MambaMixer

torch.manual_seed(0)
mixer, small = MambaMixer(32, bidirectional="v2"), torch.randn(3, 20, 32)
no_limits = resource.getrlimit(resource.RLIMIT_AS)
for threads, batch in ((1, 1), (2, 1), (2, 2)):
    torch.set_num_threads(threads)
    long = torch.randn(batch, 200_000, 32)
    with torch.no_grad():
        before = mixer(small)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + long.nbytes + 2**25
        resource.setrlimit(resource.RLIMIT_AS, (limit, no_limits[1]))
        try:
            mixer(long)
        except BackendError as error:
            print(error)
        assert torch.equal(mixer(small), before)
    resource.setrlimit(resource.RLIMIT_AS, no_limits)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit on memory needs Linux's /proc")
@pytest.mark.parametrize("waiting", ["active", "passive"])
def test_too_little_memory_is_an_error_and_not_the_end_of_the_process(waiting):
    """One clip on one thread, one shared by two threads, and one on each of two; each needs 250 MB."""
    env = os.environ | {"OMP_WAIT_POLICY": waiting}  # on torch's threads, and on the kernels' own
    done = subprocess.run([sys.executable, "-c", OUT_OF_MEMORY], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    errors = done.stdout.splitlines()
    assert len(errors) == 3 and all(error.startswith("out of memory on the CPU") for error in errors), errors
    assert is_out_of_memory(BackendError(errors[0])), "archives go on with smaller batches"
