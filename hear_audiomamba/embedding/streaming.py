"""Embeddings of audio that is still arriving."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import check_number
from ..encoders.base import Streamable
from ..errors import ConfigError, shown
from ..frontends.stream import RunningStatistics, SpectrogramStream
from ..modules.mamba_mixer import MixerState
from .embedder import MAX_WINDOW_SECONDS, AudioEmbedder
from .inputs import check_clip


class StreamedEmbedding(NamedTuple):
    """An embedding and the stretch of the stream it describes.

    Attributes:
        time_ms: the middle of the stretch, from the beginning of the stream; of a row, what
            `model.timestamps` with centred times gives.
        start_ms, end_ms: where the stretch begins and ends.
        embedding: `(K,)` float32, on the CPU.
    """

    time_ms: float
    start_ms: float
    end_ms: float
    embedding: Tensor


class StreamingEmbedder:
    """Embeds a stream of samples piece by piece.

    `mode="windows"`, for every model: every `hop_seconds`, the scene embedding of the last
    `window_seconds`, normalised on their own. It is what `model.scene` gives for that stretch. The delay is
    at most the hop and the time of computing.

    `mode="stateful"`, for causal models (SSAM): one row for each time step, 40 ms for the published
    sizes, as soon as its samples have arrived. The states of convolution and scan are carried from step to
    step, so nothing is computed twice. Rows are those of a forward pass over the whole sequence. They are not
    smoothed as timestamp embeddings are, because smoothing needs later rows. The delay is one step and half an
    analysis window (12.5 ms).

    Args:
        model: what `load_model` returned.
        mode: see above.
        hop_seconds: "windows": time between two embeddings; by default `window_seconds`.
        window_seconds: "windows": how far each looks back; by default the model's window.
        statistics: "stateful", for models that normalise clips: mean and standard deviation of the
            log-mel spectrogram, or "running" for those of the stream so far.
        restart_seconds: "stateful": start again after this long, as the model does after each window; by
            default the model's window. `math.inf` never does; the model was not trained on such lengths.

    Raises:
        ConfigError: the model cannot do the mode, or a number is not allowed.
    """

    def __init__(
        self,
        model: AudioEmbedder,
        *,
        mode: Literal["windows", "stateful"] = "windows",
        hop_seconds: float | None = None,
        window_seconds: float | None = None,
        statistics: tuple[float, float] | Literal["running"] = "running",
        restart_seconds: float | None = None,
    ) -> None:
        own = model.window_frames * model.features.hop_length / model.sample_rate
        if mode == "windows":
            window = own if window_seconds is None else _seconds(window_seconds, "window_seconds")
            hop = window if hop_seconds is None else _seconds(hop_seconds, "hop_seconds")
            if max(window, hop) > MAX_WINDOW_SECONDS:
                raise ConfigError(
                    f"window_seconds, hop_seconds: {window:g}, {hop:g}, expected at most {MAX_WINDOW_SECONDS}"
                )
            self._stream: _Stream = _Windows(model, hop, window)
        elif mode == "stateful":
            encoder = model.encoder
            if model.compat is not None or not isinstance(encoder, Streamable):
                raise ConfigError(
                    f"mode: {model.config.variant} is not causal and cannot be 'stateful'; use 'windows'"
                )
            restart = own if restart_seconds is None else _seconds(restart_seconds, "restart_seconds")
            self._stream = _Stateful(model, encoder, statistics, restart)
        else:
            raise ConfigError(f"mode: {shown(mode)} is not one of 'windows', 'stateful'")

    def push(self, samples: Tensor | np.ndarray) -> list[StreamedEmbedding]:
        """Take the next samples and return the embeddings they complete.

        Args:
            samples: `(n,)` floating point in [-1, 1] at the model's sample rate, n ≥ 0.

        Returns:
            Embeddings in order of time; often none.

        Raises:
            InputError: see `hear_audiomamba.embedding.inputs.check_audio`.
        """
        samples = check_clip(samples, least=0)
        return self._stream.push(samples.detach()) if len(samples) else []

    def finish(self) -> list[StreamedEmbedding]:
        """End the stream, and return the embeddings of its last samples. A later push starts a new stream."""
        return self._stream.finish()


class _Stream(ABC):
    @abstractmethod
    def push(self, samples: Tensor) -> list[StreamedEmbedding]: ...

    @abstractmethod
    def finish(self) -> list[StreamedEmbedding]: ...


class _Windows(_Stream):
    """The scene embedding of the last window at every hop."""

    def __init__(self, model: AudioEmbedder, hop_seconds: float, window_seconds: float) -> None:
        self._model = model
        self._hop = max(1, round(hop_seconds * model.sample_rate))
        self._window = max(1, round(window_seconds * model.sample_rate))
        self._reset()

    def _reset(self) -> None:
        self._held = torch.zeros(
            0, dtype=torch.float32
        )  # the end of the stream, beginning at sample `_held_from`
        self._held_from = 0
        self._n_samples = self._last_end = 0

    def push(self, samples: Tensor) -> list[StreamedEmbedding]:
        self._held = torch.cat([self._held, samples.cpu()])
        self._n_samples += len(samples)
        embeddings = []
        while self._last_end + self._hop <= self._n_samples:
            embeddings.append(self._embed(self._last_end + self._hop))
        keep_from = max(0, self._n_samples - self._window)  # the stream may end here
        self._held = self._held[keep_from - self._held_from :].clone()
        self._held_from = keep_from
        return embeddings

    def finish(self) -> list[StreamedEmbedding]:
        rest = [self._embed(self._n_samples)] if self._n_samples > self._last_end else []
        self._reset()
        return rest

    def _embed(self, end: int) -> StreamedEmbedding:
        start = max(0, end - self._window)
        scene = self._model.scene(self._held[None, start - self._held_from : end - self._held_from])
        self._last_end = end
        to_ms = 1000.0 / self._model.sample_rate
        middle = (start + end) / 2
        return StreamedEmbedding(middle * to_ms, start * to_ms, end * to_ms, scene[0].cpu())


class _Stateful(_Stream):
    """One row for each time step, by the encoder's recurrence."""

    def __init__(
        self,
        model: AudioEmbedder,
        encoder: Streamable,
        statistics: tuple[float, float] | Literal["running"],
        restart_seconds: float,
    ) -> None:
        self._model, self._encoder = model, encoder
        self._fixed = None if statistics == "running" else _two_numbers(statistics)
        self._step = encoder.step
        to_ms = 1000.0 / model.sample_rate
        hop_ms = model.features.hop_length * to_ms
        self._step_ms = self._step * hop_ms
        self._first_ms = model.features.frame_center * to_ms + self._encoder.first_center * hop_ms
        self._restart: int | None = None
        if not math.isinf(restart_seconds):
            self._restart = max(1, round(1000.0 * restart_seconds / self._step_ms))
        self._reset()

    def _reset(self) -> None:
        self._spectrogram = SpectrogramStream(self._model.features)
        self._running = RunningStatistics()
        n_mels = self._model.features.n_mels
        self._frames = torch.zeros(0, n_mels, dtype=torch.float32, device=self._model.device)
        self._states: list[MixerState] | None = None
        self._n_steps = 0

    @torch.inference_mode()
    def push(self, samples: Tensor) -> list[StreamedEmbedding]:
        return self._encode(self._spectrogram.push(samples.to(self._model.device)))

    @torch.inference_mode()
    def finish(self) -> list[StreamedEmbedding]:
        n_samples = self._spectrogram.n_samples
        embeddings = []
        if n_samples:
            embeddings = self._encode(self._spectrogram.finish())
            missing = self._model.count_rows(n_samples) - self._n_steps
            if missing > 0:  # a last step whose centre is within the audio, but not all of its frames
                n_pad = missing * self._step - len(self._frames)
                pad_value = self._model.features.pad_value
                embeddings += self._encode_steps(F.pad(self._frames, (0, 0, 0, n_pad), value=pad_value))
        self._reset()
        return embeddings

    def _encode(self, frames: Tensor) -> list[StreamedEmbedding]:
        frames = self._normalized(frames)
        self._frames = torch.cat([self._frames, frames])
        n_ready = len(self._frames) // self._step * self._step
        ready, self._frames = self._frames[:n_ready], self._frames[n_ready:]
        return self._encode_steps(ready)

    def _encode_steps(self, frames: Tensor) -> list[StreamedEmbedding]:
        embeddings = []
        while len(frames):
            within = self._n_steps if self._restart is None else self._n_steps % self._restart
            if within == 0:
                self._states = None
            n_steps = len(frames) // self._step
            if self._restart is not None:
                n_steps = min(n_steps, self._restart - within)
            piece, frames = frames[: n_steps * self._step], frames[n_steps * self._step :]
            tokens = self._encoder.embed_next(piece[None], within)
            tokens, self._states = self._encoder.step_tokens(tokens, self._states)
            n_special = self._encoder.n_special if within == 0 else 0
            rows = tokens[0, n_special:].float().reshape(n_steps, -1).cpu()
            for index, row in enumerate(rows, self._n_steps):
                middle = self._first_ms + index * self._step_ms
                start, end = middle - self._step_ms / 2, middle + self._step_ms / 2
                embeddings.append(StreamedEmbedding(middle, max(0.0, start), end, row))
            self._n_steps += n_steps
        return embeddings

    def _normalized(self, frames: Tensor) -> Tensor:
        if not self._model.features.clip_normalized:
            return frames
        if self._fixed is not None:
            mean, std = self._fixed
            return (frames - mean) / (std + 1e-8)
        self._running.update(frames)
        return self._running.normalize(frames)


