"""The Mamba mixers and blocks that SSAM, SSAMBA and AuM share, against reference values and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

from hear_audiomamba.errors import ConfigError
from hear_audiomamba.modules.mamba import MambaBlock, MambaMixer, make_norm

from ..golden import assert_golden, golden_weights, load_golden

MIXERS = ["mamba_plain", "mamba_n24", "bimamba_v1", "bimamba_v2_div", "bimamba_v2_nodiv"]


def mixer_of(case: str, meta: dict) -> MambaMixer:
    c = meta["cases"][case]
    kind = None if c["bimamba_type"] == "none" else c["bimamba_type"]
    mixer = MambaMixer(
        c["d_model"],
        c["d_state"],
        c["d_conv"],
        c["expand"],
        bidirectional=kind,
        halve=c.get("if_devide_out", True),
    )
    mixer.load_state_dict(golden_weights("mixers", f"{case}/param/"))
    return mixer


@pytest.mark.parametrize("case", MIXERS)
def test_values_and_all_gradients(case):
    tensors, meta = load_golden("mixers")
    mixer = mixer_of(case, meta)
    x = tensors[f"{case}/x"].clone().requires_grad_()
    y = mixer(x)
    assert_golden(y, tensors, meta, f"{case}/y")
    y.backward(tensors[f"{case}/dy"])
    assert_golden(x.grad, tensors, meta, f"{case}/grad_x")
    for name, parameter in mixer.named_parameters():
        assert_golden(parameter.grad, tensors, meta, f"{case}/grad/{name}")


@pytest.mark.parametrize("case", ["block_layernorm", "block_rmsnorm"])
@torch.inference_mode()
def test_blocks_add_norm_and_mix_in_the_reference_order(case):
    tensors, meta = load_golden("mixers")
    c = meta["cases"][case]
    kind = None if c["bimamba_type"] == "none" else c["bimamba_type"]
    norm = "rms" if c["rms_norm"] else "layer"
    weights = golden_weights("mixers", f"{case}/param/")
    stream = tensors[f"{case}/x"]
    for index in range(c["n_blocks"]):
        block = MambaBlock(
            c["d_model"], norm, c["eps"],
            d_state=c["d_state"], d_conv=c["d_conv"], expand=c["expand"], bidirectional=kind,
        )  # fmt: skip
        prefix = f"blocks.{index}."
        block.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
        assert_golden(stream, tensors, meta, f"{case}/block{index}_residual")
        assert_golden(block.mixer(block.norm(stream)), tensors, meta, f"{case}/block{index}_hidden")
        stream = block(stream)
    final = make_norm(norm, c["d_model"], c["eps"])
    final.load_state_dict(
        {k.removeprefix("norm_f."): v for k, v in weights.items() if k.startswith("norm_f.")}
    )
    assert_golden(final(stream), tensors, meta, f"{case}/y")


@pytest.mark.parametrize("case", MIXERS)
@torch.inference_mode()
def test_reverse_equals_flipping_the_sequence(case):
    tensors, meta = load_golden("mixers")
    mixer, x = mixer_of(case, meta), tensors[f"{case}/x"]
    torch.testing.assert_close(mixer(x, reverse=True), mixer(x.flip(1)).flip(1), rtol=1e-5, atol=1e-6)


@torch.inference_mode()
def test_pieces_continue_where_the_last_one_ended():
    tensors, meta = load_golden("mixers")
    mixer, x = mixer_of("mamba_plain", meta), tensors["mamba_plain/x"]
    state, pieces = None, []
    for piece in x.split([1, 2, 30, 28], dim=1):
        y, state = mixer.step(piece, state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, dim=1), mixer(x), rtol=1e-5, atol=1e-6)


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="v3"):
        MambaMixer(8, bidirectional="v3")
    with pytest.raises(ConfigError, match="whole sequence"):
        MambaMixer(16, bidirectional="v2").step(torch.zeros(1, 1, 16), None)


class LowRank(nn.Module):
    """A frozen linear layer and a correction of rank 1, with the base's weight as its own: the form of peft's LoRA."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Parameter(torch.ones(1, base.in_features))
        self.b = nn.Parameter(torch.ones(base.out_features, 1))

    @property
    def weight(self) -> torch.Tensor:
        return self.base.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + F.linear(F.linear(x, self.a), self.b)


@pytest.mark.parametrize("kind", [None, "v1", "v2"])
@pytest.mark.parametrize("name", ["in_proj", "x_proj", "out_proj"])
def test_layers_in_the_place_of_the_products_are_heard(kind, name):
    torch.manual_seed(0)
    block, stream = MambaBlock(32, bidirectional=kind), torch.randn(2, 9, 32)
    expected = MambaBlock(32, bidirectional=kind)
    expected.load_state_dict(block.state_dict())
    with torch.no_grad():
        expected.mixer.get_submodule(name).weight.add_(1.0)  # what rank 1 of ones adds
    block.mixer.add_module(name, LowRank(block.mixer.get_submodule(name)))
    with torch.inference_mode():
        torch.testing.assert_close(block(stream), expected(stream), rtol=1e-4, atol=1e-4)
    block(stream).sum().backward()
    assert block.mixer.get_submodule(name).a.grad.abs().sum() > 0


def test_hooks_and_pruning_of_the_products_act_without_gradients_too():
    block, stream, called = MambaBlock(32, bidirectional="v2"), torch.randn(1, 9, 32), []
    names = ["in_proj", "x_proj", "x_proj_b", "out_proj"]
    for name in names:
        block.mixer.get_submodule(name).register_forward_hook(lambda *_, name=name: called.append(name))
    with torch.inference_mode():
        block(stream)
    assert called == names
    prune.l1_unstructured(block.mixer.out_proj, "weight", 1.0)
    with torch.inference_mode():
        torch.testing.assert_close(block(stream), stream, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["dt_proj", "conv1d_b"])
def test_a_layer_in_the_place_of_what_the_scan_does_itself_is_refused(name):
    mixer = MambaMixer(32, bidirectional="v2")
    mixer.add_module(name, nn.Identity())
    with pytest.raises(ConfigError, match=f"{name}: replaced by Identity"):
        mixer(torch.randn(1, 9, 32))
