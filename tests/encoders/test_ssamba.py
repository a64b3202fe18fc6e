"""SSAMBA against the reference tensors of its authors' code, and what its design promises."""

from __future__ import annotations

import pytest
import torch

from hear_audiomamba.config import KaldiFbankConfig, SSAMBAConfig
from hear_audiomamba.encoders import ssamba
from hear_audiomamba.encoders.ssamba import SSAMBA
from hear_audiomamba.errors import CheckpointError, ConfigError, InputError

from ..golden import assert_golden, golden_weights, load_golden

PUBLISHED_PARAMETERS = {192: 7_288_298, 384: 26_224_106, 768: 99_042_794}
STRIDES = {"full_s16": 16, "short_s16": 16, "short_s10": 10}


@pytest.fixture(scope="module")
def reference() -> tuple[dict, dict]:
    return load_golden("ssamba_tiny_io")


@pytest.fixture(scope="module")
def published() -> dict[str, torch.Tensor]:
    return golden_weights("ssamba_tiny_weights")


@pytest.fixture(scope="module")
def encoder(published) -> SSAMBA:
    return load(published)


def load(state: dict[str, torch.Tensor], **changes) -> SSAMBA:
    config, features = ssamba.config_from_state(state)
    encoder = SSAMBA(config.replace(**changes), features).eval()
    encoder.load_state_dict(ssamba.convert_state(state))
    return encoder


def tiny(**changes) -> SSAMBA:
    torch.manual_seed(0)
    values = {"embed_dim": 32, "depth": 4, "d_state": 4, **changes}
    return SSAMBA(SSAMBAConfig(**values), KaldiFbankConfig()).eval()


@pytest.mark.parametrize("case", STRIDES)
@torch.inference_mode()
def test_tokens_agree_with_the_reference(reference, published, case):
    tensors, meta = reference
    encoder = load(published, time_stride=STRIDES[case], freq_stride=STRIDES[case])
    tokens = encoder(tensors["fbank_full" if case.startswith("full") else "fbank_short"])
    assert_golden(tokens, tensors, meta, f"{case}/tokens")
    assert_golden(tokens[:, 1:].mean(dim=1), tensors, meta, f"{case}/avgtok")
    assert_golden(tokens[:, 0], tensors, meta, f"{case}/cls")


@torch.inference_mode()
def test_stages_agree_with_the_reference(reference, encoder):
    tensors, meta = reference
    features = tensors["fbank_short"]
    assert_golden(encoder.patch_embed(features), tensors, meta, "short_s16/patch_embed")
    stream = encoder.embed(features).float()
    ahead, back = encoder.blocks[:2]
    assert_golden(ahead.mixer(ahead.norm(stream)), tensors, meta, "short_s16/layer0_hidden")
    hidden = back.mixer(back.norm(stream), reverse=True)
    assert_golden(hidden.flip(1), tensors, meta, "short_s16/layer1_hidden")
    states = encoder.hidden_states(features)
    assert len(states) == encoder.depth == meta["config"]["depth"]
    assert_golden(encoder.norm(states[-2] + states[-1]), tensors, meta, "short_s16/norm_once")


def test_positions_are_cut_and_stretched_as_in_the_reference(reference, published, encoder):
    tensors, meta = reference
    assert_golden(encoder.positions(12), tensors, meta, "short_s16/pos_embed")
    assert_golden(encoder.positions(75)[:, :151], tensors, meta, "long1200_s16/pos_embed")
    overlapping = load(published, time_stride=10, freq_stride=10)
    assert_golden(overlapping.positions(19), tensors, meta, "short_s10/pos_embed")


