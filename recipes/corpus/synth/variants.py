"""Variants of a corpus's own recordings: faster or slower, filtered, in a room, over another recording.

A few hours of free effects and voices become many kinds of both, and the teachers hear each variant itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hear_audiomamba.errors import AudioReadError, DataError
from hear_audiomamba.pretrain.data.augment import add_at_snr, coloured_noise, reverberate

from ..decode import decode
from ..manifest import Clip, Label, read_table
from ..recipe import SynthSource
from .sound import SAMPLE_RATE, Sound, levelled

SECONDS = 2.0
# Labels that stay true at another speed; those of pitch are moved along, all others are dropped.
SURVIVING = (
    "word", "syllable", "initial", "language", "program", "drum", "signal", "chord", "tone", "rate", "texture"
)  # fmt: skip
PITCHED = ("note", "root", "chroma")
CLEAR_DB = 8.0


def variants(source: SynthSource, work: Path, corpus: Path) -> Iterator[Sound]:
    """Yield variants of training clips, with the labels that are still true of them.

    Args:
        source: `voices` holds `prefix:share` for groups of sources, such as `effect:3`; each group gives
            its share of the `count` variants.
        work: not used.
        corpus: the corpus folder; its sources so far, without other variants.

    Raises:
        DataError: no clip belongs to any group.
    """
    del work
    groups = _groups(source, corpus)
    labels: dict[str, list[str]] = {}
    for row in read_table(corpus / "labels.csv", Label):
        labels.setdefault(row.path, []).append(row.label)
    names = list(groups)
    odds = np.array([groups[name][0] for name in names])
    for index in range(source.count):
        rng = np.random.default_rng((source.seed, index))
        chosen = [groups[names[i]][1] for i in rng.choice(len(names), size=2, p=odds / odds.sum())]
        clip, other = (clips[rng.integers(len(clips))] for clips in chosen)
        try:
            samples, kept = _variant(corpus, clip, other, labels.get(clip.path, []), rng)
        except AudioReadError:
            continue
        if np.abs(samples).max(initial=0.0) > 1e-3:
            yield Sound(f"{source.name}-{index:06d}", levelled(samples), tuple(kept))


def _groups(source: SynthSource, corpus: Path) -> dict[str, tuple[float, list[Clip]]]:
    """Return share and clips of each group that has any."""
    shares = {name: float(share) for name, _, share in (voice.partition(":") for voice in source.voices)}
    groups: dict[str, tuple[float, list[Clip]]] = {}
    for clip in read_table(corpus / "manifest.csv", Clip):
        fitting = [name for name in shares if clip.source.startswith(name)]
        if fitting and clip.split == source.split:
            name = max(fitting, key=len)
            groups.setdefault(name, (shares[name], []))[1].append(clip)
    if not groups:
        raise DataError(f"source {source.name}: the corpus has no clips of {', '.join(shares)} yet")
    return groups


def _variant(
    corpus: Path, clip: Clip, other: Clip, labels: list[str], rng: np.random.Generator
) -> tuple[np.ndarray, list[str]]:
    # By whole semitones, so that a note stays a note.
    semitones = int(rng.integers(-7, 8)) if rng.random() < 0.75 else 0
    samples = _stretch(corpus, clip, 2.0 ** (semitones / 12), rng)
    kept = [moved for label in labels if (moved := _moved(label, semitones)) is not None]
    if rng.random() < 0.5:
        samples = _tilted(samples, rng.uniform(-6, 6))
    if rng.random() < 0.35:
        snr_db = float(rng.uniform(-3, 15))
        background = _stretch(corpus, other, 1.0, rng)
        samples = add_at_snr(samples, np.resize(background, len(samples)), snr_db)
        kept = kept if snr_db >= CLEAR_DB else []
    if rng.random() < 0.25:
        samples = reverberate(samples, SAMPLE_RATE, rng.uniform(0.1, 0.8), rng)
    if rng.random() < 0.2:
        samples = add_at_snr(
            samples, coloured_noise(len(samples), rng.uniform(0, 2), rng), rng.uniform(5, 30)
        )
    return samples, kept


def _stretch(corpus: Path, clip: Clip, speed: float, rng: np.random.Generator) -> np.ndarray:
    """Return at most two seconds from anywhere in a clip, played `speed` times as fast."""
    import soxr

    length = SECONDS * speed
    start = float(rng.uniform(0, max(0.0, clip.seconds - length)))
    samples = decode(corpus / clip.path, SAMPLE_RATE, start, length if clip.seconds > length else None)
    if not len(samples):
        raise AudioReadError(f"{clip.path}: nothing at {start:.2f} s")
    if speed != 1.0:
        samples = soxr.resample(samples, SAMPLE_RATE * speed, SAMPLE_RATE)
    return samples[: int(SECONDS * SAMPLE_RATE)]


def _moved(label: str, semitones: int) -> str | None:
    group, _, value = label.partition(":")
    if group in PITCHED:
        pitch = int(value) + semitones
        return f"{group}:{pitch if group == 'note' else pitch % 12}"
    return label if group in SURVIVING else None


def _tilted(samples: np.ndarray, db_per_octave: float) -> np.ndarray:
    """Return the samples with a spectrum that rises or falls around 1 kHz, by at most 24 dB."""
    spectrum = np.fft.rfft(samples)
    octaves = np.log2(np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE).clip(20) / 1000)
    gain = 10 ** ((db_per_octave * octaves).clip(-24, 24) / 20)
    return np.fft.irfft(spectrum * gain, len(samples)).astype(np.float32)
