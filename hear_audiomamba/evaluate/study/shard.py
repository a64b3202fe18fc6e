"""A part of a study for a process of its own."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import ConfigError


@dataclass(frozen=True)
class Shard:
    """One of several equal parts of a study, each for a process of its own.

    Args:
        index: of this part, from 0.
        count: of parts.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ConfigError(f"shard {self.index}/{self.count}: write I/N with 0 <= I < N, as 0/4")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read "I/N", as 0/4 for the first of four.

        Raises:
            ConfigError: it is not of this form, or I is not below N.
        """
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()):
            raise ConfigError(f"shard {text!r}: write I/N with 0 <= I < N, as 0/4")
        return cls(int(index), int(count))

    @property
    def name(self) -> str:
        """A name for files and folders of this part."""
        return f"shard-{self.index}-of-{self.count}"