def _two_numbers(statistics: object) -> tuple[float, float]:
    expected = '"running" or a mean and a standard deviation of at least 0'
    if not isinstance(statistics, (tuple, list)) or len(statistics) != 2:
        raise ConfigError(f"statistics: {shown(statistics)} is not {expected}")
    mean, std = (check_number(value, "statistics", expected) for value in statistics)
    if not 0 <= std < math.inf or math.isinf(mean):
        raise ConfigError(f"statistics: {shown(statistics)} is not {expected}")
    return float(mean), float(std)


def clip_statistics(model: AudioEmbedder, audio: Tensor | np.ndarray) -> tuple[float, float]:
    """Return mean and standard deviation of a recording's log-mel spectrogram.

    Args:
        model: whose front end.
        audio: `(n,)` in [-1, 1] at the model's sample rate, for instance a minute of what is to come.

    Returns:
        The two values `StreamingEmbedder(statistics=...)` takes.

    Raises:
        InputError: see `hear_audiomamba.embedding.inputs.check_audio`.
    """
    statistics = RunningStatistics()
    stream = SpectrogramStream(model.features)
    audio = check_clip(audio).to(model.device)
    with torch.inference_mode():
        for piece in audio.split(30 * model.sample_rate):
            statistics.update(stream.push(piece))
        statistics.update(stream.finish())
    return statistics.mean, statistics.std


def _seconds(value: object, name: str) -> float:
    seconds = check_number(value, name, "a positive number of seconds")
    if not seconds > 0:
        raise ConfigError(f"{name}: {seconds!r} is not a positive number of seconds")
    return seconds