@torch.inference_mode()
def test_pretraining_losses_agree_with_the_reference(reference, encoder):
    tensors, meta = reference
    features = tensors["fbank_full"]
    losses = {}
    for name, head in (("mpc", encoder.contrast), ("mpg", encoder.reconstruct)):
        index = tensors[f"{name}_mask_index"].long()
        mask = torch.zeros(len(index), 512).scatter_(1, index, 1).bool()
        pred, target = (
            patches.gather(1, index[..., None].expand(-1, -1, 256)) for patches in head(features, mask)
        )
        assert_golden(pred[:, :64], tensors, meta, f"{name}_pred")
        losses[name] = pred, target
    pred, target = losses["mpc"]
    scores = (target @ pred.transpose(1, 2)).log_softmax(dim=-1)
    nce = -scores.diagonal(dim1=1, dim2=2).mean()
    mse = torch.nn.functional.mse_loss(*losses["mpg"])
    assert_golden(nce[None], tensors, meta, "mpc_nce")
    assert_golden(mse[None], tensors, meta, "mpg_mse")
    assert_golden((nce + 10 * mse)[None], tensors, meta, "joint_loss")


def test_rows_are_in_time_order_with_the_bands_side_by_side(encoder):
    n_time, dim = 5, encoder.embed_dim
    band = torch.arange(8).repeat_interleave(n_time)
    time = torch.arange(n_time).repeat(8)
    tokens = torch.zeros(1, 1 + 40, dim)
    tokens[0, 1:, 0], tokens[0, 1:, 1] = time, band
    rows = encoder.frames(tokens).reshape(n_time, 8, dim)
    assert torch.equal(rows[..., 0], torch.arange(n_time)[:, None].expand(-1, 8).float())
    assert torch.equal(rows[..., 1], torch.arange(8).expand(n_time, -1).float())
    assert tiny(pooling="mean").frames(tokens[..., :32]).shape == (1, n_time, 32)


@pytest.mark.parametrize("time_stride", [10, 16])
@pytest.mark.parametrize("n_frames", [1, 15, 16, 17, 200, 1024])
def test_windows_hold_whole_patches(time_stride, n_frames):
    encoder = tiny(time_stride=time_stride)
    fitted = encoder.fit_frames(n_frames)
    rows = encoder.count_rows(fitted)
    assert rows * time_stride >= n_frames > (rows - 1) * time_stride
    assert fitted == (rows - 1) * time_stride + 16
    if n_frames <= 200:
        assert encoder(torch.zeros(1, fitted, 128)).shape == (1, 1 + 8 * rows, 32)


