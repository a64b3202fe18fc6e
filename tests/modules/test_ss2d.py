"""SS2D and VMamba's stages against the published code's tensors, in both generations."""

import pytest
import torch
import torch.nn.functional as F

from hear_audiomamba.encoders.vmamba import _sizes, _vmamba_names, convert_dass
from hear_audiomamba.modules.ss2d import SS2D
from hear_audiomamba.modules.vss import DropPath, PatchMerging, VMambaStages
from tests.golden import assert_golden, golden_weights, load_golden

CASES = ["ss2d_v0", "ss2d_v05_noz_cf", "ss2d_v05_z_cl"]


@pytest.mark.parametrize("case", CASES)
def test_ss2d_values_and_all_gradients(case):
    tensors, meta = load_golden("vmamba_ss2d")
    given = meta["cases"][case]
    channel_first = given["channel_first"]

    def last(x):
        return x.permute(0, 2, 3, 1) if channel_first else x

    def as_stored(x):
        return x.permute(0, 3, 1, 2) if channel_first else x

    mixer = SS2D(
        given["d_model"],
        given["d_state"],
        given["ssm_ratio"],
        None if given["dt_rank"] == "auto" else given["dt_rank"],
        conv_bias=given.get("conv_bias", True),
        gate=not given["forward_type"].endswith("_noz"),
        float32_scan=given["forward_type"] == "v0",
    )
    mixer.load_state_dict(golden_weights("vmamba_ss2d", f"{case}/param/"))
    x = last(tensors[f"{case}/x"]).clone().requires_grad_()
    y = mixer(x)
    (y * last(tensors[f"{case}/dy"])).sum().backward()
    assert_golden(as_stored(y), tensors, meta, f"{case}/y")
    assert_golden(as_stored(x.grad), tensors, meta, f"{case}/grad_x")
    for name, parameter in mixer.named_parameters():
        assert_golden(parameter.grad, tensors, meta, f"{case}/grad/{name}")


def stages_from_golden(name):
    """Return the stages, the last norm and the classifier of a stored VMamba."""
    weights = golden_weights(name, "param/")
    config = _sizes(_vmamba_names(weights))
    stages = VMambaStages(
        1, config.dim, config.depths, config.patch_embed, config.downsample, config.mlp_ratio,
        d_state=config.d_state, ssm_ratio=config.ssm_ratio, gate=config.gate,
        conv_bias=config.conv_bias, float32_scan=config.float32_scan,
    )  # fmt: skip
    ours = convert_dass(weights)
    stages.load_state_dict(
        {k.removeprefix("backbone."): v for k, v in ours.items() if k.startswith("backbone.")}
    )
    return stages.eval(), weights


@pytest.mark.parametrize("name", ["vssm_v0", "vssm_v2"])
@torch.no_grad()
def test_every_stage_of_a_published_backbone(name):
    tensors, meta = load_golden(name)
    stages, weights = stages_from_golden(name)
    channel_first = meta["layout"].startswith("channel-first")

    def stored(x):
        return x.permute(0, 3, 1, 2) if channel_first else x

    assert_golden(stored(stages.patch_embed(tensors["x"])), tensors, meta, "patch_embed")
    maps = stages(tensors["x"])
    for index, x in enumerate(maps):
        assert_golden(stored(x), tensors, meta, f"stage{index}")
        if index < 3:
            assert_golden(stored(stages.downsamples[index](x)), tensors, meta, f"down{index}")
        norm = [weights[f"outnorm{index}.{part}"] for part in ("weight", "bias")]
        assert_golden(
            F.layer_norm(x, x.shape[-1:], *norm).permute(0, 3, 1, 2), tensors, meta, f"backbone{index}"
        )
    norm = [weights[f"classifier.norm.{part}"] for part in ("weight", "bias")]
    feature = F.layer_norm(maps[3], maps[3].shape[-1:], *norm).mean(dim=(1, 2))
    assert_golden(feature, tensors, meta, "feat")
    logits = F.linear(feature, weights["classifier.head.weight"], weights["classifier.head.bias"])
    assert_golden(logits, tensors, meta, "logits")


@torch.no_grad()
def test_block_maps_end_each_stage_where_forward_does():
    torch.manual_seed(0)
    stages = VMambaStages(1, 16, (1, 2, 1, 1), d_state=1, ssm_ratio=1.0, gate=False, conv_bias=False)
    image = torch.randn(1, 1, 64, 52)
    blocks, maps = stages.block_maps(image), stages(image)
    assert len(blocks) == 5
    for block, stage in ((0, 0), (2, 1), (3, 2), (4, 3)):
        assert torch.equal(blocks[block], maps[stage])


def test_patch_merging_pads_odd_sides_with_zeros():
    merging = PatchMerging(1)
    merging.norm, merging.reduction = torch.nn.Identity(), torch.nn.Identity()
    merging.norm.weight = merging.reduction.weight = torch.ones(1)
    x = torch.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])[None, :, :, None]
    expected = torch.tensor([[[1.0, 4, 2, 5], [3, 6, 0, 0]], [[7, 0, 8, 0], [9, 0, 0, 0]]])
    assert torch.equal(merging(x)[0], expected)


def test_drop_path_only_acts_in_training_and_keeps_the_mean():
    drop = DropPath(0.25)
    x = torch.ones(4000, 2)
    assert torch.equal(drop.eval()(x), x)
    torch.manual_seed(0)
    dropped = drop.train()(x)
    assert torch.equal(dropped[:, 0], dropped[:, 1])
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.05)
