"""AuM: Mamba blocks around a class token that stands in the middle of the filterbank patches.

Source: Erol et al., "Audio Mamba: Bidirectional State Space Model for Audio Representation Learning",
arXiv 2406.03344; reference code kaistmm/Audio-Mamba-AuM.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from ..config import AuMConfig, KaldiFbankConfig
from ..errors import CheckpointError
from ..modules.mamba import Bidirectional, check_trained_depth, make_norm, mamba_blocks
from .fbank_patches import FbankPatchEncoder, count_blocks, strip_wrapper

BIDIRECTIONAL: dict[str, Bidirectional] = {"fofo": None, "fobi": "v1", "bibi": "v2"}


class AuM(FbankPatchEncoder):
    """The AuM encoder with its classifier.

    The scans go over the patches with the class token among them, behind the first half; outside, in
    `embed`, `encode` and `hidden_states`, the class token stands first.

    Args:
        config: sizes and direction; see `AuMConfig`.
        features: configuration of the filterbank.

    Deviates:
        Only the positions are resampled for other window lengths and strides; the reference code can
        also resample the patch kernel.
    """

    shrink = "resize"
    optional_keys = ("classifier.",)

    def __init__(self, config: AuMConfig, features: KaldiFbankConfig) -> None:
        super().__init__(config, features)
        self.depth = config.depth
        self.n_run = check_trained_depth(config.trained_depth, config.depth)
        self.blocks = mamba_blocks(
            config.depth, config.embed_dim, config.norm, config.norm_eps,
            bidirectional=BIDIRECTIONAL[config.direction], d_state=config.d_state, d_conv=config.d_conv,
            expand=config.expand,
        )  # fmt: skip
        self.norm = make_norm(config.norm, config.embed_dim, config.norm_eps)
        if config.num_classes:
            self.classifier = nn.Linear(config.embed_dim, config.num_classes)

    def encode(self, tokens: Tensor) -> Tensor:
        stream = _class_in_the_middle(tokens).float()
        for block in self.blocks[: self.n_run]:
            stream = block(stream)
        normed: Tensor = self.norm(_class_first(stream))
        return normed

    def streams(self, tokens: Tensor) -> Iterator[Tensor]:
        stream = _class_in_the_middle(tokens).float()
        for index, block in enumerate(self.blocks):
            stream = block(stream) if index < self.n_run else stream
            yield _class_first(stream)

    def class_logits(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.classifier(tokens[:, 0].to(self.classifier.weight.dtype))
        return logits.float()


def _class_in_the_middle(tokens: Tensor) -> Tensor:
    """Move the class token behind the first half of the patches."""
    middle = (tokens.shape[1] - 1) // 2
    return torch.cat([tokens[:, 1 : middle + 1], tokens[:, :1], tokens[:, middle + 1 :]], dim=1)


def _class_first(tokens: Tensor) -> Tensor:
    """Undo `_class_in_the_middle`."""
    middle = (tokens.shape[1] - 1) // 2
    return torch.cat([tokens[:, middle : middle + 1], tokens[:, :middle], tokens[:, middle + 1 :]], dim=1)


def looks_like(state: Mapping[str, Tensor]) -> bool:
    """Tell whether a state dict has the keys of the published AuM code."""
    return {"layers.0.mixer.A_log", "pos_embed.pos_embed"} <= strip_wrapper(state).keys()


def config_from_state(state: Mapping[str, Tensor]) -> tuple[AuMConfig, KaldiFbankConfig]:
    """Read the sizes and the direction of a published AuM from its tensors.

    The filterbank's mean and std are those of AudioSet; models of other data sets were trained with
    their own.

    Raises:
        CheckpointError: the tensors do not describe a model this package can build.
    """
    state = strip_wrapper(state)
    features = KaldiFbankConfig()
    try:
        dim = state["cls_token"].shape[-1]
        inner, d_state = state["layers.0.mixer.A_log"].shape
        bins, frames = state["patch_embed.proj.weight"].shape[2:]
        n_time, rest = divmod(state["pos_embed.pos_embed"].shape[1] - 1, features.n_mels // bins)
        if rest:
            raise CheckpointError(f"AuM positions do not fit {features.n_mels} mel bins in patches of {bins}")
        config = AuMConfig(
            embed_dim=dim, depth=count_blocks(state, "layers."), patch_size=(frames, bins),
            grid=(n_time, features.n_mels // bins), time_stride=frames, freq_stride=bins,
            direction=_direction(state), d_state=d_state, expand=inner // dim,
            d_conv=state["layers.0.mixer.conv1d.weight"].shape[-1],
            norm="layer" if "norm_f.bias" in state else "rms",
            num_classes=len(state["head.weight"]) if "head.weight" in state else 0,
        )  # fmt: skip
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise CheckpointError(f"not a complete AuM checkpoint: {error!r}") from None
    return config, features


def convert_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a published checkpoint under our names."""
    names = {"layers.": "blocks.", "norm_f.": "norm.", "head.": "classifier.", "pos_embed.": ""}
    converted = {}
    for key, value in strip_wrapper(state).items():
        for published, ours in names.items():
            if key.startswith(published):
                key = ours + key.removeprefix(published)
                break
        converted[key] = value
    return converted


def _direction(state: Mapping[str, Tensor]) -> Literal["fofo", "fobi", "bibi"]:
    if "layers.0.mixer.D_b" in state:
        return "bibi"
    return "fobi" if "layers.0.mixer.A_b_log" in state else "fofo"
