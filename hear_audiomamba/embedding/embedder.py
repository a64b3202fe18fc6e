"""From a batch of clips to embeddings: features, windows, encoder, pooling."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..config import ModelConfig
from ..encoders.base import Encoder, PublishedRuntime
from ..errors import ConfigError
from ..frontends.base import Frontend
from ..ops import BACKENDS, use_backend
from .inputs import check_audio
from .pooling import pool_rows, smooth_rows, smoothing_reach
from .timestamps import TimestampGrid, published_grid, row_grid, rows_at, timestamp_grid
from .windows import WindowPlan

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MAX_SMOOTHING_MS = 10_000


class AudioEmbedder(nn.Module):
    """A model behind the HEAR API: waveforms in, scene and timestamp embeddings out.

    The way of the data: `features` turns clips into spectrograms, these are cut into windows of
    `window_seconds`, all windows of all clips go through `encoder` as one batch (in pieces of at most
    `max_batch_windows`), and the encoder's rows are put back in time order.

    Args:
        config: what the model is.
        features: waveform to spectrogram module.
        encoder: spectrogram to tokens module.
        window_seconds: length of a window; the last one is padded.
        timestamps: "center" (HEAR's rule) or "start" of each row's stretch of audio.
        compat: "published" reproduces the authors' runtime with all its quirks; None is what the paper
            describes. See docs/models.md.
        precision: of the encoder: "float32", "bfloat16", or "float16" (GPU only). Norms, the residual
            stream and the scan's state stay float32, and so do the embeddings.
        max_batch_windows: most windows encoded at once; bounds memory. By default 32, on GPUs 256.
        backend: compute backend of the scan; None takes the fastest at hand.

    Attributes:
        sample_rate: Hz the audio must have.
        scene_embedding_size, timestamp_embedding_size: K.
        scene_pooling: how a clip's rows become its scene embedding: see `modules.pooling.pool_rows`.
        row_smoothing: time constant, in rows, with which timestamp embeddings are smoothed: see
            `modules.pooling.smooth_rows`.
    """

    def __init__(
        self,
        config: ModelConfig,
        features: Frontend,
        encoder: Encoder,
        *,
        window_seconds: float | None = None,
        timestamps: Literal["center", "start"] = "center",
        compat: Literal["published"] | None = None,
        precision: str = "float32",
        max_batch_windows: int | None = None,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        seconds = config.window_seconds if window_seconds is None else window_seconds
        _one_of("timestamps", timestamps, ("center", "start"))
        _one_of("compat", compat, (None, "published"))
        _one_of("precision", precision, PRECISIONS)
        _one_of("backend", backend, (None, *BACKENDS))
        if compat == "published" and not isinstance(encoder, PublishedRuntime):
            raise ConfigError(f"compat: the authors of {config.family} published no HEAR runtime; use None")
        if not 0 < seconds < math.inf:
            raise ConfigError(f"window_seconds: {seconds!r} is not a positive number of seconds")
        if max_batch_windows is not None and max_batch_windows < 1:
            raise ConfigError(f"max_batch_windows: {max_batch_windows} is less than 1")
        if not 0 <= config.timestamp_smoothing_ms <= MAX_SMOOTHING_MS:
            raise ConfigError(
                f"timestamp_smoothing_ms: {config.timestamp_smoothing_ms!r} is not from 0 to {MAX_SMOOTHING_MS}"
            )
        self.config, self.features, self.encoder = config, features, encoder
        self.timestamp_kind, self.compat, self.precision = timestamps, compat, precision
        self.max_batch_windows, self.backend = max_batch_windows, backend
        self.scene_pooling = "mean" if compat == "published" else config.scene_pooling
        self.sample_rate: int = features.sample_rate
        self.scene_embedding_size = self.timestamp_embedding_size = encoder.frame_embedding_size
        frames = round(seconds * self.sample_rate / features.hop_length)
        self.window_frames = encoder.fit_frames(frames)
        self.row_grid = row_grid(features, encoder)
        self.plan = WindowPlan(encoder, self.row_grid, self.window_frames, features.pad_value)
        row_ms = 1000.0 * self.row_grid.step / self.sample_rate
        self.row_smoothing = 0.0 if compat == "published" else config.timestamp_smoothing_ms / row_ms
        _cast(encoder, PRECISIONS[precision])
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.encoder.parameters()).device

    @torch.no_grad()
    def scene(self, audio: Tensor) -> Tensor:
        """Return one embedding for each clip: its rows, pooled.

        Args:
            audio: `(n_sounds, n_samples)` in [-1, 1] at `sample_rate`.

        Returns:
            `(n_sounds, scene_embedding_size)` float32.

        Raises:
            InputError: see `hear_audiomamba.embedding.inputs.check_audio`.
        """
        return pool_rows(self._rows(check_audio(audio)), self.scene_pooling)

    @torch.no_grad()
    def timestamps(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Return embeddings at regular times.

        Args:
            audio: `(n_sounds, n_samples)` in [-1, 1] at `sample_rate`.

        Returns:
            Embeddings `(n_sounds, n_timestamps, timestamp_embedding_size)` float32, and their times
            `(n_sounds, n_timestamps)` float32 in milliseconds, increasing, within the clip.

        Raises:
            InputError: see `hear_audiomamba.embedding.inputs.check_audio`.
        """
        audio = check_audio(audio)
        rows = self._rows(audio)
        grid = self.timestamp_grid(audio.shape[1], rows.shape[1])
        embeddings = rows_at(smooth_rows(rows, self.row_smoothing), grid.positions)
        times = torch.as_tensor(grid.times.astype(np.float32), device=rows.device)
        return embeddings, times.expand(audio.shape[0], -1).contiguous()

    def timestamp_pieces(
        self, read: Callable[[int, int], Tensor], n_rows: int, n_samples: int, at_once: int
    ) -> Iterator[tuple[Tensor, NDArray[np.float64]]]:
        """Yield the timestamp embeddings of one clip some at a time, from rows that need not be in memory.

        Args:
            read: returns rows `(last − first, K)` of the clip for `first`, `last`.
            n_rows: rows the clip has.
            n_samples: length of the clip in samples.
            at_once: how many to yield at once.

        Yields:
            Embeddings `(n, K)` and their times `(n,)` in ms: those of `timestamps` on the whole clip.
        """
        positions, times = self.timestamp_grid(n_samples, n_rows)
        if positions is None:
            positions = np.arange(n_rows, dtype=np.float64)
        reach = smoothing_reach(self.row_smoothing)
        for at in range(0, len(times), at_once):
            piece = slice(at, at + at_once)
            first = max(0, math.floor(positions[piece][0]) - reach)
            last = min(n_rows, math.floor(positions[piece][-1]) + 2 + reach)
            rows = smooth_rows(read(first, last)[None], self.row_smoothing)
            yield rows_at(rows, positions[piece], first)[0], times[piece]

    @torch.no_grad()
    def hidden_states(self, audio: Tensor) -> list[Tensor]:
        """Return the tokens after each block.

        Args:
            audio: `(n_sounds, n_samples)` in [-1, 1] at `sample_rate`.

        Returns:
            A list of `depth` tensors `(n_sounds, n_windows · P, D)` float32, windows in order; the last
            one stands before the encoder's final norm.

        Raises:
            InputError: see `hear_audiomamba.embedding.inputs.check_audio`.
        """
        audio = check_audio(audio)
        windows = self.plan.cut(self.features(audio), audio.shape[1])
        layers = zip(*self.in_pieces(windows, self.encoder.hidden_states))
        return [torch.cat(layer).float().reshape(len(audio), -1, layer[0].shape[-1]) for layer in layers]

    def forward(self, audio: Tensor) -> Tensor:
        """Return the scene embeddings: see `scene`."""
        return self.scene(audio)

    def count_rows(self, n_samples: int) -> int:
        """Return how many of the encoder's rows a clip of `n_samples` has: those centred within it."""
        return self.row_grid.count(n_samples)

    def timestamp_grid(self, n_samples: int, n_rows: int) -> TimestampGrid:
        """Return where between the `n_rows` rows of a clip its timestamp embeddings lie, and when."""
        if self.compat == "published":
            return published_grid(n_samples, n_rows, self.sample_rate)
        return timestamp_grid(self.row_grid, n_samples, n_rows, self.sample_rate, self.timestamp_kind)

    def encode_windows(self, windows: Tensor) -> Tensor:
        """Return the rows of windows.

        Args:
            windows: `(n, frames, F)` normalised spectrograms.

        Returns:
            `(n, rows, K)` float32, in time order within each window.
        """
        return torch.cat(self.in_pieces(windows, self.encoder.embed_frames)).float()

    def _rows(self, audio: Tensor) -> Tensor:
        features = self.features(audio.to(self.device))
        if self.compat == "published" and isinstance(self.encoder, PublishedRuntime):
            return self._rows_published(features, self.encoder)
        rows = self.encode_windows(self.plan.cut(features, audio.shape[1]))
        rows = rows.reshape(len(audio), -1, rows.shape[-1])
        return rows[:, : self.count_rows(audio.shape[1])]

    def _rows_published(self, features: Tensor, encoder: PublishedRuntime) -> Tensor:
        """The authors' runtime: always at least one padded frame, and rows cut off by their share of it."""
        size = self.window_frames
        pad = size - features.shape[1] % size
        windows = F.pad(features, (0, 0, 0, pad)).reshape(-1, size, features.shape[2])
        pieces = self.in_pieces(windows, lambda x: encoder.frames_published(encoder(x)))
        rows = torch.cat(pieces).float()
        cut = int(rows.shape[1] * pad / size)
        rows = rows.reshape(len(features), -1, rows.shape[2])
        return rows[:, : rows.shape[1] - cut]

    def in_pieces(self, windows: Tensor, function: Callable[[Tensor], Any]) -> list:
        """Return what `function` returns for each piece of at most `max_batch_windows` windows.

        Raises:
            ConfigError: the model's precision needs a GPU.
        """
        if self.precision == "float16" and windows.device.type == "cpu":
            raise ConfigError("precision: 'float16' needs a GPU; on the CPU use 'bfloat16' or 'float32'")
        most = self.max_batch_windows or (32 if windows.device.type == "cpu" else 256)
        with use_backend(self.backend) if self.backend else nullcontext():
            return [function(piece) for piece in windows.split(most)]


def _one_of(name: str, value, allowed) -> None:
    if value not in allowed:
        raise ConfigError(f"{name}: {value!r} is not one of {', '.join(map(repr, allowed))}")


def _cast(encoder: nn.Module, dtype: torch.dtype) -> None:
    """Put the matrix products into `dtype`; norms, positions and state matrices stay float32."""
    for module in encoder.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            module.to(dtype)
