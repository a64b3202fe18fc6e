"""From a batch of waveforms to the encoder's input, on the training device."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...embedding.timestamps import row_grid
from ...encoders.base import Encoder
from ...frontends.base import Frontend
from ..config import AugmentConfig


def spectrogram(frontend: Frontend, batch: dict[str, Any], n_frames: int) -> Tensor:
    """Return the features of a batch.

    Args:
        frontend: the model's features module.
        batch: "audio" `(B, S)`, or "features" `(B, T, F)` before normalisation; and "length" `(B,)` in
            samples or in frames, on the CPU, so that nothing waits for a GPU.
        n_frames: frames the encoder takes.

    Returns:
        `(B, n_frames, F)` float32. Frames behind the end of a short clip have the front end's padding
        value, and the clip is normalised by its own frames alone.

    Deviates: the published SSAM training normalises by the whole clip a crop is cut from, which needs
        the whole clip; here by the crop, which is what the model sees of a clip of that length.
    """
    if "features" in batch:
        clips, compute = batch["features"].float(), frontend.normalize
    else:
        clips, compute = batch["audio"], frontend
    lengths = batch["length"].tolist()
    if min(lengths) == clips.shape[1]:
        return _fit(compute(clips), n_frames, frontend.pad_value)
    return torch.cat([
        _fit(compute(clip[None, :n]), n_frames, frontend.pad_value) for clip, n in zip(clips, lengths)
    ])  # fmt: skip


def rows_within(frontend: Frontend, encoder: Encoder, batch: dict[str, Any], n_frames: int) -> Tensor:
    """Return how many of the encoder's rows are centred within each clip, as the embedder counts them.

    Args:
        frontend: the model's features module.
        encoder: the model's encoder.
        batch: "length" `(B,)` of each clip before padding, in samples; in frames beside "features".
        n_frames: frames of a crop.

    Returns:
        `(B,)` int64, at least 1, on the CPU.
    """
    length = batch["length"]
    if "features" in batch:  # a clip of as many frames has at least so many samples
        length = (length - 1) * frontend.hop_length + 2 * frontend.frame_center
    first, step = row_grid(frontend, encoder)
    rows: Tensor = ((length - first) / step).floor().long().add(1)
    return rows.clamp(1, encoder.count_rows(n_frames))


def spec_augment(features: Tensor, chance: Tensor, config: AugmentConfig) -> Tensor:
    """Filter each clip, blank one stretch of frames and one of mel bins with the clip's mean, add noise and shift.

    Args:
        features: `(B, T, F)`.
        chance: `(B, 12)` uniform in [0, 1): width and place in time, width and place in frequency, level of the
            noise, shift, and six points of the filter.
        config: `spec_filter`; the widest stretches, `spec_time` and `spec_freq`; `spec_noise` and `spec_shift`. 0
            is none.

    Source: Park et al., SpecAugment, arXiv 1904.08779; Nam et al., FilterAugment, arXiv 2110.03282; noise and shift
        of SSAST's data loader.
    """
    if config.spec_filter:
        features = _filtered(features, chance[:, 6:], config.spec_filter)
    for axis, widest, (width, place) in ((1, config.spec_time, (0, 1)), (2, config.spec_freq, (2, 3))):
        if not widest:
            continue
        size = features.shape[axis]
        span = (chance[:, width] * (min(widest, size) + 1)).floor()
        start = (chance[:, place] * (size - span + 1)).floor()
        index = torch.arange(size, device=features.device)
        hidden = (index >= start[:, None]) & (index < (start + span)[:, None])
        hidden = hidden[:, :, None] if axis == 1 else hidden[:, None, :]
        features = torch.where(hidden, features.mean(dim=(1, 2), keepdim=True), features)
    if config.spec_noise:
        level = chance[:, 4, None, None] * config.spec_noise
        features = features + torch.rand_like(features) * level
    if config.spec_shift:
        frames = features.shape[1]
        moved = (chance[:, 5] * 2 * config.spec_shift).floor().long() - config.spec_shift
        index = (torch.arange(frames, device=features.device) - moved[:, None]) % frames
        features = features.gather(1, index[:, :, None].expand_as(features))
    return features


def _filtered(features: Tensor, chance: Tensor, most: float) -> Tensor:
    """Raise and lower the mel bins of each clip by a line through random points, as another microphone would.

    The line lies within `most` standard deviations of the clip's spectrogram. Its points, `chance`, are spaced evenly
    on the mel axis, the first and the last bin included.
    """
    line = F.interpolate(chance[:, None] * 2 - 1, features.shape[2], mode="linear", align_corners=True)
    return features + most * features.std(dim=(1, 2), keepdim=True) * line


def _fit(features: Tensor, n_frames: int, pad_value: float) -> Tensor:
    missing = n_frames - features.shape[1]
    return F.pad(features, (0, 0, 0, missing), value=pad_value) if missing > 0 else features[:, :n_frames]
