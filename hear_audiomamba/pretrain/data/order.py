"""Which clip comes when: a pure function of the seed and of a position in the endless training stream.

Everything random about a sample is drawn from a generator made of the seed and the sample's position.
So a run can be stopped at any step and continue with the same data, whatever the number of workers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...errors import ConfigError, did_you_mean

TRAIN, VALID, SUBSTITUTE, MIX = range(4)  # streams of random numbers, each independent of the others


def generator(seed: int, stream: int, *position: int) -> np.random.Generator:
    """Return the random generator of one position in one stream."""
    return np.random.default_rng((seed, stream, *position))


class Order:
    """The clips of a training stream, epoch after epoch.

    Args:
        entries: clip index of each entry of an epoch; a clip may have several.
        seed: of the run.
        weights: chance of each entry, for drawing with replacement; None visits every entry once an
            epoch, in a new order each time.
    """

    def __init__(self, entries: np.ndarray, seed: int, weights: np.ndarray | None = None) -> None:
        self.entries = np.asarray(entries, dtype=np.int64)
        self.seed = seed
        self._cumulative = None
        if weights is not None:
            self._cumulative = np.cumsum(weights / weights.sum())
        self._epoch = -1
        self._permutation: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def clip(self, position: int) -> int:
        """Return the clip at a position of the stream, from 0 without end."""
        if self._cumulative is not None:
            return self.partner(generator(self.seed, TRAIN, position, 1))
        epoch, place = divmod(position, len(self))
        if epoch != self._epoch or self._permutation is None:
            self._permutation = generator(self.seed, TRAIN, epoch, 2, 0).permutation(len(self))
            self._epoch = epoch
        return int(self.entries[self._permutation[place]])

    def partner(self, rng: np.random.Generator) -> int:
        """Return a clip drawn by the weights, or evenly without them."""
        if self._cumulative is None:
            return int(self.entries[rng.integers(len(self))])
        entry = int(np.searchsorted(self._cumulative, rng.random(), side="right"))
        return int(self.entries[min(entry, len(self) - 1)])

    def substitute(self, position: int, attempt: int) -> int:
        """Return another clip for a position whose own cannot be read."""
        return self.partner(generator(self.seed, SUBSTITUTE, position, attempt))


def entries_by_length(seconds: np.ndarray, crop_seconds: float) -> np.ndarray:
    """Return clip indices, each as often as crops fit into it, at least once."""
    counts = np.maximum(1, np.round(np.asarray(seconds) / crop_seconds)).astype(np.int64)
    return np.repeat(np.arange(len(counts)), counts)


def kind_weights(entries: np.ndarray, kinds: Sequence[str], wanted: Mapping[str, float]) -> np.ndarray:
    """Return the chance of each entry so that the kinds are drawn in the wanted shares.

    Raises:
        ConfigError: a kind is not in the manifest, a weight is negative, or all are zero.
    """
    names, codes = np.unique(np.asarray(kinds), return_inverse=True)
    known = names.tolist()
    for kind, weight in wanted.items():
        if kind not in known:
            raise ConfigError(f"data.weights: no clip is of kind {kind!r}; {did_you_mean(kind, known)}")
        if not isinstance(weight, (int, float)) or weight < 0:
            raise ConfigError(f"data.weights: {kind}: {weight!r} is not a number from 0")
    codes = codes[entries]
    counts = np.maximum(1, np.bincount(codes, minlength=len(known)))
    share = np.array([wanted.get(kind, 0.0) for kind in known], dtype=np.float64)
    if share.sum() == 0:
        raise ConfigError("data.weights: all weights are 0")
    return np.asarray((share / counts)[codes])


def class_weights(entries: np.ndarray, labels: Sequence[Sequence[int]], n_classes: int) -> np.ndarray:
    """Return the chance of each entry: the sum over its labels of one over the label's count.

    Source: Gong et al., PSLA, arXiv 2102.01243, section III-B, balanced sampling.
    """
    counts = np.zeros(n_classes)
    for row in labels:
        counts[list(row)] += 1
    weight = np.array([sum(1.0 / counts[i] for i in row) for row in labels])
    if weight.sum() == 0:
        raise ConfigError("data.balance: no clip has a label")
    return np.asarray(weight[entries])
