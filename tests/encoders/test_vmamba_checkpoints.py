"""Published VMamba and DASS files, in every spelling of their keys, become our encoders."""

import pytest
import torch
from safetensors.torch import save_file

from hear_audiomamba import get_scene_embeddings, load_model
from hear_audiomamba.encoders import vmamba
from hear_audiomamba.errors import CheckpointError, UntrainedWeightsWarning
from hear_audiomamba.models.convert import read_checkpoint
from hear_audiomamba.models.families import build_modules
from hear_audiomamba.models.weights import load_strict
from tests.encoders.test_hiermamba import GENERATIONS, make


def published_image_state(generation: str) -> dict[str, torch.Tensor]:
    """Return random tensors with the keys and shapes of a published VMamba of reduced width."""
    d0, depths, n, ratio = (16, (1, 1, 3, 1), 4, 2) if generation == "first" else (16, (1, 1, 3, 1), 1, 1)
    generator = torch.Generator().manual_seed(3)
    shapes: dict[str, tuple[int, ...]] = {}
    if generation == "first":
        shapes |= {"patch_embed.0.weight": (d0, 3, 4, 4), "patch_embed.0.bias": (d0,)}
        shapes |= {f"patch_embed.2.{p}": (d0,) for p in ("weight", "bias")}
    else:
        shapes |= {"patch_embed.0.weight": (d0 // 2, 3, 3, 3), "patch_embed.0.bias": (d0 // 2,)}
        shapes |= {f"patch_embed.2.{p}": (d0 // 2,) for p in ("weight", "bias")}
        shapes |= {"patch_embed.5.weight": (d0, d0 // 2, 3, 3), "patch_embed.5.bias": (d0,)}
        shapes |= {f"patch_embed.7.{p}": (d0,) for p in ("weight", "bias")}
    for s, depth in enumerate(depths):
        d = d0 * 2**s
        inner, rank = ratio * d, -(-d // 16)
        for i in range(depth):
            block = f"layers.{s}.blocks.{i}."
            shapes |= {f"{block}norm.{p}": (d,) for p in ("weight", "bias")}
            shapes |= {f"{block}op.out_norm.{p}": (inner,) for p in ("weight", "bias")}
            shapes[f"{block}op.in_proj.weight"] = ((2 if generation == "first" else 1) * inner, d)
            shapes[f"{block}op.conv2d.weight"] = (inner, 1, 3, 3)
            if generation == "first":
                shapes[f"{block}op.conv2d.bias"] = (inner,)
            shapes[f"{block}op.x_proj_weight"] = (4, rank + 2 * n, inner)
            shapes[f"{block}op.dt_projs_weight"] = (4, inner, rank)
            shapes[f"{block}op.dt_projs_bias"] = (4, inner)
            shapes[f"{block}op.A_logs"] = (4 * inner, n)
            shapes[f"{block}op.Ds"] = (4 * inner,)
            shapes[f"{block}op.out_proj.weight"] = (d, inner)
            if generation == "second":
                shapes |= {f"{block}norm2.{p}": (d,) for p in ("weight", "bias")}
                shapes |= {f"{block}mlp.fc1.weight": (4 * d, d), f"{block}mlp.fc1.bias": (4 * d,)}
                shapes |= {f"{block}mlp.fc2.weight": (d, 4 * d), f"{block}mlp.fc2.bias": (d,)}
        if s < 3:
            down = f"layers.{s}.downsample."
            if generation == "first":
                shapes |= {f"{down}norm.{p}": (4 * d,) for p in ("weight", "bias")}
                shapes[f"{down}reduction.weight"] = (2 * d, 4 * d)
            else:
                shapes |= {f"{down}1.weight": (2 * d, d, 3, 3), f"{down}1.bias": (2 * d,)}
                shapes |= {f"{down}3.{p}": (2 * d,) for p in ("weight", "bias")}
    shapes |= {f"classifier.norm.{p}": (8 * d0,) for p in ("weight", "bias")}
    shapes |= {"classifier.head.weight": (1000, 8 * d0), "classifier.head.bias": (1000,)}
    return {key: 0.1 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def published_dass_state() -> dict[str, torch.Tensor]:
    """Return random tensors with the keys and shapes of a released DASS of reduced width."""
    state = published_image_state("second")
    state["patch_embed.0.weight"] = state["patch_embed.0.weight"][:, :1].contiguous()
    state["classifier.head.weight"] = state["classifier.head.weight"][:527].contiguous()
    state["classifier.head.bias"] = state["classifier.head.bias"][:527].contiguous()
    return state


def transformers_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a DASS state dict as its port to transformers has it."""
    positions = {"0": "0", "2": "1", "5": "3", "7": "4"}
    renamed = {}
    for key, value in state.items():
        if key.startswith("patch_embed."):
            _, position, part = key.split(".")
            key = f"dass.patch_embeddings.projection.{positions[position]}.{part}"
        elif key.startswith("classifier.head."):
            key = key.removeprefix("classifier.")
        elif key.startswith("classifier."):
            key = "dass." + key.removeprefix("classifier.")
        else:
            key = "dass." + key.replace("downsample.1.", "downsample.down.").replace(
                "downsample.3.", "downsample.norm."
            )
        for name in ("x_proj", "dt_projs"):
            if key.endswith(f"{name}_weight"):
                key, value = key.replace(f"{name}_weight", f"{name}.weight"), value.flatten(0, 1)
        renamed[key] = value.contiguous()
    return renamed


@pytest.mark.parametrize("generation", GENERATIONS)
def test_vmamba_image_checkpoint_loads_as_a_start(generation, tmp_path):
    state = published_image_state(generation)
    path = tmp_path / "vssm_ckpt_epoch_264.pth"
    torch.save({"model": state, "epoch": 264, "max_accuracy": 82.6}, path)
    with pytest.warns(UntrainedWeightsWarning, match="trained on images"):
        model = load_model(path, device="cpu")
    assert model.config.family == "hiermamba" and model.encoder.head is None
    for option, value in GENERATIONS[generation].items():
        assert getattr(model.config.encoder, option) == value
    first = "proj" if generation == "first" else "conv1"
    summed = state["patch_embed.0.weight"].sum(dim=1, keepdim=True)
    assert torch.equal(getattr(model.encoder.backbone.patch_embed, first).weight, summed)
    stage = model.encoder.backbone.stages[2][1].op
    assert torch.equal(stage.x_proj_weight, state["layers.2.blocks.1.op.x_proj_weight"])
    assert get_scene_embeddings(torch.zeros(1, 3200), model).shape == (1, 240)


@pytest.mark.parametrize("spelling", ["released", "transformers", "channel_first", "plain"])
def test_dass_checkpoint_in_every_spelling(spelling, tmp_path):
    state = published_dass_state()
    if spelling == "transformers":
        path = tmp_path / "model.safetensors"
        save_file(transformers_names(state), path)
    elif spelling == "released":
        path = tmp_path / "DASS_small.pth"
        torch.save({f"module.v.{key}": value for key, value in state.items()}, path)
    else:
        given = state
        if spelling == "channel_first":
            given = {
                k: v[..., None, None] if k.endswith(("proj.weight", "fc1.weight", "fc2.weight")) else v
                for k, v in state.items()
            }
        path = tmp_path / "DASS.pth"
        torch.save(given, path)
    model = load_model(path, device="cpu")
    assert model.config.family == "dass" and model.sample_rate == 16000
    assert model.encoder.num_classes == 527 and model.encoder.input_norm is None
    blocks = model.encoder.backbone.stages[2]
    for name in ("dt_projs_weight", "x_proj_weight", "A_logs"):
        assert torch.equal(getattr(blocks[2].op, name), state[f"layers.2.blocks.2.op.{name}"])
    assert torch.equal(blocks[0].mlp.fc1.weight, state["layers.2.blocks.0.mlp.fc1.weight"])
    assert torch.equal(model.encoder.backbone.downsamples[1].norm.bias, state["layers.1.downsample.3.bias"])
    assert torch.equal(model.encoder.head.linear.weight, state["classifier.head.weight"])
    assert torch.equal(model.encoder.norm.weight, state["classifier.norm.weight"])


def test_older_key_names():
    state = published_image_state("first")
    old = {}
    for key, value in state.items():
        for new, former in (
            ("embed.0.", "embed.proj."),
            ("embed.2.", "embed.norm."),
            (".op.", ".self_attention."),
        ):
            key = key.replace(new, former)
        if ".blocks." in key and ".self_attention." not in key:
            key = key.replace(".norm.", ".ln_1.")
        old[key.removeprefix("classifier.") if key.startswith("classifier.") else key] = value
    assert vmamba.looks_like(old)
    ours, expected = vmamba.image_tensors(old), vmamba.image_tensors(state)
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[key], expected[key]) for key in ours)


def test_image_weights_start_an_encoder_with_a_head_and_other_depths():
    state = published_image_state("second")
    encoder = make(depths=(1, 1, 2, 1))
    head = encoder.head.conv.weight.clone()
    kept = vmamba.initialise(encoder, state)
    assert sorted({name.split(".")[0] for name in kept}) == ["head", "input_norm"]
    assert torch.equal(encoder.head.conv.weight, head)
    for index, taken in ((0, 0), (1, 2)):  # two of three blocks: the first and the last
        expected = state[f"layers.2.blocks.{taken}.op.out_proj.weight"]
        assert torch.equal(encoder.backbone.stages[2][index].op.out_proj.weight, expected)
    again = make(depths=(1, 1, 2, 1), n_mels=128)
    with pytest.warns(UntrainedWeightsWarning):
        vmamba.initialise(again, vmamba.convert_state(state))
    assert torch.equal(again.backbone.patch_embed.conv1.weight, encoder.backbone.patch_embed.conv1.weight)
    deeper = make(depths=(1, 1, 4, 1))
    kept = vmamba.initialise(deeper, state)
    assert {name.rsplit(".", 1)[0].split(".op")[0] for name in kept if "stages.2.3" in name}
    with pytest.raises(CheckpointError, match=r"backbone.*: shape"):
        vmamba.initialise(make(dim=32), state)


@pytest.mark.parametrize("kind", ["image", "dass"])
def test_incomplete_checkpoints_name_what_is_missing(kind, tmp_path):
    state = published_image_state("second") if kind == "image" else published_dass_state()
    del state["layers.0.blocks.0.op.A_logs"]
    torch.save(state, tmp_path / "broken.pth")
    with pytest.raises(CheckpointError, match="A_logs"):
        read_checkpoint(tmp_path / "broken.pth")


def test_a_tensor_too_many_is_refused(tmp_path):
    state = published_dass_state() | {"extra.weight": torch.zeros(1)}
    torch.save(state, tmp_path / "odd.pth")
    config, tensors, _ = read_checkpoint(tmp_path / "odd.pth")
    _, encoder = build_modules(config)
    with pytest.raises(CheckpointError, match=r"unexpected extra\.weight"):
        load_strict(encoder, tensors, "odd.pth")
