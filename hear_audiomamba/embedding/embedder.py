"""From a batch of clips to embeddings: features, windows, encoder, pooling."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..config import ModelConfig, check_value
from ..encoders.base import Encoder, PublishedRuntime
from ..errors import ConfigError
from ..frontends.base import Frontend
from ..models.weights import save_weights
from ..modules.compute import PRECISIONS, cast_products, precision_of, set_backend
from .inputs import check_audio, check_sample_rate
from .pooling import pool_rows, smooth_rows, smoothing_reach
from .publish import push_to_hub, save_pretrained
from .timestamps import TimestampGrid, published_grid, row_grid, rows_at, timestamp_grid
from .windows import WindowPlan

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_SMOOTHING_MS = 10_000
MAX_WINDOW_SECONDS = 3600  # memory grows with a window, whatever the clip
Precision = Literal["float32", "bfloat16", "float16"]
TimestampKind = Literal["center", "start"]
T = TypeVar("T")


class AudioEmbedder(nn.Module):
    """A model behind the HEAR API: waveforms in, scene and timestamp embeddings out.

    The way of the data: `features` turns clips into spectrograms, these are cut into windows of
    `window_seconds`, all windows of all clips go through `encoder` as one batch (in pieces of at most
    `max_batch_windows`), and the encoder's rows are put back in time order.

    `scene` and `timestamps` are what the HEAR functions call and give no gradients; `embed`,
    `embed_timestamps`, `hidden_states` and `forward` do. In training mode the statistics of an encoder's
    input norm stay as they are, so that embedding changes no weights.

    Args:
        config: what the model is.
        features: waveform to spectrogram module.
        encoder: spectrogram to tokens module.
        window_seconds: length of a window; by default the configuration's. The last window is padded.
        timestamps: "center" (HEAR's rule) or "start" of each row's stretch of audio.
        compat: "published" reproduces the authors' runtime with all its quirks; None is what the paper
            describes. See docs/models.md.
        precision: of the encoder: "float32", "bfloat16", or "float16" (GPU only). Norms, the residual
            stream and the scan's state stay float32, and so do the embeddings.
        max_batch_windows: most windows encoded at once; bounds memory. By default 32, on GPUs 256.
        backend: compute backend of the scan; None takes the fastest available.
        weights: where the weights are from; None where they are random.

    Attributes:
        sample_rate: Hz the audio must have.
        scene_embedding_size, timestamp_embedding_size: K.
        scene_pooling: how a clip's rows become its scene embedding: see `embedding.pooling.pool_rows`.
        row_smoothing: time constant, in rows, with which timestamp embeddings are smoothed: see
            `embedding.pooling.smooth_rows`.
    """

    def __init__(
        self,
        config: ModelConfig,
        features: Frontend,
        encoder: Encoder,
        *,
        window_seconds: float | None = None,
        timestamps: TimestampKind = "center",
        compat: Literal["published"] | None = None,
        precision: Precision = "float32",
        max_batch_windows: int | None = None,
        backend: str | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        for name, value, hint in (
            ("timestamps", timestamps, TimestampKind),
            ("compat", compat, Literal["published"] | None),
            ("precision", precision, Precision),
            ("max_batch_windows", max_batch_windows, int | None),
            ("window_seconds", window_seconds, float | None),
        ):
            check_value(hint, value, name)
        seconds = config.window_seconds if window_seconds is None else float(window_seconds)
        if compat == "published" and not isinstance(encoder, PublishedRuntime):
            raise ConfigError(f"compat: the authors of {config.family} published no HEAR runtime; use None")
        if not 0 < seconds <= MAX_WINDOW_SECONDS:
            raise ConfigError(
                f"window_seconds: {seconds!r} is not a positive number of seconds, at most {MAX_WINDOW_SECONDS}"
            )
        if max_batch_windows is not None and max_batch_windows < 1:
            raise ConfigError(f"max_batch_windows: {max_batch_windows} is less than 1")
        if not 0 <= config.timestamp_smoothing_ms <= MAX_SMOOTHING_MS:
            raise ConfigError(
                f"timestamp_smoothing_ms: {config.timestamp_smoothing_ms!r} is not from 0 to {MAX_SMOOTHING_MS}"
            )
        self.config = config.replace(window_seconds=seconds)
        self.features, self.encoder = features, encoder
        self.timestamp_kind, self.compat = timestamps, compat
        self.max_batch_windows, self.backend, self.weights = max_batch_windows, backend, weights
        self.scene_pooling = "mean" if compat == "published" else config.scene_pooling
        self.sample_rate: int = features.sample_rate
        self.scene_embedding_size = self.timestamp_embedding_size = encoder.frame_embedding_size
        frames = round(seconds * self.sample_rate / features.hop_length)
        self.window_frames = encoder.fit_frames(frames)
        self.row_grid = row_grid(features, encoder)
        self.plan = WindowPlan(encoder, self.row_grid, self.window_frames, features.pad_value)
        row_ms = 1000.0 * self.row_grid.step / self.sample_rate
        self.row_smoothing = 0.0 if compat == "published" else config.timestamp_smoothing_ms / row_ms
        cast_products(encoder, PRECISIONS[precision])
        set_backend(encoder, backend)
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.encoder.parameters()).device

    @property
    def precision(self) -> str:
        """What the encoder computes in."""
        return precision_of(self.encoder)

    def __repr__(self) -> str:
        return (
            f"AudioEmbedder({self.config.variant}, {self.sample_rate} Hz, K = {self.scene_embedding_size}, "
            f"windows of {self.config.window_seconds:g} s, {self.device}, {self.precision}, "
            f"{self.weights or 'untrained'})"
        )

    def train(self, mode: bool = True) -> Self:
        """Set training mode; the input norm keeps the statistics it was trained with."""
        super().train(mode)
        for module in self.encoder.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eval()
        return self

    def embed(self, audio: Tensor | NDArray[np.floating], sample_rate: int | None = None) -> Tensor:
        """Return one embedding for each clip, with gradients.

        Args:
            audio: `(n_sounds, n_samples)` in [-1, 1] at the model's `sample_rate`.
            sample_rate: of the audio, Hz, if it is to be checked.

        Returns:
            `(n_sounds, scene_embedding_size)` float32.

        Raises:
            InputError: another sample rate, or see `hear_audiomamba.embedding.inputs.check_audio`.
        """
        check_sample_rate(sample_rate, self.sample_rate)
        return pool_rows(self._rows(check_audio(audio)), self.scene_pooling)

    def embed_timestamps(
        self, audio: Tensor | NDArray[np.floating], sample_rate: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return embeddings at regular times, with gradients.

        Args:
            audio: `(n_sounds, n_samples)` in [-1, 1] at the model's `sample_rate`.
            sample_rate: of the audio, Hz, if it is to be checked.

        Returns:
            Embeddings `(n_sounds, n_timestamps, timestamp_embedding_size)` float32, and their times
            `(n_sounds, n_timestamps)` float32 in milliseconds, increasing, within the clip.

        Raises:
            InputError: another sample rate, or see `hear_audiomamba.embedding.inputs.check_audio`.
        """
        check_sample_rate(sample_rate, self.sample_rate)
        audio = check_audio(audio)
        rows = self._rows(audio)
        grid = self.timestamp_grid(audio.shape[1], rows.shape[1])
        embeddings = rows_at(smooth_rows(rows, self.row_smoothing), grid.positions)
        times = torch.as_tensor(grid.times.astype(np.float32), device=rows.device)
        return embeddings, times.expand(audio.shape[0], -1).contiguous()

    def scene(self, audio: Tensor | NDArray[np.floating]) -> Tensor:
        """Return one embedding for each clip: what `embed` gives, without gradients."""
        with torch.no_grad():
            return self.embed(audio)

    def timestamps(self, audio: Tensor | NDArray[np.floating]) -> tuple[Tensor, Tensor]:
        """Return embeddings at regular times: what `embed_timestamps` gives, without gradients."""
        with torch.no_grad():
            return self.embed_timestamps(audio)

    def hidden_states(self, audio: Tensor | NDArray[np.floating]) -> list[Tensor]:
        """Return the tokens after each block, with gradients.

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
        return [torch.cat(layer).float().reshape(audio.shape[0], -1, layer[0].shape[-1]) for layer in layers]

    def forward(self, audio: Tensor) -> Tensor:
        """Return the scene embeddings, with gradients: see `embed`."""
        return self.embed(audio)

    def save(
        self,
        path: str | Path,
        *,
        dtype: torch.dtype | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write the weights with all settings that belong to them; `load_model(path)` brings both back.

        Args:
            path: the `.safetensors` file to write; its folder must exist.
            dtype: store floating tensors in this type, for instance `torch.float16`; None keeps theirs.
            notes: more facts to keep in the file (licence, recipe, …), fit for JSON.

        Returns:
            The path.

        Raises:
            CheckpointError: the name does not end in `.safetensors`.
        """
        return save_weights(path, self.encoder.state_dict(), self.config, dtype=dtype, notes=notes)

    def save_pretrained(self, folder: str | Path, **about: Any) -> Path:
        """Write a folder that `load_model(folder)` and the hub understand: weights, config.json and a card.

        Args:
            folder: where to; it is made.
            about: for the card: "licence" of the weights, "sources" they were trained on, and "scores", a results
                file of `hear-audiomamba evaluate` or its content.

        Returns:
            The folder.

        Raises:
            InputError: the scores cannot be read.
        """
        return save_pretrained(self, folder, **about)

    def push_to_hub(
        self, repo_id: str, *, private: bool = False, token: str | None = None, **about: Any
    ) -> str:
        """Upload the model to the Hugging Face hub, where `load_model(repo_id)` finds it.

        Args:
            repo_id: "owner/name"; made if it is not there.
            private: for a new repository.
            token: of the hub; by default the one of `hf auth login`.
            about: see `save_pretrained`, and "commit_message".

        Returns:
            The address of the upload.

        Raises:
            CheckpointError: the hub cannot be reached or refuses.
        """
        return push_to_hub(self, repo_id, private=private, token=token, **about)

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
        features = self.features(audio)
        if self.compat == "published" and isinstance(self.encoder, PublishedRuntime):
            return self._rows_published(features, self.encoder)
        rows = self.encode_windows(self.plan.cut(features, audio.shape[1]))
        # Sizes from `shape`, not `len`: a trace keeps the number that `len` gives, whatever batch comes later.
        rows = rows.reshape(audio.shape[0], -1, rows.shape[-1])
        return rows[:, : self.count_rows(audio.shape[1])]

    def _rows_published(self, features: Tensor, encoder: PublishedRuntime) -> Tensor:
        """The authors' runtime: always at least one padded frame, and rows cut off by their share of it."""
        size = self.window_frames
        pad = size - features.shape[1] % size
        windows = F.pad(features, (0, 0, 0, pad)).reshape(-1, size, features.shape[2])
        pieces = self.in_pieces(windows, lambda x: encoder.frames_published(encoder(x)))
        rows = torch.cat(pieces).float()
        cut = int(rows.shape[1] * pad / size)
        rows = rows.reshape(features.shape[0], -1, rows.shape[2])
        return rows[:, : rows.shape[1] - cut]

    def in_pieces(self, windows: Tensor, function: Callable[[Tensor], T]) -> list[T]:
        """Return what `function` returns for each piece of at most `max_batch_windows` windows.

        Raises:
            ConfigError: the model's precision needs a GPU.
        """
        if windows.device.type == "cpu" and self.precision == "float16":
            raise ConfigError("precision: 'float16' needs a GPU; on the CPU use 'bfloat16' or 'float32'")
        if torch._C._get_tracing_state() is not None:  # a trace would keep the number of pieces
            return [function(windows)]
        most = self.max_batch_windows or (32 if windows.device.type == "cpu" else 256)
        return [function(piece) for piece in windows.split(most)]
