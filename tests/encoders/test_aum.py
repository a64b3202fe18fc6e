"""AuM against the reference tensors of its authors' code, in its three directional variants."""

from __future__ import annotations

import pytest
import torch

from hear_audiomamba.config import AuMConfig, KaldiFbankConfig
from hear_audiomamba.encoders import aum
from hear_audiomamba.encoders.aum import AuM
from hear_audiomamba.errors import CheckpointError, ConfigError
from hear_audiomamba.modules.pos_embed import fit_positions

from ..golden import assert_golden, golden_weights, load_golden

PUBLISHED_PARAMETERS = {
    ("fobi", 192): 6_438_479, ("fobi", 384): 23_935_631, ("fobi", 768): 92_107_535,
    ("bibi", 192): 7_019_087, ("bibi", 384): 25_539_215, ("bibi", 768): 97_084_175,
}  # fmt: skip


def load(name: str) -> AuM:
    state = golden_weights(name, "param/")
    encoder = AuM(*aum.config_from_state(state)).eval()
    encoder.load_state_dict(aum.convert_state(state))
    return encoder


def tiny(**changes) -> AuM:
    torch.manual_seed(0)
    return AuM(AuMConfig(**{"embed_dim": 32, "depth": 2, "d_state": 4, **changes}), KaldiFbankConfig()).eval()


@pytest.mark.parametrize("name", ["aum_fobi", "aum_bibi"])
@torch.inference_mode()
def test_tokens_and_logits_agree_with_the_reference(name):
    tensors, meta = load_golden(name)
    encoder = load(name)
    assert name.endswith(encoder.config.direction)
    first, last = [], []
    encoder.blocks[0].register_forward_hook(lambda block, given, result: first.extend(given))
    block = encoder.blocks[-1]
    block.register_forward_hook(lambda block, given, result: last.extend(given))
    tokens = encoder(tensors["x"])
    assert_golden(encoder.patch_embed(tensors["x"]), tensors, meta, "patch_embed")
    assert_golden(first[0], tensors, meta, "tokens_in")
    assert_golden(last[0], tensors, meta, "last_residual")
    assert_golden(block.mixer(block.norm(last[0])), tensors, meta, "last_hidden")
    assert_golden(tokens[:, 0], tensors, meta, "features")
    assert_golden(encoder.classify(tensors["x"]), tensors, meta, "logits")
    states = encoder.hidden_states(tensors["x"])
    assert len(states) == encoder.depth == encoder.config.depth
    torch.testing.assert_close(encoder.norm(states[-1]), tokens)


@pytest.mark.parametrize("direction, dim", PUBLISHED_PARAMETERS)
def test_parameters_are_those_published(direction, dim):
    config = AuMConfig(embed_dim=dim, direction=direction, num_classes=527)
    with torch.device("meta"):
        encoder = AuM(config, KaldiFbankConfig())
    assert sum(p.numel() for p in encoder.parameters()) == PUBLISHED_PARAMETERS[direction, dim]


@pytest.mark.parametrize("direction", ["fofo", "fobi", "bibi"])
@torch.inference_mode()
def test_tokens_see_as_far_as_their_direction_says(direction):
    encoder = tiny(direction=direction)
    features = torch.zeros(1, 64, 128)
    changed = features.clone()
    changed[:, -16:, -16:] = 1  # the last patch in scan order
    moved = (encoder(changed) - encoder(features)).abs().amax(dim=2)[0] > 0
    assert moved[-1]
    assert moved[1:-1].any() == (direction != "fofo")


@pytest.mark.parametrize("direction", ["fofo", "fobi", "bibi"])
def test_the_direction_is_read_from_the_tensors(direction):
    state = {k.replace("blocks.", "layers."): v for k, v in tiny(direction=direction).state_dict().items()}
    state["pos_embed.pos_embed"] = state.pop("pos_embed")
    state["norm_f.weight"] = state.pop("norm.weight")
    state = {f"module.{k}": v for k, v in state.items()}
    assert aum.looks_like(state)
    config, features = aum.config_from_state(state)
    assert (config.direction, config.depth, config.grid, config.num_classes) == (direction, 2, (64, 8), 0)
    AuM(config, features).load_state_dict(aum.convert_state(state))


def test_positions_are_resampled_with_antialiasing():
    encoder = tiny()
    table = encoder.pos_embed[:, 1:]
    image = table.reshape(1, 8, 64, 32).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(image, (8, 13), mode="bilinear", antialias=True)
    assert torch.equal(encoder.positions(13)[:, 1:], expected.flatten(2).transpose(1, 2))
    assert torch.equal(encoder.positions(13)[:, :1], encoder.pos_embed[:, :1])
    assert torch.equal(encoder.positions(64), encoder.pos_embed)


def test_cut_positions_are_the_middle_of_both_axes():
    band, time = torch.meshgrid(torch.arange(8.0), torch.arange(64.0), indexing="ij")
    table = torch.stack([band, time], dim=-1).reshape(1, -1, 2)
    cut = fit_positions(table, (64, 8), (10, 4)).reshape(4, 10, 2)
    assert torch.equal(cut[:, 0, 0], torch.arange(2.0, 6.0))
    assert torch.equal(cut[0, :, 1], torch.arange(27.0, 37.0))


@torch.inference_mode()
def test_without_a_classifier_it_says_so():
    with pytest.raises(ConfigError, match="num_classes"):
        tiny().classify(torch.zeros(1, 16, 128))


def test_incomplete_checkpoints_are_named():
    state = {"layers.0.mixer.A_log": torch.zeros(64, 4), "pos_embed.pos_embed": torch.zeros(1, 513, 32)}
    with pytest.raises(CheckpointError, match=r"not a complete AuM checkpoint.*cls_token"):
        aum.config_from_state(state)
