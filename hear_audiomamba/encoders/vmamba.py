"""Published VMamba and DASS checkpoints: recognise them, read their sizes, rename their tensors.

Three spellings are in circulation: VMamba's own (with some older names), DASS's (the same behind
`module.v.`), and DASS's port to transformers. All are brought to VMamba's names first.

Source: MzeroMiko/VMamba, Saurabhbhati/DASS and its conversion script for transformers.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..config import HierMambaConfig, KaldiFbankConfig, LogMelConfig
from ..errors import CheckpointError, UntrainedWeightsWarning
from .hiermamba import HierMamba

HTSAT_FEATURES = LogMelConfig(
    sample_rate=32000, n_fft=1024, win_length=1024, hop_length=320, n_mels=64, f_min=50.0, f_max=14000.0,
    mel_scale="slaney", mel_norm="slaney", log="db", normalize="none",
)  # fmt: skip

# VMamba-T [s1l8], of which ImageNet weights are released; and the paper's 40 M parameters, which the
# second generation has with the classical depths 2-2-9-2 (docs/models.md says what the paper leaves open).
HIERMAMBA_SIZES: dict[str, dict[str, Any]] = {"tiny": {}, "small": {"depths": (2, 2, 9, 2), "ssm_ratio": 2.0}}
# The size for any CPU. It hears two seconds, not folded: 96 mel bins keep more of the pitch than 64.
NANO_FEATURES = LogMelConfig(
    sample_rate=16000, n_fft=1024, win_length=512, hop_length=160, n_mels=96, f_min=40.0, f_max=8000.0,
    mel_scale="htk", log="db", normalize="none",
)  # fmt: skip
NANO_SECONDS = 1.92
HIERMAMBA_NANO: dict[str, Any] = {
    "dim": 48, "depths": (1, 1, 3, 1), "mlp_ratio": 3.0, "fold": 1, "canvas_frames": 192, "clip_frames": 192,
    "head": "pooled", "num_classes": 521, "pooling": "bands",
}  # fmt: skip
_DASS: dict[str, Any] = {"fold": 1, "clip_frames": 1024, "input_norm": False, "head": "pooled"}
DASS_SIZES = {"small": _DASS, "medium": _DASS | {"depths": (2, 2, 20, 2)}}

_TO_VMAMBA = [
    (r"^(module\.|v\.|dass\.|model\.)+", ""),
    (r"^patch_embeddings\.projection\.0\.", "patch_embed.0."),
    (r"^patch_embeddings\.projection\.1\.", "patch_embed.2."),
    (r"^patch_embeddings\.projection\.3\.", "patch_embed.5."),
    (r"^patch_embeddings\.projection\.4\.", "patch_embed.7."),
    (r"^patch_embed\.proj\.", "patch_embed.0."),
    (r"^patch_embed\.norm\.", "patch_embed.2."),
    (r"\.ln_1\.", ".norm."),
    (r"\.self_attention\.", ".op."),
    (r"\.x_proj\.weight$", ".x_proj_weight"),
    (r"\.dt_projs\.weight$", ".dt_projs_weight"),
    (r"^norm\.", "classifier.norm."),
    (r"^head\.", "classifier.head."),
]
_TO_OURS = [
    (r"^layers\.(\d+)\.blocks\.", r"backbone.stages.\1."),
    (r"^layers\.(\d+)\.downsample\.(1|down)\.", r"backbone.downsamples.\1.conv."),
    (r"^layers\.(\d+)\.downsample\.3\.", r"backbone.downsamples.\1.norm."),
    (r"^layers\.(\d+)\.downsample\.", r"backbone.downsamples.\1."),
    (r"^classifier\.norm\.", "norm."),
    (r"^classifier\.head\.", "head.linear."),
]
_PATCHES_V1 = {"0": "proj", "2": "norm"}
_PATCHES_V2 = {"0": "conv1", "2": "norm1", "5": "conv2", "7": "norm2"}
_PLAIN_MATRICES = re.compile(r"\.(in_proj|out_proj|fc1|fc2|reduction)\.weight$")


def looks_like(state: Mapping[str, Tensor]) -> bool:
    """Tell whether a state dict is a VMamba trained on images."""
    return _in_channels(state) == 3


def looks_like_dass(state: Mapping[str, Tensor]) -> bool:
    """Tell whether a state dict is a VMamba on spectrograms, as DASS has released."""
    return _in_channels(state) == 1


def config_from_state(state: Mapping[str, Tensor]) -> tuple[HierMambaConfig, LogMelConfig]:
    """Read the sizes of an image VMamba; it initialises an audio model of these sizes without a head.

    Raises:
        CheckpointError: the tensors do not describe a model this package can build.
    """
    return _sizes(_vmamba_names(state)).replace(head="none"), HTSAT_FEATURES


def config_from_dass(state: Mapping[str, Tensor]) -> tuple[HierMambaConfig, KaldiFbankConfig]:
    """Read the sizes of a DASS checkpoint.

    Raises:
        CheckpointError: the tensors do not describe a model this package can build.
    """
    state = _vmamba_names(state)
    head = state.get("classifier.head.weight")
    options: dict[str, Any] = {"head": "none"} if head is None else {"num_classes": head.shape[0]}
    return _sizes(state).replace(**(_DASS | options)), KaldiFbankConfig()


def convert_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an image VMamba's tensors under our names, its three colour channels summed to one.

    The classifier of image classes is left out; the input norm, which images lack, gets its start
    values. Warns that the weights have not seen audio.

    Source: the summation follows AST and DASS.
    """
    warnings.warn(
        "these VMamba weights were trained on images: a start for training, not yet audio embeddings",
        UntrainedWeightsWarning,
        stacklevel=2,
    )
    converted = image_tensors(state)
    start = HierMamba.start_norm(HTSAT_FEATURES.n_mels).state_dict()
    return converted | {f"input_norm.{key}": value for key, value in start.items()}


