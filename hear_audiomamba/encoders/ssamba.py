"""SSAMBA: pairs of bidirectional Mamba layers over the patches of a Kaldi filterbank.

Source: Shams et al., arXiv 2405.11831; reference code SiavashShams/ssamba on hustvl/Vim of spring 2024.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from ..config import KaldiFbankConfig, SSAMBAConfig
from ..errors import CheckpointError, ConfigError
from ..modules.mamba import check_trained_depth, make_norm, mamba_blocks
from .fbank_patches import (
    MaskedPatchEncoder,
    convert_wrapped,
    count_blocks,
    filterbank_of,
    patch_layout,
    strip_wrapper,
)


class SSAMBA(MaskedPatchEncoder):
    """The SSAMBA encoder with its two pretraining heads.

    The layers work in pairs. Both layers of a pair see the same stream s and give s + forward(s) and
    s + backward(s), where the second runs on the flipped tokens (here with the directions of its scans
    and convolutions swapped, and nothing flipped), though each is bidirectional in itself. Their sum is
    the stream of the next pair. It so doubles with each pair, to 2^12 behind 24 layers: it is kept in
    float32, and only its norm, which does not see the scale, is ever rounded to half precision.

    Args:
        config: sizes; see `SSAMBAConfig`.
        features: configuration of the filterbank.

    Deviates:
        No stochastic depth in training. Positions for fewer mel bins than pretrained on are cut from
        the middle, where the reference code mixes up its axes.
    """

    def __init__(self, config: SSAMBAConfig, features: KaldiFbankConfig) -> None:
        for name, layers in (("depth", config.depth), ("trained_depth", config.trained_depth)):
            if layers is not None and (layers < 2 or layers % 2):
                raise ConfigError(f"{name}: {layers} layers do not make whole pairs; give an even number")
        super().__init__(config, features)
        self.n_run = check_trained_depth(config.trained_depth, config.depth)
        self.depth = config.depth
        self.blocks = mamba_blocks(
            config.depth, config.embed_dim, config.norm, config.norm_eps,
            bidirectional="v2", d_state=config.d_state, d_conv=config.d_conv,
            expand=config.expand,
        )  # fmt: skip
        self.norm = make_norm(config.norm, config.embed_dim, config.norm_eps)

    def encode(self, tokens: Tensor) -> Tensor:
        stream = tokens.float()
        for index in range(0, self.n_run, 2):
            forward, backward = self._pair(index, stream)
            stream = forward + backward
        stream = stream * 2.0 ** ((self.depth - self.n_run) // 2)  # a pair that adds nothing doubles it
        # Twice, as the reference code does in pretraining and in fine-tuning.
        normed: Tensor = self.norm(self.norm(stream))
        return normed

    def streams(self, tokens: Tensor) -> Iterator[Tensor]:
        """Yield the residual stream `(N, P, D)` float32 after each layer; a pair's two are to be added."""
        stream = tokens.float()
        for index in range(0, self.depth, 2):
            forward, backward = self._pair(index, stream)
            yield forward
            yield backward
            stream = forward + backward

    def _pair(self, index: int, stream: Tensor) -> tuple[Tensor, Tensor]:
        """Return what two layers make of the stream, each by itself; layers not trained add nothing."""
        if index >= self.n_run:
            return stream, stream
        return self.blocks[index](stream), self.blocks[index + 1](stream, reverse=True)


def looks_like(state: Mapping[str, Tensor]) -> bool:
    """Tell whether a state dict has the keys of the published SSAMBA code, pretrained or fine-tuned."""
    return "v.layers.0.mixer.A_b_log" in strip_wrapper(state)


def config_from_state(state: Mapping[str, Tensor]) -> tuple[SSAMBAConfig, KaldiFbankConfig]:
    """Read the sizes of a published SSAMBA from its tensors.

    Not stored, and taken as in all published scripts: layers in pairs, halved directions, norm eps.

    Raises:
        CheckpointError: the tensors do not describe a model this package can build.
    """
    state = strip_wrapper(state)
    features = filterbank_of(state)
    try:
        dim = state["v.cls_token"].shape[-1]
        inner, d_state = state["v.layers.0.mixer.A_log"].shape
        config = SSAMBAConfig(
            embed_dim=dim, depth=count_blocks(state, "v.layers."), d_state=d_state, expand=inner // dim,
            d_conv=state["v.layers.0.mixer.conv1d_b.weight"].shape[-1],
            norm="layer" if "v.norm_f.bias" in state else "rms",
            num_classes=len(state["mlp_head.1.weight"]) if "mlp_head.1.weight" in state else 0,
            **patch_layout(state, SSAMBA.n_special, features.n_mels),
        )  # fmt: skip
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"not a complete SSAMBA checkpoint: {error!r}") from None
    return config, features


def convert_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a published checkpoint under our names, without those no forward pass uses."""
    return convert_wrapped(state, {"layers.": "blocks.", "norm_f.": "norm."})
