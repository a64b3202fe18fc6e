"""What every encoder offers to the embedder."""

from __future__ import annotations

from torch import Tensor, nn


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
    step: float
    first_center: float
    frame_embedding_size: int
    causal: bool = False
    optional_keys: tuple[str, ...] = ()

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
        return int(n_frames // self.step)
