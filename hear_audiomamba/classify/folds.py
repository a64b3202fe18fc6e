"""Which rows are tried out on a classifier that has not seen them: folds of cross-validation, or a test split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DataError
from ..io.labels import SPLITS
from .head import Floats


@dataclass(frozen=True)
class Folds:
    """What each unit of labels (a clip, or in event tasks a file) serves for.

    Attributes:
        fold: `(n,)` the number of the fold a unit is tried out in; -1 in a test split.
        group: `(n,)` units of one number are always in the same fold.
        source: where the folds come from, in words.
    """

    fold: NDArray[np.int64]
    group: NDArray[np.int64]
    source: str

    @property
    def test(self) -> NDArray[np.bool_]:
        """Which units make up a test split that no choice may look at."""
        return self.fold < 0

    @property
    def numbers(self) -> list[int]:
        """The folds of cross-validation."""
        return sorted({int(number) for number in self.fold if number >= 0})


def make_folds(
    units: Sequence[tuple[str, str | None, str | None]], targets: Floats, n_folds: int, seed: int
) -> Folds:
    """Divide units for cross-validation.

    Args:
        units: path, split and group of each.
        targets: `(n, C)` of zeros and ones, to spread the classes evenly.
        n_folds: how many folds where the labels name none.
        seed: of the shuffle.

    Returns:
        The labels' own folds where they name some; else folds of the rows, those of a test split left
        out, with whole groups on one side.

    Raises:
        ConfigError: fewer than two folds are asked for.
        DataError: there is only one group.
    """
    if n_folds < 2:
        raise ConfigError(f"folds: {n_folds}, cross-validation needs at least 2")
    # Stretches of one file sound alike: without groups of the user's they stay together.
    names = [group if group is not None else path for path, _, group in units]
    group = np.unique(names, return_inverse=True)[1].astype(np.int64)
    splits = [split for _, split, _ in units]
    named = sorted({split for split in splits if split is not None})
    if named and not set(named) & set(SPLITS) and len(named) > 1:
        number = {name: index for index, name in enumerate(named)}
        fold = np.array([number[str(split)] for split in splits], np.int64)
        return Folds(fold, group, f"the labels' own {len(named)} folds")
    # Without a test split, what is there for validation takes its place.
    held = next((name for name in ("test", "valid") if name in named and len(named) > 1), None)
    fold = np.full(len(units), -1, np.int64)
    used = np.array([held is None or split != held for split in splits])
    fold[used], count = _divide(targets[used], group[used], n_folds, seed)
    grouped = any(group is not None for _, _, group in units)
    inner = f"{count}-fold cross-validation" + (" that keeps groups together" if grouped else "")
    return Folds(fold, group, inner if held is None else f"split {held}; choices by {inner} on the rest")


def _divide(
    targets: Floats, group: NDArray[np.int64], n_folds: int, seed: int
) -> tuple[NDArray[np.int64], int]:
    n_groups = len(np.unique(group))
    if n_groups < 2:
        raise DataError("all labels belong to one group or file; cross-validation needs at least two")
    # One stratum a row: its rarest class, or none.
    counts = targets.sum(axis=0)
    rarity = np.where(targets > 0, counts, np.inf)
    strata = np.where(targets.any(axis=1), rarity.argmin(axis=1), len(counts))
    count = max(2, min(n_folds, n_groups, int(np.bincount(strata).max())))
    if n_groups < len(targets):
        return _deal_groups(strata, group, count, seed), count
    fold = np.zeros(len(targets), np.int64)
    random, at = np.random.default_rng(seed), 0
    for stratum in np.unique(strata):
        own = random.permutation(np.flatnonzero(strata == stratum))
        # Each class continues dealing where the last one stopped, which keeps the folds of one size.
        fold[own] = (at + np.arange(len(own))) % count
        at += len(own)
    return fold, count


def _deal_groups(
    strata: NDArray[np.int64], group: NDArray[np.int64], count: int, seed: int
) -> NDArray[np.int64]:
    """Deal whole groups, the largest first, each to where its strata are fewest."""
    n_strata = int(strata.max()) + 1
    table = np.zeros((int(group.max()) + 1, n_strata))
    np.add.at(table, (group, strata), 1)
    wanted = np.maximum(table.sum(axis=0) / count, 1e-9)
    order = np.random.default_rng(seed).permutation(len(table))
    order = order[np.argsort(-table[order].sum(axis=1), kind="stable")]
    filled, of_group = np.zeros((count, n_strata)), np.zeros(len(table), np.int64)
    for number in order:
        # How far the folds would be from equal shares of each class, were it put into each of them.
        tried = [filled + table[number] * (np.arange(count) == k)[:, None] for k in range(count)]
        cost = [(float(((one / wanted) ** 2).sum()), float(own.sum())) for one, own in zip(tried, filled)]
        # Among equals into the smallest: a class of one group would else leave a fold empty.
        of_group[number] = min(range(count), key=cost.__getitem__)
        filled[of_group[number]] += table[number]
    return of_group[group]
