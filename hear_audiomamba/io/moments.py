"""Mean and deviation of values that arrive in pieces, in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass
class Moments:
    """Count, mean and sum of squared differences of the rows seen so far.

    The pieces may be cut anywhere: the result is that of all rows at once, up to float64 rounding.

    Attributes:
        count: rows seen.
        mean: of each column, `(F,)` float64.
        squares: sum of squared differences from the mean, `(F,)` float64.

    Source: Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample
        variances" (1979).
    """

    count: int = 0
    mean: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    squares: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def add(self, rows: NDArray[Any]) -> None:
        """Take rows `(n, F)` in."""
        if not len(rows):
            return
        rows = rows.astype(np.float64)
        mean = rows.mean(axis=0)
        self.merge(Moments(len(rows), mean, np.square(rows - mean).sum(axis=0)))

    def merge(self, other: Moments) -> None:
        """Take in what other moments have seen."""
        if not other.count:
            return
        if not self.count:
            self.count, self.mean, self.squares = other.count, other.mean.copy(), other.squares.copy()
            return
        total = self.count + other.count
        difference = other.mean - self.mean
        self.squares += other.squares + difference**2 * (self.count * other.count / total)
        self.mean += difference * (other.count / total)
        self.count = total

    def overall(self, ddof: int = 0) -> tuple[float, float]:
        """Return mean and standard deviation over all values of all columns.

        Args:
            ddof: what is taken off the number of values in the variance: 1 makes it unbiased.

        Returns:
            (mean, deviation); (0, 0) where there are no more than `ddof` values.
        """
        n = self.count * len(self.mean)
        if n <= ddof:
            return (float(self.mean.mean()) if n else 0.0), 0.0
        mean = float(self.mean.mean())
        between = self.count * float(np.square(self.mean - mean).sum())
        return mean, math.sqrt((float(self.squares.sum()) + between) / (n - ddof))

    @property
    def std(self) -> NDArray[np.float64]:
        """Deviation of each column, `(F,)`, divided by the count (not one less)."""
        return np.asarray(np.sqrt(self.squares / max(self.count, 1)))
