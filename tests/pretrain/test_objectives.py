"""The losses of the published code, for the masks and weights it was run with."""

import numpy as np
import pytest
import torch

from hear_audiomamba.models.convert import recognise
from hear_audiomamba.models.families import build_modules, with_options
from hear_audiomamba.models.registry import find_variant
from hear_audiomamba.models.weights import load_strict
from hear_audiomamba.pretrain.config import DistillConfig, ObjectiveConfig, PretrainConfig
from hear_audiomamba.pretrain.data.targets import Teacher
from hear_audiomamba.pretrain.objectives.objectives import (
    Distillation,
    JointMaskedPatches,
    MaskedReconstruction,
)

from ..golden import assert_golden, available, golden_weights, load_golden


def published(name: str):
    config, state = recognise(golden_weights(name), name)
    _, encoder = build_modules(config)
    load_strict(encoder, state, name, encoder.optional_keys)
    return encoder


@pytest.fixture(scope="module", params=[n for n in ("ssam_tiny", "ssam_small_d2") if available(f"{n}_io")])
def ssam(request):
    tensors, meta = load_golden(f"{request.param}_io")
    return published(f"{request.param}_weights"), tensors, meta


def ssam_loss(encoder, tensors, **changes):
    objective = MaskedReconstruction(encoder, PretrainConfig(objective=ObjectiveConfig(**changes)))
    mask = tensors["pretrain_mask"].bool()
    # The fixture stores the input as patches of 4 frames × 16 bins.
    patches = tensors["pretrain_target"]
    features = patches.reshape(len(patches), 50, 5, 4, 16).transpose(2, 3).reshape(len(patches), 200, 80)
    return objective(features, {"mask": mask})["loss"][None]


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("pretrain_loss", {}),
        ("pretrain_loss_masked_only", {"loss_on": "masked"}),
        ("pretrain_loss_norm_pix", {"normalize_patches": True}),
    ],
)
@torch.no_grad()
def test_ssam_loss_is_the_published_one(ssam, key, changes):
    encoder, tensors, meta = ssam
    assert_golden(ssam_loss(encoder, tensors, **changes), tensors, meta, key)


def test_ssam_gradients_are_the_published_ones(ssam):
    encoder, tensors, meta = ssam
    encoder.zero_grad(set_to_none=True)
    ssam_loss(encoder, tensors).sum().backward()
    gradients = {name: p.grad for name, p in encoder.named_parameters()}
    norms = torch.stack([gradients[name].norm() for name in meta["grad_param_order"]])
    assert_golden(norms, tensors, meta, "pretrain_grad_norms")
    for key in tensors:
        if key.startswith("pretrain_grad/"):
            assert_golden(gradients[key.removeprefix("pretrain_grad/")], tensors, meta, key)


@torch.no_grad()
def test_ssamba_losses_are_the_published_ones():
    tensors, meta = load_golden("ssamba_tiny_io")
    encoder = published("ssamba_tiny_weights")
    objective = JointMaskedPatches(encoder, PretrainConfig(recipe="ssamba"))
    masks = {}
    for name, key in (("mask", "mpc_mask_index"), ("mask1", "mpg_mask_index")):
        index = tensors[key].long()
        masks[name] = torch.zeros(len(index), 512, dtype=torch.bool).scatter_(1, index, True)
    losses = objective(tensors["fbank_full"], masks)
    assert_golden(losses["nce"][None], tensors, meta, "mpc_nce")
    assert_golden(losses["mse"][None], tensors, meta, "mpg_mse")
    assert_golden(losses["loss"][None], tensors, meta, "joint_loss")
    assert_golden(losses["accuracy"][None], tensors, meta, "mpc_acc")


def test_teachers_hear_the_scene_embedding_that_the_model_will_have():
    torch.manual_seed(0)
    _, encoder = build_modules(with_options(find_variant("ssam_tiny").config, {"embed_dim": 32, "depth": 2}))
    teachers = {"one": Teacher(np.zeros((1, 7), np.float32), 7, "mse", 1.0)}
    objective = Distillation(encoder, PretrainConfig(), teachers, scene_pooling="mean_plus_max")
    features, target = torch.randn(2, 40, 80), torch.randn(2, 7)
    with torch.no_grad():
        rows = encoder.embed_frames(features)
        scene = rows.mean(1) + rows.amax(1)
        expected = (objective.heads.heads["one"](scene) - target).square().mean()
        torch.testing.assert_close(objective(features, {"target_one": target})["loss"], expected)


def test_clips_left_whole_for_the_teachers_add_nothing_to_the_reconstruction_loss():
    torch.manual_seed(0)
    model = with_options(find_variant("ssam_tiny").config, {"embed_dim": 32, "depth": 2, "d_state": 4})
    _, encoder = build_modules(model)
    teacher = Teacher(np.zeros((1, 7), np.float32), 7, "mse", 2.0)
    config = PretrainConfig(distill=DistillConfig(masked=0.5))
    objective = MaskedReconstruction(encoder, config, {"yamnet": teacher})
    features, mask = torch.randn(2, 40, 80), torch.rand(2, 50) < 0.5
    batch = {"mask": mask, "chance": torch.tensor([[0.2], [0.9]]), "target_yamnet": torch.randn(2, 7)}
    losses = objective(features, batch)
    alone = MaskedReconstruction(encoder, PretrainConfig())(features[:1], {"mask": mask[:1]})
    torch.testing.assert_close(losses["reconstruction"], alone["loss"].detach())
    expected = losses["reconstruction"] + losses["teacher_yamnet"]
    torch.testing.assert_close(losses["loss"].detach(), expected)
    # A row that is not known: the loss is that of the other one.
    batch["target_yamnet"][1] = float("nan")
    objective.heads.coverage["yamnet"] = 0.5
    one = objective(features, batch)["teacher_yamnet"]
    prediction = objective.heads.heads["yamnet"](
        encoder.frames(encoder.encode(encoder.embed(features[:1], mask[:1]))).mean(1)
    )
    torch.testing.assert_close(one, (prediction - batch["target_yamnet"][:1]).square().mean().detach())


@pytest.mark.parametrize("loss_on", ["all", "masked"])
@torch.no_grad()
def test_padding_behind_a_short_clip_is_not_reconstructed(loss_on):
    torch.manual_seed(0)
    model = with_options(find_variant("ssam_tiny").config, {"embed_dim": 32, "depth": 2, "d_state": 4})
    _, encoder = build_modules(model)
    objective = MaskedReconstruction(encoder, PretrainConfig(objective=ObjectiveConfig(loss_on=loss_on)))
    features, mask = torch.randn(1, 40, 80), torch.rand(1, 50) < 0.5
    features[:, 20:] = 0.0
    padded = objective(features, {"mask": mask, "n_rows": torch.tensor([5])})["loss"]
    short = objective(features[:, :20], {"mask": mask[:, :25]})["loss"]
    torch.testing.assert_close(padded, short)
