"""Both SSASTs: the SSAM paper's against its reference tensors, Gong's against a plain second writing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hear_audiomamba.config import KaldiFbankConfig, LogMelConfig, SSASTConfig, SSASTDeiTConfig
from hear_audiomamba.encoders import ssast, ssast_deit
from hear_audiomamba.encoders.base import Streamable
from hear_audiomamba.encoders.ssast import SSAST
from hear_audiomamba.encoders.ssast_deit import SSASTDeiT
from hear_audiomamba.errors import CheckpointError, ConfigError
from hear_audiomamba.frontends.logmel import LogMel

from ..golden import assert_golden, golden_weights, load_golden

PUBLISHED_BASELINE = {192: 5_449_216, 384: 21_588_928, 768: 85_940_032}
PUBLISHED_DEIT = {192: 6_046_290, 384: 22_854_354, 768: 88_763_346}


@pytest.fixture(scope="module")
def baseline() -> SSAST:
    state = golden_weights("ssast_tiny_weights")
    config, features = ssast.config_from_state(state)
    encoder = SSAST(config, features).eval()
    encoder.load_state_dict(ssast.convert_state(state))
    return encoder


@torch.inference_mode()
def test_baseline_tokens_agree_with_the_reference(baseline):
    tensors, meta = load_golden("ssast_tiny_io")
    features = tensors["model_input"][:, 0]
    assert_golden(baseline.patch_embed(features), tensors, meta, "patch_embed")
    tokens = baseline(features)
    assert_golden(baseline.frames_published(tokens), tensors, meta, "forward_features")
    states = baseline.hidden_states(features)
    assert len(states) == baseline.depth == 4
    torch.testing.assert_close(baseline.encoder_norm(states[-1]), tokens)


def test_baseline_front_end_agrees_with_the_reference():
    tensors, meta = load_golden("ssast_tiny_io")
    for clip in "ac":
        features = LogMel(LogMelConfig())(tensors[f"wave_{clip}"])
        assert_golden(features[:, None], tensors, meta, f"logmel_{clip}")


def test_baseline_pretraining_agrees_with_the_reference_gradients_included(baseline):
    tensors, meta = load_golden("ssast_tiny_io")
    mask = tensors["pretrain_mask"].bool()
    baseline.zero_grad()
    pred, target = baseline.reconstruct(tensors["model_input"][:, 0], mask)
    loss = F.mse_loss(pred, target)
    loss.backward()
    assert_golden(pred, tensors, meta, "pretrain_pred")
    assert_golden(target, tensors, meta, "pretrain_target")
    assert_golden(loss[None], tensors, meta, "pretrain_loss")
    gradients = {name: p.grad for name, p in baseline.named_parameters()}
    published = ssast.convert_state({name: torch.empty(0) for name in meta["grad_param_order"]})
    norms = torch.stack([gradients[name].norm() for name in published])
    assert_golden(norms, tensors, meta, "pretrain_grad_norms")
    for key in (k for k in meta["keys"] if k.startswith("pretrain_grad/")):
        (name,) = ssast.convert_state({key.removeprefix("pretrain_grad/"): torch.empty(0)})
        assert_golden(gradients[name], tensors, meta, key)
    baseline.zero_grad()


@pytest.mark.parametrize("dim", PUBLISHED_BASELINE)
def test_baseline_parameters_are_those_published(dim):
    with torch.device("meta"):
        encoder = SSAST(SSASTConfig(embed_dim=dim, num_heads=dim // 64), LogMelConfig())
    # Counted with the fixed position table, which the files hold too.
    assert sum(value.numel() for value in encoder.state_dict().values()) == PUBLISHED_BASELINE[dim]


def test_baseline_is_not_taken_for_a_causal_model(baseline):
    assert not baseline.causal and not isinstance(baseline, Streamable)


def test_heads_must_divide_the_width():
    with pytest.raises(ConfigError, match="num_heads"):
        SSAST(SSASTConfig(embed_dim=64, depth=1, num_heads=3), LogMelConfig())


@pytest.mark.parametrize("dim", PUBLISHED_DEIT)
@pytest.mark.parametrize("kind", ["patch", "frame"])
def test_deit_parameters_are_those_published(dim, kind):
    shape = {} if kind == "patch" else {
        "patch_size": (2, 128), "grid": (512, 1), "time_stride": 2, "freq_stride": 128,
    }  # fmt: skip
    with torch.device("meta"):
        encoder = SSASTDeiT(SSASTDeiTConfig(embed_dim=dim, num_heads=dim // 64, **shape), KaldiFbankConfig())
    unused = 2 * (1000 * dim + 1000) + 2  # two ImageNet heads and the two canvas sizes that files carry along
    assert sum(p.numel() for p in encoder.parameters()) + unused == PUBLISHED_DEIT[dim]


def released_state(dim=64, depth=2, patch=(16, 16), canvas=(128, 1024)) -> dict[str, torch.Tensor]:
    """A random state dict with the keys and shapes of YuanGongND/ssast's checkpoints."""
    generator = torch.Generator().manual_seed(0)
    n_patches = (canvas[0] // patch[0]) * (canvas[1] // patch[1])
    values = patch[0] * patch[1]
    shapes = {
        "mask_embed": (1, 1, dim), "v.cls_token": (1, 1, dim), "v.dist_token": (1, 1, dim),
        "v.pos_embed": (1, 2 + n_patches, dim), "v.patch_embed.proj.weight": (dim, 1, *patch),
        "v.patch_embed.proj.bias": (dim,), "v.norm.weight": (dim,), "v.norm.bias": (dim,),
        "v.head.weight": (1000, dim), "v.head.bias": (1000,),
        "v.head_dist.weight": (1000, dim), "v.head_dist.bias": (1000,),
    }  # fmt: skip
    for head in ("cpredlayer", "gpredlayer"):
        shapes |= {f"{head}.0.weight": (dim, dim), f"{head}.0.bias": (dim,)}
        shapes |= {f"{head}.2.weight": (values, dim), f"{head}.2.bias": (values,)}
    for i in range(depth):
        for name, rows, columns in (
            ("attn.qkv", 3 * dim, dim), ("attn.proj", dim, dim),
            ("mlp.fc1", 4 * dim, dim), ("mlp.fc2", dim, 4 * dim),
        ):  # fmt: skip
            shapes |= {f"v.blocks.{i}.{name}.weight": (rows, columns), f"v.blocks.{i}.{name}.bias": (rows,)}
        for name in ("norm1", "norm2"):
            shapes |= {f"v.blocks.{i}.{name}.weight": (dim,), f"v.blocks.{i}.{name}.bias": (dim,)}
    state = {f"module.{k}": torch.randn(s, generator=generator) * 0.1 for k, s in shapes.items()}
    return state | {
        "module.p_input_fdim": torch.tensor(canvas[0]),
        "module.p_input_tdim": torch.tensor(canvas[1]),
    }


def plain_deit(state: dict[str, torch.Tensor], fbank: torch.Tensor, heads: int, depth: int) -> torch.Tensor:
    """Gong's forward pass written out with convolution, explicit softmax and his order of operations."""
    w = {k.removeprefix("module.v."): v for k, v in state.items()}
    image = fbank.transpose(1, 2)[:, None]
    stride = w["patch_embed.proj.weight"].shape[2:]
    patches = F.conv2d(image, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride)
    n_freq, n_time = patches.shape[2:]
    patches = patches.flatten(2).transpose(1, 2)
    table = w["pos_embed"][:, 2:].transpose(1, 2).reshape(1, patches.shape[2], n_freq, -1)
    start = table.shape[3] // 2 - n_time // 2
    table = table[..., start : start + n_time].flatten(2).transpose(1, 2)
    batch = patches.shape[0]
    special = [w[k].expand(batch, -1, -1) for k in ("cls_token", "dist_token")]
    x = torch.cat([*special, patches], dim=1) + torch.cat([w["pos_embed"][:, :2], table], dim=1)
    dim = x.shape[-1]
    for i in range(depth):
        b = {k.removeprefix(f"blocks.{i}."): v for k, v in w.items() if k.startswith(f"blocks.{i}.")}
        y = F.layer_norm(x, (dim,), b["norm1.weight"], b["norm1.bias"], 1e-6)
        q, k, v = F.linear(y, b["attn.qkv.weight"], b["attn.qkv.bias"]).reshape(
            batch, -1, 3, heads, dim // heads
        ).permute(2, 0, 3, 1, 4)  # fmt: skip
        attention = (q @ k.transpose(-2, -1) * (dim // heads) ** -0.5).softmax(dim=-1)
        y = (attention @ v).transpose(1, 2).reshape(batch, -1, dim)
        x = x + F.linear(y, b["attn.proj.weight"], b["attn.proj.bias"])
        y = F.layer_norm(x, (dim,), b["norm2.weight"], b["norm2.bias"], 1e-6)
        y = F.gelu(F.linear(y, b["mlp.fc1.weight"], b["mlp.fc1.bias"]))
        x = x + F.linear(y, b["mlp.fc2.weight"], b["mlp.fc2.bias"])
    return F.layer_norm(x, (dim,), w["norm.weight"], w["norm.bias"], 1e-6)


@pytest.mark.parametrize("patch", [(16, 16), (128, 2)])
@torch.inference_mode()
def test_released_checkpoints_load_and_compute_what_their_code_computes(patch):
    state = released_state(dim=128, patch=patch)
    assert ssast_deit.looks_like(state) and not ssast.looks_like(state)
    config, features = ssast_deit.config_from_state(state)
    assert config.patch_size == patch[::-1] and config.num_heads == 2 and config.depth == 2
    encoder = SSASTDeiT(config, features).eval()
    encoder.load_state_dict(ssast_deit.convert_state(state))
    fbank = torch.randn(2, 208, 128, generator=torch.Generator().manual_seed(1))
    tokens = encoder(fbank)
    torch.testing.assert_close(tokens, plain_deit(state, fbank, heads=2, depth=2), rtol=1e-4, atol=1e-5)
    n_time, n_freq = 208 // patch[1], 128 // patch[0]
    assert tokens.shape == (2, 2 + n_time * n_freq, 128)
    assert encoder.frames(tokens).shape == (2, n_time, n_freq * 128)
    assert len(encoder.hidden_states(fbank)) == 2


def test_the_number_of_bins_is_read_from_the_file():
    config, features = ssast_deit.config_from_state(released_state(canvas=(64, 512)))
    assert features.n_mels == 64 and config.grid == (32, 4)
    assert SSASTDeiT(config, features)(torch.zeros(1, 32, 64)).shape == (1, 2 + 2 * 4, 64)


def test_frame_models_have_a_row_every_20_ms():
    state = released_state(patch=(128, 2))
    encoder = SSASTDeiT(*ssast_deit.config_from_state(state))
    assert (encoder.step, encoder.frame_embedding_size, encoder.fit_frames(199)) == (2, 64, 200)


def test_incomplete_checkpoints_are_named():
    state = {k: v for k, v in released_state().items() if "patch_embed" not in k}
    with pytest.raises(CheckpointError, match=r"not a complete SSAST checkpoint.*patch_embed"):
        ssast_deit.config_from_state(state)
    published = {"mask_token": torch.zeros(1), "pos_embed": torch.zeros(1, 251, 192)}
    with pytest.raises(CheckpointError, match="not a complete SSAST checkpoint"):
        ssast.config_from_state(published)
