"""Which patches of a clip are hidden from the encoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...config import Config
from ...errors import ConfigError
from ..config import MaskConfig


@dataclass(frozen=True)
class MaskSampler(Config):
    """Draws the masks of one encoder's patches.

    Args:
        config: how many patches and how they lie together.
        grid: patches in time and in frequency.
        order: "time" if the tokens of one moment follow one another (index t · f_dim + f), "frequency"
            if those of one band do (index f · t_dim + t).

    Raises:
        ConfigError: more patches are to be masked than there are.
    """

    config: MaskConfig
    grid: tuple[int, int]
    order: str = "time"

    def __post_init__(self) -> None:
        if not 0 < self.count < self.total:
            raise ConfigError(f"mask: {self.count} masked patches, but a clip has {self.total}")

    @property
    def total(self) -> int:
        """Patches of a clip."""
        return self.grid[0] * self.grid[1]

    @property
    def count(self) -> int:
        """Masked patches of a clip, the same for every clip."""
        if self.config.count is not None:
            return self.config.count
        return self.total - int(self.total * (1 - self.config.ratio))

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return a mask `(P,)` of bool, true where a patch is hidden, exactly `count` times.

        Deviates: the published SSAMBA code lets clusters run over the end of a frequency row into the
            next one, never masks patch 0, and takes surplus patches away from the highest indices
            only; here clusters stay within the spectrogram and the surplus is taken away at random.
        """
        if self.config.kind == "random":
            mask = np.zeros(self.total, dtype=bool)
            mask[rng.permutation(self.total)[: self.count]] = True
            return mask
        n_time, n_freq = self.grid
        side = int(rng.integers(self.config.cluster[0], self.config.cluster[1] + 1))
        plane = np.zeros((n_time, n_freq), dtype=bool)
        missing = self.count
        while missing > 0:
            # A corner may lie outside, so that patches at the rim are hidden as often as others.
            t = int(rng.integers(1 - side, n_time))
            f = int(rng.integers(1 - side, n_freq))
            block = plane[max(t, 0) : t + side, max(f, 0) : f + side]
            free = np.flatnonzero(~block)
            if len(free) > missing:
                free = rng.permutation(free)[:missing]
            block[np.unravel_index(free, block.shape)] = True
            missing -= len(free)
        return plane.reshape(-1) if self.order == "time" else plane.T.reshape(-1)
