"""The hierarchical encoder: fold, rows in time, tagging head and sizes."""

import pytest
import torch

from hear_audiomamba import get_scene_embeddings, get_timestamp_embeddings
from hear_audiomamba.config import HierMambaConfig, KaldiFbankConfig
from hear_audiomamba.embedding.embedder import AudioEmbedder
from hear_audiomamba.encoders import vmamba
from hear_audiomamba.encoders.hiermamba import HierMamba, TokenSemanticHead, fold_windows, stretch
from hear_audiomamba.errors import ConfigError, InputError
from hear_audiomamba.models.families import build_modules, config_from_dict
from hear_audiomamba.models.registry import VARIANTS, model_info
from tests.golden import assert_golden, load_golden

SMALL = {"dim": 16, "depths": (1, 1, 2, 1), "num_classes": 7}
GENERATIONS = {
    "first": {
        "d_state": 4, "ssm_ratio": 2.0, "gate": True, "conv_bias": True, "float32_scan": True,
        "mlp_ratio": 0.0, "patch_embed": "v1", "downsample": "v1",
    },
    "second": {},
}  # fmt: skip


def make(n_mels=64, **options) -> HierMamba:
    torch.manual_seed(0)
    features = vmamba.HTSAT_FEATURES.replace(n_mels=n_mels)
    return HierMamba(HierMambaConfig(**(SMALL | options)), features).eval()


def log_mel(n_frames, n=2, seed=1):
    return -40 + 20 * torch.randn(n, n_frames, 64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("case", "step"), [("t1001", 1), ("t1024", 8)])
def test_fold_agrees_with_htsat(case, step):
    tensors, meta = load_golden("hier_reshape")
    image = fold_windows(stretch(tensors[f"{case}/x"].float()[:, 0], 1024), 4)
    assert_golden(image[:, :, ::step, ::step], tensors, meta, f"{case}/y")


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("fold", [1, 4])
@torch.no_grad()
def test_rows_are_in_time_order(generation, fold):
    """A click moves through the clip: the row it changes most is the row of its time."""
    encoder = make(fold=fold, **GENERATIONS[generation])
    n_frames = 128
    quiet = log_mel(n_frames, 1)
    base = encoder.embed_frames(quiet)
    assert base.shape == (1, n_frames // 4, encoder.frame_embedding_size)
    fine = slice(0, 16)  # channels of the first stage
    for frame in (2, 34, 66, 98, 126):
        loud = quiet.clone()
        loud[:, frame] += 60
        change = (encoder.embed_frames(loud) - base)[0, :, fine].abs().sum(dim=1)
        assert abs(change.argmax().item() - (frame - encoder.first_center) / 4) <= 1


@pytest.mark.parametrize("generation", GENERATIONS)
@torch.no_grad()
def test_coarse_stages_follow_the_fine_one(generation):
    encoder = make(**GENERATIONS[generation])
    click = log_mel(512, 1)
    base = encoder.embed_frames(click)
    click[:, 300] += 80
    change = (encoder.embed_frames(click) - base)[0].abs()
    at = 0
    for stage, width in enumerate(encoder.backbone.dims):
        loudest = change[:, at : at + width].sum(dim=1).argmax().item()
        assert abs(loudest - 75) <= 2 ** (stage + 1)
        at += width


@torch.no_grad()
def test_rows_of_a_window_that_fills_no_whole_coarse_step():
    encoder = make()
    assert encoder.fit_frames(200) == 208
    rows = encoder.embed_frames(log_mel(208))
    assert rows.shape == (2, 52, 16 * 15)
    assert encoder.count_rows(208) == 52
    assert torch.isfinite(rows).all()


def test_fit_frames_keeps_the_training_image_for_ten_seconds():
    encoder = make()
    assert [encoder.fit_frames(n) for n in (1, 16, 17, 896, 897, 1000, 1024, 1025)] == [
        16, 16, 32, 896, 1024, 1024, 1024, 1040,
    ]  # fmt: skip
    assert make(fold=1).fit_frames(200) == 200
    assert make(downsample="v2").fit_frames(200) == 256  # 2 × 2 convolutions halve even maps only


@torch.no_grad()
def test_tokens_hidden_states_and_pooling():
    encoder = make()
    features = log_mel(128)
    tokens = encoder(features)
    assert tokens.shape == (2, 4 * 2, 128)  # 4 folds · 1 time step · 2 frequency tokens
    assert encoder.frames(tokens).shape == (2, 4, 128)
    states = encoder.hidden_states(features)
    assert [tuple(s.shape) for s in states] == [
        (2, 512, 16), (2, 128, 32), (2, 32, 64), (2, 32, 64), (2, 8, 128),
    ]  # fmt: skip
    last = make(pooling="last")
    rows = last.embed_frames(features)
    assert rows.shape == (2, 32, last.frame_embedding_size) == (2, 32, 128)
    assert torch.equal(rows[:, 0], rows[:, 3])
    multi = encoder.embed_frames(features)
    assert torch.allclose(multi[:, :, -128:], rows, atol=1e-6)


@torch.no_grad()
def test_token_semantic_head_is_a_convolution_over_a_folded_map():
    """Against the head written out as HTS-AT has it: regroup the map, convolve, average."""
    encoder = make()
    features = log_mel(1001)
    x = encoder.norm(encoder.backbone(fold_windows(stretch(
        encoder.input_norm(features.transpose(1, 2)).transpose(1, 2), 1024), 4))[-1])  # fmt: skip
    x = x.permute(0, 3, 1, 2)
    batch, channels, height, width = x.shape
    bins = height // 4
    x = x.reshape(batch, channels, height // bins, bins, width).permute(0, 1, 3, 2, 4)
    scores = encoder.head.conv(x.reshape(batch, channels, bins, -1)).flatten(2)
    clip, frames = encoder.tag(features)
    assert clip.shape == (2, 7) and frames.shape == (2, 32, 7)
    assert torch.allclose(frames, scores.transpose(1, 2), atol=1e-5)
    assert torch.allclose(clip, scores.mean(dim=2), atol=1e-5)


@torch.no_grad()
def test_pooled_head_is_the_classifier_on_the_mean():
    features = 0.5 * torch.randn(2, 1024, 128)
    encoder = HierMamba(HierMambaConfig(**(SMALL | vmamba.DASS_SIZES["small"])), KaldiFbankConfig()).eval()
    clip, frames = encoder.tag(features)
    mean = encoder.norm(encoder.backbone(features.transpose(1, 2)[:, None])[-1]).mean(dim=(1, 2))
    assert torch.allclose(clip, encoder.head.linear(mean), atol=1e-5)
    assert frames.shape == (2, 32, 7)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_parameter_learns_to_tag(generation):
    encoder = make(drop_path=0.1, canvas_frames=128, **GENERATIONS[generation]).train()
    features, targets = log_mel(128, 4), (torch.arange(4 * 7).view(4, 7) % 3 == 0).float()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=3e-3, weight_decay=0.0)
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(encoder.tag(features)[0], targets)
        optimizer.zero_grad()
        loss.backward()
        if not losses:
            assert [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_sizes():
    small = model_info("hiermamba_small")
    assert abs(small["parameters"] / 40e6 - 1) < 0.05
    assert model_info("hiermamba_tiny")["parameters"] < small["parameters"]
    # 30.25 M with 1000 classes and three input channels, less what 527 classes and one channel save.
    assert model_info("dass_small")["parameters"] == 30_249_064 - 473 * 769 - 2 * 48 * 9
    assert small["timestamp_step_ms"] == 40.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 0}, "canvas_frames"),
        ({"canvas_frames": 1000}, "multiple of fold"),
    ],
)
def test_settings_that_do_not_fit(options, message):
    with pytest.raises(ConfigError, match=message):
        make(**options)


