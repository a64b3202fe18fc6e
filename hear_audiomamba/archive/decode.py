"""A source to blocks of samples: what decoding processes run. Must not load torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO, NamedTuple, TypeVar, cast

import numpy as np

from ..errors import AudioReadError
from ..io.audio import BLOCK_SECONDS, iter_audio
from ..io.ranges import ByteSource, JoinedPieces, Span
from .sources import Source

T = TypeVar("T")


@dataclass(frozen=True)
class DecodeSettings:
    """What a decoder has to know.

    Attributes:
        sample_rate: of the blocks, Hz.
        segment_seconds: cut every source into clips of this length; None leaves it whole.
        keep_truncated: of a file that is not whole, take what is there.
    """

    sample_rate: int
    segment_seconds: float | None = None
    keep_truncated: bool = False


class Block(NamedTuple):
    """Consecutive samples of a clip.

    Attributes:
        samples: `(n,)` float32.
        start: the clip's first sample, counted from the source's.
        last: the clip ends here.
        missing: on the source's last block: what its file lacks, where that is allowed.
    """

    samples: np.ndarray
    start: int
    last: bool
    missing: str = ""


def decode_source(source: Source, settings: DecodeSettings) -> Iterator[Block]:
    """Decode one source.

    Args:
        source: what to decode.
        settings: how.

    Yields:
        The blocks of its clips, in order.

    Raises:
        AudioReadError: the source cannot be decoded; may come after some blocks.
    """
    if source.fault is not None:
        raise AudioReadError(f"{source.label}: {source.fault}")
    missing: list[str] = []
    samples = _blocks(source, settings, missing)
    blocks: Iterator[Block]
    if settings.segment_seconds is None:
        blocks = (Block(part, 0, last) for part, last in _with_last(samples))
    else:
        blocks = _segments(samples, round(settings.segment_seconds * settings.sample_rate))
    for block, last in _with_last(blocks):
        yield block._replace(missing="".join(missing[:1])) if last else block


def _blocks(source: Source, settings: DecodeSettings, missing: list[str]) -> Iterator[np.ndarray]:
    def decode(file: str | BinaryIO) -> Iterator[np.ndarray]:
        return iter_audio(
            file, settings.sample_rate, start=source.start, duration=source.duration,
            block_seconds=BLOCK_SECONDS, name=source.label,
            on_truncated=missing.append if settings.keep_truncated else None,
        )  # fmt: skip

    if source.member is None:
        yield from decode(source.path)
        return
    try:
        member = Span(source.offset, source.offset + source.size)
        with open(source.path, "rb", buffering=0) as archive:
            yield from decode(cast(BinaryIO, JoinedPieces(ByteSource(cast(BinaryIO, archive)), [member])))
    except OSError as error:
        raise AudioReadError(f"{source.label}: {error.strerror}") from None


def _with_last(items: Iterator[T]) -> Iterator[tuple[T, bool]]:
    """Yield each item, held back until the next is there, and whether it is the last one."""
    held = list(islice(items, 1))
    for following in items:
        yield held.pop(), False
        held.append(following)
    for item in held:
        yield item, True


def _segments(blocks: Iterator[np.ndarray], size: int) -> Iterator[Block]:
    kept: list[np.ndarray] = []
    n_kept = start = 0
    for samples in blocks:
        kept.append(samples)
        n_kept += len(samples)
        if n_kept < size:
            continue
        joined = np.concatenate(kept)
        n_whole = n_kept // size
        for index in range(n_whole):
            yield Block(joined[index * size : (index + 1) * size], start, True)
            start += size
        kept, n_kept = [joined[n_whole * size :]], n_kept - n_whole * size
    if n_kept:
        yield Block(np.concatenate(kept), start, True)
