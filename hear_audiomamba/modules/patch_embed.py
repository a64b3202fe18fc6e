"""Spectrogram patches to tokens."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from ..ops import linear


class PatchEmbed(nn.Module):
    """Cut a spectrogram into patches and project each to a token.

    Args:
        patch_size: (frames, mel bins) of a patch.
        embed_dim: D.
        stride: step between patches (frames, mel bins); by default they do not overlap.
        order: "time" puts the patches of one time step side by side (index t · f_dim + f); "frequency"
            those of one band (index f · t_dim + t).
        kernel: axis order of the stored weight `(D, 1, ·, ·)`: "time_freq" or "freq_time".

    Patches that do not overlap are one matrix product over a view of the spectrogram.
    """

    def __init__(
        self,
        patch_size: tuple[int, int],
        embed_dim: int,
        stride: tuple[int, int] | None = None,
        order: Literal["time", "frequency"] = "time",
        kernel: Literal["time_freq", "freq_time"] = "time_freq",
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.stride = stride or patch_size
        self.order, self.kernel = order, kernel
        size = patch_size if kernel == "time_freq" else patch_size[::-1]
        self.proj = nn.Conv2d(1, embed_dim, size, self.stride if kernel == "time_freq" else self.stride[::-1])

    def grid_of(self, n_frames: int, n_mels: int) -> tuple[int, int]:
        """Return how many patches fit in time and in frequency."""
        (pt, pf), (st, sf) = self.patch_size, self.stride
        return (n_frames - pt) // st + 1, (n_mels - pf) // sf + 1

    def patches(self, features: Tensor) -> Tensor:
        """Return the raw patches `(N, P, frames · bins)`, each flattened in the kernel's axis order."""
        n = features.shape[0]
        (pt, pf), (st, sf) = self.patch_size, self.stride
        cut = features.unfold(1, pt, st).unfold(2, pf, sf)  # (N, t, f, pt, pf)
        if self.order == "frequency":
            cut = cut.transpose(1, 2)
        if self.kernel == "freq_time":
            cut = cut.transpose(3, 4)
        return cut.reshape(n, -1, pt * pf)

    def forward(self, features: Tensor) -> Tensor:
        """Return the tokens `(N, P, D)` of `features` `(N, T, F)`, in the weight's dtype."""
        weight = self.proj.weight.flatten(1)
        return linear(self.patches(features).to(weight.dtype), weight, self.proj.bias)
