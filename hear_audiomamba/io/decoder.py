"""What the decoders of a file's parts have in common: their methods, and their errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from ..errors import AudioReadError


class Decoder(Protocol):
    """Reads one part of a file.

    Attributes:
        sample_rate: Hz.
        n_frames: samples of each channel, as far as is known before all are read.
    """

    sample_rate: int

    @property
    def n_frames(self) -> int: ...

    def blocks(self, first: int, size: int) -> Iterator[np.ndarray]:
        """Yield samples `(n, channels)` float32, 1 ≤ n ≤ size, from sample `first` to the end.

        Raises:
            AudioReadError: the audio is damaged, or ends before `n_frames`.
        """
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class TooShort(AudioReadError):
    """A decoder gave less than a part should hold."""


class Undecodable(AudioReadError):
    """A decoder's library refuses the data; the message is the library's."""