def image_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an image VMamba's tensors under our names, one input channel, without its classifier."""
    converted = convert_dass({k: v for k, v in _vmamba_names(state).items() if "classifier.head" not in k})
    for name in ("proj", "conv1"):
        key = f"backbone.patch_embed.{name}.weight"
        if key in converted:
            converted[key] = converted[key].sum(dim=1, keepdim=True)
    return converted


def convert_dass(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a DASS checkpoint's tensors under our names."""
    state = _vmamba_names(state)
    patches = _PATCHES_V2 if "patch_embed.5.weight" in state else _PATCHES_V1
    converted = {}
    for key, value in state.items():
        if match := re.match(r"^outnorm(\d+)\.(.*)", key):  # backbones for detection: one norm a stage
            if match[1] != "3" or "classifier.norm.weight" in state:
                continue
            key = f"norm.{match[2]}"
        elif match := re.match(r"^patch_embed\.(\d+)\.(.*)", key):
            key = f"backbone.patch_embed.{patches.get(match[1], match[1])}.{match[2]}"
        else:
            key = _renamed(key, _TO_OURS)
        converted[key] = value
    return converted


def initialise(encoder: HierMamba, state: Mapping[str, Tensor]) -> list[str]:
    """Copy an image VMamba's weights into an encoder of the same widths, for training to start from.

    Args:
        encoder: changed in place. A stage with fewer blocks than the checkpoint's takes evenly spaced
            ones, the first and the last among them; one with more keeps its own values in the rest.
        state: tensors of a published VMamba, under its names or already under ours. A head or an input
            norm among them is left out.

    Returns:
        Names of the encoder's parameters that keep their values: the head, the input norm, added blocks.

    Raises:
        CheckpointError: nothing fits, or a tensor has another shape; the message names it.
    """
    tensors = {k: v for k, v in image_tensors(state).items() if not k.startswith(("head.", "input_norm."))}
    source = _respaced(tensors, encoder.config.depths)
    kept = []
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if name not in source:
                kept.append(name)
            elif source[name].shape != parameter.shape:
                raise CheckpointError(
                    f"{name}: shape {tuple(source[name].shape)} in the checkpoint, "
                    f"{tuple(parameter.shape)} in the encoder"
                )
            else:
                parameter.copy_(source[name])
    if len(kept) == sum(1 for _ in encoder.parameters()):
        raise CheckpointError("not a VMamba checkpoint: none of its tensors fits the encoder")
    return kept


def _respaced(state: dict[str, Tensor], depths: tuple[int, ...]) -> dict[str, Tensor]:
    pattern = re.compile(r"^backbone\.stages\.(\d+)\.(\d+)\.(.*)")
    blocks: dict[tuple[int, int], dict[str, Tensor]] = {}
    result = {}
    for key, value in state.items():
        if match := pattern.match(key):
            blocks.setdefault((int(match[1]), int(match[2])), {})[match[3]] = value
        else:
            result[key] = value
    for stage, depth in enumerate(depths):
        given = sum(1 for s, _ in blocks if s == stage)
        for index in range(min(depth, given)):
            taken = index if depth >= given else round(index * (given - 1) / max(depth - 1, 1))
            for name, value in blocks[stage, taken].items():
                result[f"backbone.stages.{stage}.{index}.{name}"] = value
    return result


def _renamed(key: str, rules: list[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def _in_channels(state: Mapping[str, Tensor]) -> int | None:
    names = {_renamed(key, _TO_VMAMBA): key for key in state}
    if not {"patch_embed.0.weight", "layers.0.blocks.0.op.x_proj_weight"} <= names.keys():
        return None
    return state[names["patch_embed.0.weight"]].shape[1]


def _vmamba_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {_renamed(key, _TO_VMAMBA): value for key, value in state.items()}
    for key, value in renamed.items():
        if value.dim() == 4 and _PLAIN_MATRICES.search(key):  # channel-first code keeps 1 × 1 kernels
            renamed[key] = value.flatten(1)
        elif value.dim() == 2 and key.endswith(("x_proj_weight", "dt_projs_weight")):
            renamed[key] = value.unflatten(0, (4, -1))
    return renamed


def _sizes(state: Mapping[str, Tensor]) -> HierMambaConfig:
    try:
        first = "layers.0.blocks.0."
        dim = state[first + "norm.weight"].shape[0]
        depths = [0, 0, 0, 0]
        for key in state:
            if match := re.match(r"^layers\.(\d+)\.blocks\.(\d+)\.", key):
                depths[int(match[1])] = max(depths[int(match[1])], int(match[2]) + 1)
        wide, d_state = state[first + "op.A_logs"].shape
        inner = wide // 4
        gate = state[first + "op.in_proj.weight"].shape[0] == 2 * inner
        hidden = state[first + "mlp.fc1.weight"].shape[0] if first + "mlp.fc1.weight" in state else 0
        down = state.get("layers.0.downsample.1.weight", state.get("layers.0.downsample.down.weight"))
        if down is None and "layers.0.downsample.reduction.weight" not in state:
            raise KeyError("layers.0.downsample")
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(f"not a complete VMamba checkpoint: {error!r}") from None
    conv_bias = first + "op.conv2d.bias" in state
    return HierMambaConfig.from_dict({
        "dim": dim, "depths": depths, "d_state": d_state, "ssm_ratio": inner / dim, "gate": gate,
        "conv_bias": conv_bias, "float32_scan": gate and conv_bias and not hidden, "mlp_ratio": hidden / dim,
        "patch_embed": "v2" if "patch_embed.5.weight" in state else "v1",
        "downsample": "v1" if down is None else f"v{down.shape[-1]}",
    })  # fmt: skip
