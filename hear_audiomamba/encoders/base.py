"""What every encoder offers to the embedder, and what some can do besides: tag, stream, be pretrained.

A capability is a base class; `isinstance(encoder, Streamable)` asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ..modules.compute import cast_products, keep_types, type_asked_for
from ..modules.mamba_mixer import MixerState
from ..modules.patch_embed import PatchEmbed

if TYPE_CHECKING:
    from typing_extensions import Self


class Encoder(nn.Module):
    """Base class of the encoders: windows of a spectrogram to tokens, and tokens to frame vectors.

    Attributes:
        embed_dim: D, width of a token.
        depth: number of blocks.
        step: input frames between two rows of `frames`.
        first_center: centre of the first row, in frames from the first frame's centre.
        frame_embedding_size: K, width of a row.
        causal: a token depends on none after it, so padding behind a clip need not be computed.
        optional_keys: prefixes of parameters that weights may lack: heads used in pretraining only.
    """

    embed_dim: int
    depth: int
    step: int
    first_center: float
    frame_embedding_size: int
    causal: bool = False
    optional_keys: tuple[str, ...] = ()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Let `.to`, `.half()`, `.bfloat16()` … move all tensors, and cast the matrix products only."""
        dtype = type_asked_for(fn)
        super()._apply(keep_types(fn), recurse)  # type: ignore[no-untyped-call]  # torch's is not typed
        if dtype is not None:
            cast_products(self, dtype)
        return self

    def forward(self, features: Tensor) -> Tensor:
        """Return the tokens `(N, P, D)` of `features` `(N, T, F)`, a class token first where there is one."""
        raise NotImplementedError

    def hidden_states(self, features: Tensor) -> list[Tensor]:
        """Return the tokens after each block, a list of `(N, P, D)`; the last is not yet normed."""
        raise NotImplementedError

    def frames(self, tokens: Tensor) -> Tensor:
        """Return one row for each time step, in time order: `(N, P, D)` to `(N, t, K)`."""
        raise NotImplementedError

    def embed_frames(self, features: Tensor) -> Tensor:
        """Return the rows `(N, t, K)` of `features` `(N, T, F)`."""
        return self.frames(self(features))

    def fit_frames(self, n_frames: int) -> int:
        """Return the shortest window, in frames, that is at least `n_frames` long and fits the patches."""
        raise NotImplementedError

    def count_rows(self, n_frames: int) -> int:
        """Return how many rows `frames` gives for a window of `n_frames`."""
        return n_frames // self.step


class Tagger(Encoder):
    """An encoder that may have a head which names what is heard.

    Attributes:
        num_classes: classes of the head; 0 where there is none.
        tag_frames: longest spectrogram `tag` takes, in frames.
        tag_padding: frames to which a shorter one is padded, as in training.
    """

    num_classes: int
    tag_frames: int
    tag_padding: int

    def tag(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits.

        Args:
            features: `(N, T, F)`, T at most `tag_frames`.

        Returns:
            Clip logits `(N, classes)`, and frame logits `(N, t, classes)` at t regular steps over T,
            t ≥ 1; float32.

        Raises:
            ConfigError: the encoder has no head.
        """
        raise NotImplementedError


class Streamable(Encoder):
    """A causal encoder that can take a sequence piece by piece.

    Attributes:
        n_special: class tokens before the first piece's tokens.
    """

    causal = True
    n_special: int

    def embed_next(self, features: Tensor, first_step: int) -> Tensor:
        """Return the tokens of a later piece of a sequence, to continue with in `step_tokens`.

        Args:
            features: the piece `(N, T, F)`, T a multiple of the patch length.
            first_step: rows before it; at 0 the special tokens come first.

        Returns:
            `(N, P, D)`: what enters the first block in this place when the whole sequence is encoded.
        """
        raise NotImplementedError

    def step_tokens(self, tokens: Tensor, states: list[MixerState] | None) -> tuple[Tensor, list[MixerState]]:
        """Encode the next tokens of a sequence, continuing from `states` (None at its start).

        Args:
            tokens: embedded tokens `(N, L, D)`, in order, L ≥ 1.
            states: one for each block, as the call before returned them.

        Returns:
            The normed tokens `(N, L, D)`, equal to the same rows of `forward` on the whole sequence, and
            the states to continue with.
        """
        raise NotImplementedError


class PublishedRuntime(Encoder):
    """An encoder whose authors published a runtime that orders rows in a way of its own."""

    def frames_published(self, tokens: Tensor) -> Tensor:
        """Return the rows `(N, t, K)` of tokens `(N, P, D)` as the authors' runtime groups them."""
        raise NotImplementedError


class MaskedModel(Encoder):
    """An encoder of patches that is pretrained by hiding some of them.

    Attributes:
        patch_embed: cuts a spectrogram into patches and makes tokens of them.
        n_freq: patches along frequency.
        n_special: tokens in front of the patches.
    """

    patch_embed: PatchEmbed
    n_freq: int
    n_special: int

    def reconstruct(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return predicted and true patches, both `(N, P, values)`.

        Args:
            features: `(N, T, F)`.
            mask: `(N, P)`, true where a patch is hidden, in the order of the tokens.
        """
        raise NotImplementedError


class PatchPredictor(MaskedModel):
    """A masked model whose one head predicts all patches from the tokens: SSAM's pretraining."""

    def embed(self, features: Tensor, mask: Tensor | None = None, keep_positions: bool = False) -> Tensor:
        """Return the tokens `(N, P, D)` that enter the first block.

        Args:
            features: `(N, T, F)`.
            mask: `(N, P)`, true where a patch is hidden behind the mask token, or None.
            keep_positions: add positions to masked tokens too.
        """
        raise NotImplementedError

    def encode(self, tokens: Tensor) -> Tensor:
        """Return embedded tokens `(N, P, D)` after all blocks and the final norm, float32."""
        raise NotImplementedError

    def predict_patches(self, tokens: Tensor) -> Tensor:
        """Return the patches `(N, P, values)` that encoded tokens, special ones among them, stand for."""
        raise NotImplementedError

    def reconstruct(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.encode(self.embed(features, mask))
        return self.predict_patches(tokens), self.patch_embed.patches(features)


class PatchDiscriminator(MaskedModel):
    """A masked model that also tells a clip's own patches apart: SSAST's and SSAMBA's pretraining."""

    def contrast(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return guesses of the hidden patches and the true ones, both `(N, P, values)`."""
        raise NotImplementedError


def n_classes(encoder: Encoder) -> int:
    """Return how many classes an encoder's tagging head has; 0 where it has none."""
    return encoder.num_classes if isinstance(encoder, Tagger) else 0