def test_bins_that_do_not_halve():
    with pytest.raises(ConfigError, match="n_mels: 80 is not a multiple of 32"):
        make(n_mels=80)


def test_wrong_features_and_missing_head():
    encoder = make()
    with pytest.raises(InputError, match=r"expected \(windows, frames, 64\)"):
        encoder(torch.zeros(1, 64, 128))
    with pytest.raises(InputError, match="expected a multiple of 16"):
        encoder(torch.zeros(1, 200, 64))
    with pytest.raises(InputError, match="at most 1024"):
        encoder.tag(torch.zeros(1, 1040, 64))
    with pytest.raises(ConfigError, match="no tagging head"):
        make(head="none").tag(torch.zeros(1, 128, 64))


def small_model(**kwargs) -> AudioEmbedder:
    config = config_from_dict(VARIANTS["hiermamba_tiny"].config.to_dict())
    config = config.replace(encoder=config.encoder.replace(**SMALL))
    torch.manual_seed(0)
    return AudioEmbedder(config, *build_modules(config), **kwargs)


@pytest.mark.parametrize("seconds", [1 / 32000, 0.01, 0.5, 2.0, 2.5, 10.0])
def test_embeddings_of_any_length(seconds):
    model = small_model()
    audio = 0.1 * torch.randn(2, max(1, int(32000 * seconds)), generator=torch.Generator().manual_seed(0))
    scene = get_scene_embeddings(audio, model)
    rows, times = get_timestamp_embeddings(audio, model)
    assert scene.shape == (2, 240) and rows.shape[2] == 240
    assert torch.isfinite(scene).all() and torch.isfinite(rows).all()
    assert (times >= 0).all() and (times <= 1000 * seconds).all()
    if rows.shape[1] > 1:
        assert torch.allclose(times.diff(dim=1), torch.tensor(40.0), atol=1e-2)


def test_batch_mates_and_native_window_do_not_matter():
    audio = 0.1 * torch.randn(3, 48000, generator=torch.Generator().manual_seed(0))
    audio[1] = 0
    model = small_model()
    together = get_scene_embeddings(audio, model)
    alone = torch.cat([get_scene_embeddings(clip[None], model) for clip in audio])
    assert (together - alone).abs().max() < 1e-5
    native = small_model(window_seconds=10)
    assert native.window_frames == 1024
    assert get_scene_embeddings(audio, native).shape == (3, 240)


def test_hidden_states_of_several_windows():
    model = small_model()
    states = model.hidden_states(torch.zeros(2, 32000 * 3))
    assert len(states) == model.encoder.depth == 5
    assert states[0].shape == (2, 2 * 64 * 13, 16) and states[-1].shape == (2, 2 * 8 * 2, 128)


def test_bfloat16_stays_near_float32():
    audio = 0.1 * torch.randn(2, 32000, generator=torch.Generator().manual_seed(0))
    exact = get_scene_embeddings(audio, small_model())
    rough = get_scene_embeddings(audio, small_model(precision="bfloat16"))
    assert rough.dtype == torch.float32
    assert (rough - exact).pow(2).mean().sqrt() / exact.pow(2).mean().sqrt() < 0.05


def test_head_of_any_number_of_frequency_tokens():
    head = TokenSemanticHead(8, 3, 5)
    assert head(torch.randn(2, 6, 3, 8)).shape == (2, 6, 5)