@pytest.mark.parametrize("dtype, limit", [(torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
@torch.inference_mode()
def test_half_precision_survives_the_doubling_stream(reference, encoder, published, dtype, limit):
    tensors, _ = reference
    half = load(published)
    for module in half.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d)):
            module.to(dtype)
    features = tensors["fbank_short"][:1]
    tokens = half(features)
    assert tokens.dtype == torch.float32
    error = (tokens - encoder(features)).pow(2).mean().sqrt() / encoder(features).pow(2).mean().sqrt()
    assert error < limit
    states = half.hidden_states(features)
    assert states[-1].abs().max() > 2 ** (encoder.depth // 2) / 4, "the stream doubles with each pair"


@torch.inference_mode()
def test_tokens_equal_the_published_order_of_operations_written_out():
    encoder = tiny()
    for parameter in encoder.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    fbank = torch.randn(2, 48, 128, generator=torch.Generator().manual_seed(0))
    image = fbank.transpose(1, 2)[:, None]
    patches = torch.nn.functional.conv2d(
        image, encoder.patch_embed.proj.weight, encoder.patch_embed.proj.bias, stride=16
    )
    table = encoder.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (8, 64))[..., 31:34]
    tokens = (patches + table).flatten(2).transpose(1, 2)
    first = (encoder.cls_token + encoder.pos_embed[:, :1]).expand(2, -1, -1)
    hidden, residual = torch.cat([first, tokens], dim=1), torch.zeros(1)
    for forward, backward in zip(encoder.blocks[::2], encoder.blocks[1::2]):
        stream = residual + hidden
        ahead = forward.mixer(forward.norm(stream))
        behind = backward.mixer(backward.norm(stream.flip(1))).flip(1)
        hidden, residual = ahead + behind, stream + stream
    expected = encoder.norm(encoder.norm(residual + hidden))
    torch.testing.assert_close(encoder(fbank), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dim", PUBLISHED_PARAMETERS)
def test_parameters_are_those_published(dim):
    with torch.device("meta"):
        encoder = SSAMBA(SSAMBAConfig(embed_dim=dim), KaldiFbankConfig())
    unused = 1000 * dim + 1000 + 2  # the ImageNet head and the two canvas sizes that files carry along
    assert sum(p.numel() for p in encoder.parameters()) + unused == PUBLISHED_PARAMETERS[dim]


def test_fine_tuned_checkpoints_are_read(published):
    pretraining = ("module.cpred", "module.gpred", "module.p_input", "module.mask")
    state = {k: v for k, v in published.items() if not k.startswith(pretraining)}
    state["module.mlp_head.0.weight"] = state["module.mlp_head.0.bias"] = torch.ones(192)
    state["module.mlp_head.1.weight"], state["module.mlp_head.1.bias"] = torch.ones(50, 192), torch.ones(50)
    assert ssamba.looks_like(state)
    config, features = ssamba.config_from_state(state)
    assert (config.grid, config.time_stride, config.num_classes) == ((64, 8), 16, 50)
    state["module.v.pos_embed"] = torch.zeros(1, 1 + 12 * 50, 192)
    config, features = ssamba.config_from_state(state)
    assert (config.grid, config.time_stride, config.freq_stride) == ((50, 12), 10, 10)
    encoder = SSAMBA(config, features).eval()
    missing, unexpected = encoder.load_state_dict(ssamba.convert_state(state), strict=False)
    assert not unexpected and all(key.startswith(encoder.optional_keys) for key in missing)
    assert encoder.classify(torch.zeros(1, 16, 128)).shape == (1, 50)


def test_keys_with_and_without_the_wrapper_prefix_are_equal(published):
    bare = {key.removeprefix("module."): value for key, value in published.items()}
    assert ssamba.looks_like(bare) and ssamba.config_from_state(bare) == ssamba.config_from_state(published)
    assert ssamba.convert_state(bare).keys() == ssamba.convert_state(published).keys()


def test_incomplete_checkpoints_are_named(published):
    state = {k: v for k, v in published.items() if "cls_token" not in k}
    with pytest.raises(CheckpointError, match=r"not a complete SSAMBA checkpoint.*v\.cls_token"):
        ssamba.config_from_state(state)
    odd = dict(published)
    odd["module.v.pos_embed"] = torch.zeros(1, 500, 192)
    with pytest.raises(CheckpointError, match="499 positions do not fit"):
        ssamba.config_from_state(odd)


@pytest.mark.parametrize(
    "changes", [{"depth": 3}, {"time_stride": 17}, {"freq_stride": 0}, {"patch_size": (16, 129)}]
)
def test_impossible_sizes_are_refused(changes):
    with pytest.raises(ConfigError):
        tiny(**changes)


def test_wrong_features_are_refused():
    with pytest.raises(InputError, match="128"):
        tiny()(torch.zeros(1, 32, 80))
    with pytest.raises(InputError, match="15 frames"):
        tiny()(torch.zeros(1, 15, 128))
    with pytest.raises(ConfigError, match="num_classes"):
        tiny().classify(torch.zeros(1, 16, 128))


def test_gradients_reach_every_parameter_of_joint_pretraining():
    encoder = tiny().train()
    features = torch.randn(1, 32, 128, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(16)[None] % 2 == 0
    for head in (encoder.contrast, encoder.reconstruct):
        pred, target = head(features, mask)
        torch.nn.functional.mse_loss(pred, target).backward()
    without = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert not without
