"""Samples at positions of the training stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ...errors import AudioReadError, DataError
from ..config import AugmentConfig, DataConfig
from .augment import augment, draw_speed
from .clips import Clips
from .masking import MaskSampler
from .order import MIX, TRAIN, VALID, Order, generator
from .reading import read_crop, read_logmel, tile
from .targets import Targets

_ATTEMPTS = 50


class Crops(Dataset[dict[str, Any]]):
    """Crops of a corpus, with the masks and targets that belong to them.

    A clip that cannot be read is replaced by another one, and its name travels in the sample's
    `skipped`, so that the run can count and log it.

    Args:
        clips: the corpus.
        order: which clip stands at a position.
        data: crop length and what to do with short clips.
        sample_rate: Hz of the crops.
        n_frames: frames of a crop before they are fitted to the encoder, for corpora of log-mels.
        masks: draws the masks (a list of samplers draws one mask for each), or none.
        augmentation: changes of the waveform; None for validation.
        targets: teachers' embeddings; then `clips` is their list of crops, each with its own start.
        jitter_seconds: listed crops start at most so much earlier or later in training.
        n_mels: mel bins that stored log-mels must have; None takes any.
    """

    def __init__(
        self,
        clips: Clips,
        order: Order,
        data: DataConfig,
        sample_rate: int,
        n_frames: int,
        masks: list[MaskSampler],
        *,
        augmentation: AugmentConfig | None = None,
        targets: Targets | None = None,
        jitter_seconds: float = 0.0,
        n_mels: int | None = None,
    ) -> None:
        self.clips, self.order, self.data = clips, order, data
        self.n_mels = n_mels
        self.sample_rate, self.n_frames = sample_rate, n_frames
        self.n_samples = round(data.crop_seconds * sample_rate)
        self.masks, self.augmentation, self.targets = masks, augmentation, targets
        self.jitter_seconds = jitter_seconds
        self._stream = VALID if augmentation is None else TRAIN

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> dict[str, Any]:
        rng = generator(self.order.seed, self._stream, position)
        skipped = []
        index = self.order.clip(position)
        for attempt in range(_ATTEMPTS):
            try:
                sample = self._sample(index, position, rng)
                break
            except AudioReadError as error:
                skipped.append((self.clips.paths[index], str(error)))
                index = self.order.substitute(position, attempt)
                rng = generator(self.order.seed, self._stream, position, attempt + 1)
        else:
            raise DataError(f"{_ATTEMPTS} clips in a row could not be read; the last one: {skipped[-1][1]}")
        for number, sampler in enumerate(self.masks):
            sample[f"mask{number or ''}"] = sampler.draw(rng)
        if self.clips.labels is not None:
            sample["labels"] = self._labels(self.clips.labels[index])
            if self.augmentation is not None and rng.random() < self.augmentation.mixup:
                self._mix_up(sample, position, rng, self.clips.labels, self.augmentation.mixup_alpha)
        if self.targets is not None:
            for name, row in self.targets.rows(index).items():
                sample[f"target_{name}"] = row
        sample["chance"] = rng.random(12).astype(np.float32)  # for decisions on the training device
        sample["skipped"] = skipped
        return sample

    def known_shares(self, n: int) -> dict[str, float]:
        """Return how many of the first `n` crops each teacher knows, as a share; empty without teachers."""
        if self.targets is None:
            return {}
        first = [self.order.clip(position) for position in range(min(n, len(self)))]
        return {
            name: 1.0 - float(np.isnan(teacher.values[first, 0]).mean())
            for name, teacher in self.targets.teachers.items()
        }

    def seconds(self, position: int) -> float:
        """Return how long the crop at a position is, NaN where the corpus does not tell."""
        return float(min(self.clips.seconds[self.order.clip(position)], self.data.crop_seconds))

    def _sample(self, index: int, position: int, rng: np.random.Generator) -> dict[str, Any]:
        if self.clips.format == "logmel":
            return self._log_mel(index, None if self._stream == VALID else rng)
        if self.targets is not None:
            start = self.targets.start_seconds[index]
            if self.jitter_seconds and self._stream == TRAIN:
                start = max(0.0, start + rng.uniform(-1, 1) * self.jitter_seconds)
            samples = self._read(index, None, start_seconds=float(start))
        else:
            config = self.augmentation
            speed = draw_speed(config, rng) if config is not None and config.speed else 1.0
            starts = self.clips.starts
            if starts is None or np.isnan(self.clips.seconds[index]):
                samples = self._read(index, rng, speed=speed)
            else:
                samples = self._stretch(index, starts, rng)
        length = len(samples)
        if self.data.short_clips == "tile":
            samples = tile(samples, self.n_samples)
            length = self.n_samples
        if self.augmentation is not None:
            samples[:length] = augment(
                samples[:length], self.sample_rate, self.augmentation, rng,
                lambda: tile(self._other(position), length),
            )  # fmt: skip
        padded = np.zeros(self.n_samples, dtype=np.float32)
        padded[:length] = samples[:length]
        return {"audio": padded, "length": length}

    def _stretch(self, index: int, starts: NDArray[np.float64], rng: np.random.Generator) -> np.ndarray:
        """Read from a clip that is a stretch of its file: a random place of it, in validation its beginning."""
        start, seconds = float(starts[index]), float(self.clips.seconds[index])
        crop = self.n_samples / self.sample_rate
        if self._stream == TRAIN:
            start += rng.uniform(0.0, max(0.0, seconds - crop))
        n_samples = max(1, round(min(seconds, crop) * self.sample_rate))
        return read_crop(
            self._source(index),
            n_samples,
            self.sample_rate,
            name=self.clips.paths[index],
            start_seconds=start,
        )

    def _log_mel(self, index: int, rng: np.random.Generator | None) -> dict[str, Any]:
        crop = read_logmel(self._source(index), self.n_frames, rng, self.clips.paths[index])
        if self.n_mels not in (None, crop.shape[1]):
            raise AudioReadError(
                f"{self.clips.paths[index]}: {crop.shape[1]} mel bins, but the model takes {self.n_mels}"
            )
        length = len(crop) if self.data.short_clips == "pad" else self.n_frames
        # The rows behind `length` count for nothing: what stands there is only to make batches.
        return {"features": tile(crop, self.n_frames), "length": length}

    def _read(self, index: int, rng: np.random.Generator | None, **place: float) -> np.ndarray:
        source = self._source(index)
        return read_crop(source, self.n_samples, self.sample_rate, rng, name=self.clips.paths[index], **place)

    def _labels(self, own: tuple[int, ...]) -> np.ndarray:
        labels = np.zeros(len(self.clips.label_names), dtype=np.float32)
        labels[list(own)] = 1.0
        return labels

    def _mix_up(
        self,
        sample: dict[str, Any],
        position: int,
        rng: np.random.Generator,
        labels: list[tuple[int, ...]],
        alpha: float,
    ) -> None:
        """Blend another clip and its labels into a sample; clips come as the order draws them."""
        share = np.float32(rng.beta(alpha, alpha))
        index = self.order.partner(rng)
        key = "audio" if "audio" in sample else "features"  # padding: silence, or a log-mel over again
        try:
            other = self._sample(index, position, rng)[key]
        except AudioReadError:
            return
        sample[key] = share * sample[key] + (1 - share) * other
        sample["labels"] = share * sample["labels"] + (1 - share) * self._labels(labels[index])

    def _other(self, position: int) -> np.ndarray:
        """Return a crop of any clip to mix in; one that cannot be read is silence, and is met elsewhere."""
        rng = generator(self.order.seed, MIX, position)
        index = self.order.partner(rng)
        try:
            return self._read(index, rng)
        except AudioReadError:
            return np.zeros(1, dtype=np.float32)

    def _source(self, index: int) -> Path | bytes:
        if self.clips.members is not None:
            try:
                return self.clips.members[index].read()
            except OSError as error:
                raise AudioReadError(f"{self.clips.paths[index]}: {error}") from None
        return self.clips.root / self.clips.paths[index]
