"""AudioSet labels of recordings, by models that carry a tagging head: windows in, probabilities out."""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from importlib import resources

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import check_whole
from ..encoders.base import Tagger
from ..errors import ConfigError
from ..models.families import has_tagging_head
from ..models.registry import VARIANTS
from .embedder import AudioEmbedder
from .inputs import check_clip, check_sample_rate

CLIP_SECONDS = 10.0  # AudioSet's clips, which most tagging heads were trained on
_WINDOWS_AT_ONCE = 4


@dataclass(frozen=True)
class Tags:
    """The tags of one recording.

    Attributes:
        labels: names of the classes, C of them.
        probabilities: `(C,)` float32, the probability that the class is heard anywhere in the recording;
            the highest one of several windows.
        times: `(t,)` float64, seconds, centre of each row of `frames`.
        frames: `(t, C)` float32, probabilities over time.
        n_windows: windows the recording was cut into.
    """

    labels: tuple[str, ...]
    probabilities: np.ndarray
    times: np.ndarray
    frames: np.ndarray
    n_windows: int

    def top(self, k: int) -> list[tuple[int, str, float]]:
        """Return class index, name and probability of the k most probable classes, best first.

        Raises:
            InputError: k is no whole number of at least 1.
        """
        k = check_whole(k, "k")
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(int(i), self.labels[i], float(self.probabilities[i])) for i in order]


@functools.cache
def audioset_classes() -> tuple[tuple[str, str], ...]:
    """Return the 527 AudioSet classes in the order of model outputs: (ontology id, name).

    Source: class_labels_indices.csv of AudioSet, CC BY 4.0; see labels/SOURCE.txt.
    """
    table = resources.files(__package__).joinpath("labels/audioset.csv")
    with table.open(encoding="utf-8") as file:
        return tuple((row["mid"], row["display_name"]) for row in csv.DictReader(file))


def class_names(n_classes: int, labels: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return names for a head's outputs: those of the weights, or AudioSet's of 527, else "class 0" and so on."""
    if len(labels) == n_classes:
        return labels
    known = audioset_classes()
    if n_classes == len(known):
        return tuple(name for _, name in known)
    return tuple(f"class {i}" for i in range(n_classes))


def no_head_error(model: AudioEmbedder) -> ConfigError:
    """Return the error for a model that cannot tag; it names those that can."""
    able = [name for name, variant in VARIANTS.items() if has_tagging_head(variant.config)]
    return ConfigError(f"{model.config.variant} has no tagging head; models with one: {', '.join(able)}")


@torch.no_grad()
def tag_audio(model: AudioEmbedder, audio: Tensor | np.ndarray, sample_rate: int) -> Tags:
    """Tell what is heard in a recording.

    A recording no longer than the head's training clip (10.24 s for most) is one window, padded with silence
    to the clip's length; a longer one is cut into windows of that length, the last of which ends with the
    recording.

    Args:
        model: what `load_model` returned; it must have a tagging head.
        audio: `(S,)` float in [-1, 1], S ≥ 1.
        sample_rate: of the audio, Hz; must be `model.sample_rate`.

    Returns:
        See `Tags`.

    Raises:
        ConfigError: the model has no tagging head.
        InputError: another sample rate, or audio that `check_audio` refuses.
    """
    tagger = model.encoder
    if not isinstance(tagger, Tagger) or not tagger.num_classes:
        raise no_head_error(model)
    classes = tagger.num_classes
    check_sample_rate(sample_rate, model.sample_rate)
    samples = check_clip(audio)
    starts, length = tag_windows(model, tagger, len(samples))
    kept: list[np.ndarray] = []
    times: list[np.ndarray] = []
    best = np.zeros(classes, dtype=np.float32)
    covered = 0.0
    for first in range(0, len(starts), _WINDOWS_AT_ONCE):
        batch = starts[first : first + _WINDOWS_AT_ONCE]
        clip, frames = _tag(model, tagger, torch.stack([samples[s : s + length] for s in batch]))
        best = np.maximum(best, clip.max(axis=0))
        for start, rows in zip(batch, frames):
            at = _row_times(model, tagger, start, length, len(rows))
            fresh = (at >= covered) & (at < len(samples) / sample_rate)
            if not kept:
                fresh[0] = True  # a clip shorter than half a row still has one
            kept.append(rows[fresh])
            times.append(at[fresh])
            covered = (start + length) / sample_rate
    names = class_names(classes, model.config.labels)
    return Tags(names, best, np.concatenate(times), np.concatenate(kept), len(starts))


def tag_windows(model: AudioEmbedder, tagger: Tagger, n_samples: int) -> tuple[list[int], int]:
    """Return where the windows of a recording of `n_samples` start and how long they are, in samples."""
    longest = tagger.tag_frames * model.features.hop_length
    if n_samples <= longest:
        return [0], n_samples
    length = min(round(CLIP_SECONDS * model.sample_rate), longest)
    starts = list(range(0, n_samples - length, length))
    return [*starts, n_samples - length], length


def tag_input(model: AudioEmbedder, tagger: Tagger, features: Tensor) -> Tensor:
    """Return spectrograms `(n, T, F)` as `tagger.tag` takes them: cut off or padded as in training."""
    features = features[:, : tagger.tag_frames]
    missing = max(0, tagger.tag_padding - features.shape[1])
    return F.pad(features, (0, 0, 0, missing), value=model.features.pad_value)


def tag_probabilities(model: AudioEmbedder, logits: Tensor) -> Tensor:
    """Return the probabilities `(…, C)` float32 of a tagging head's logits."""
    return logits.float().softmax(-1) if model.config.single_label else logits.float().sigmoid()


def _tag(model: AudioEmbedder, tagger: Tagger, windows: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return clip probabilities `(n, C)` and rows `(n, t, C)` of windows no longer than a training clip."""
    features = tag_input(model, tagger, model.features(windows.to(model.device)))
    clips, rows = (torch.cat(logits) for logits in zip(*model.in_pieces(features, tagger.tag)))
    return tag_probabilities(model, clips).cpu().numpy(), tag_probabilities(model, rows).cpu().numpy()


def _row_times(model: AudioEmbedder, tagger: Tagger, start: int, length: int, n_rows: int) -> np.ndarray:
    """Return the centres of a window's rows in seconds."""
    frames = max(tagger.tag_padding, length // model.features.hop_length)
    seconds = min(frames, tagger.tag_frames) * model.features.hop_length / model.sample_rate
    return start / model.sample_rate + (np.arange(n_rows) + 0.5) * seconds / n_rows
