"""The settings of a run: what it makes, on which its results depend, and what it may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..config import Config, check_value
from ..errors import ConfigError

# Clips up to this are kept as samples until they end; longer ones become frames as they are read.
WHOLE_SECONDS = 300.0
SHORTEST_SEGMENT_SECONDS = 0.05  # about a row of an encoder
MAX_UNIT_BYTES = 1 << 30
MOST_WORKERS = 1024


@dataclass(frozen=True)
class EmbedOptions(Config):
    """Settings of a run that its results depend on; a folder holds results of one setting only.

    Attributes:
        scene: one embedding for each clip, its rows pooled.
        timestamps: embeddings at regular times.
        format: "npz" is one file for each source; "parquet", "npy" and "csv" are shards of many.
        columns: what the columns of parquet and csv are called: as here, or as in BirdNET-Analyzer, OpenSoundscape
            or Raven (csv only).
        dtype: that embeddings are stored in.
        segment_seconds: cut sources into clips of this length, each embedded by itself; None leaves them whole.
        normalize: "clip" by the statistics of the whole clip, as the model defines it; "window" each
            window by its own, as soon as it has been read. Only for models that normalise clips.
        shard_sources: sources in a unit of work, which is a shard.
    """

    scene: bool = True
    timestamps: bool = False
    format: Literal["npz", "parquet", "npy", "csv"] = "npz"
    columns: Literal["default", "birdnet", "opensoundscape", "raven"] = "default"
    dtype: Literal["float32", "float16"] = "float32"
    segment_seconds: float | None = None
    normalize: Literal["clip", "window"] = "clip"
    shard_sources: int = 512

    def __post_init__(self) -> None:
        self.check_types()
        if not (self.scene or self.timestamps):
            raise ConfigError("nothing to make: choose scene embeddings, timestamps, or both")
        if self.columns != "default" and self.format not in ("parquet", "csv"):
            raise ConfigError(
                f"columns: {self.columns!r} is for the formats parquet and csv, not {self.format}"
            )
        if self.columns == "raven" and self.format != "csv":
            raise ConfigError("columns: Raven reads text only; choose the format csv")
        if self.timestamps and (self.format == "csv" or self.columns != "default"):
            raise ConfigError(
                "timestamps: csv, and tables for other programs, hold scene embeddings only; cut the recordings "
                "into segments instead"
            )
        if self.shard_sources < 1:
            raise ConfigError(f"shard_sources: {self.shard_sources}, expected at least 1")
        if self.segment_seconds is not None:
            if not SHORTEST_SEGMENT_SECONDS <= self.segment_seconds <= WHOLE_SECONDS:
                allowed = f"expected {SHORTEST_SEGMENT_SECONDS:g} to {WHOLE_SECONDS:g}"
                raise ConfigError(f"segment_seconds: {self.segment_seconds:g}, {allowed}")
            if self.timestamps:
                raise ConfigError(
                    "segment_seconds: segments have scene embeddings only; leave the timestamps out"
                )


@dataclass(frozen=True)
class Resources:
    """What a run may use; the results do not depend on it.

    Attributes:
        devices: where to compute; by default where the model is.
        workers: decoding processes; None chooses by cores and device, 0 decodes in this process.
        share: (i, n): do the i-th of n shares of the units, 0 ≤ i < n.
        retry_errors: try units again in which a source failed.
        overwrite: throw away what earlier runs made in the output folder.
        keep_truncated: embed what is there of files that are not whole; each is noted in the summary. It counts
            for the files that are read in this run: with `retry_errors` for those that failed before.

    Raises:
        ConfigError: a number is out of range.
    """

    devices: tuple[str, ...] = ()
    workers: int | None = None
    share: tuple[int, int] | None = None
    retry_errors: bool = False
    overwrite: bool = False
    keep_truncated: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.devices, str):
            raise ConfigError(f"devices: expected a list of names, got {self.devices!r}")
        workers = check_value(int | None, self.workers, "workers")
        if workers is not None and not 0 <= workers <= MOST_WORKERS:
            raise ConfigError(f"workers: {workers}, expected 0 to {MOST_WORKERS}")
        share = check_value(tuple[int, int] | None, self.share, "share")
        object.__setattr__(self, "workers", workers)
        object.__setattr__(self, "share", share)
        if self.share is not None and not 0 <= self.share[0] < self.share[1]:
            raise ConfigError(f"share: {self.share[0]} of {self.share[1]}, expected 0 ≤ i < n")
