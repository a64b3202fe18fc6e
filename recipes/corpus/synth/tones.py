"""Plain signals: tones, harmonic sounds, glides, beeps, pulses and shaped noise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..recipe import SynthSource
from .sound import SAMPLE_RATE, Sound, levelled

KINDS = ("sine", "harmonic", "glide", "vibrato", "beeps", "two", "noise", "pulses")


def tones(source: SynthSource, work: Path) -> Iterator[Sound]:
    """Yield two-second signals, labelled by kind and, where there is one pitch, its nearest key."""
    del work
    for index in range(source.count):
        rng = np.random.default_rng((source.seed, index))
        kind = KINDS[index % len(KINDS)]
        samples, labels = _signal(kind, rng)
        yield Sound(f"{source.name}-{index:05d}", levelled(samples), (f"signal:{kind}", *labels))


def _signal(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, tuple[str, ...]]:
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    key = float(rng.uniform(36, 96))
    frequency = 440.0 * 2 ** ((key - 69) / 12)
    pitch = (f"note:{round(key)}", f"chroma:{round(key) % 12}")
    envelope = np.minimum(1.0, time / rng.uniform(0.002, 0.3)) * np.exp(-time * rng.choice((0.0, 1.0, 4.0)))
    if kind == "noise":
        spectrum = np.fft.rfft(rng.standard_normal(len(time)))
        hertz = np.fft.rfftfreq(len(time), 1 / SAMPLE_RATE)
        centre, width = rng.uniform(5.5, 12.5), rng.uniform(0.3, 4.0)
        shape = np.exp(-0.5 * ((np.log2(hertz + 1) - centre) / width) ** 2)
        return np.fft.irfft(spectrum * shape, len(time)) * envelope, (f"centre:{round(centre)}",)
    if kind == "pulses":
        rate = float(np.exp(rng.uniform(np.log(1.5), np.log(25))))
        samples = np.zeros(len(time))
        samples[(np.arange(0, 2, 1 / rate) * SAMPLE_RATE).astype(int)] = 1.0
        ring = np.exp(-np.arange(800) / rng.uniform(5, 200)) * rng.standard_normal(800)
        return np.convolve(samples, ring)[: len(time)], (f"rate:{round(2 * np.log2(rate))}",)
    if kind == "glide":
        target = frequency * 2 ** rng.uniform(-1.5, 1.5)
        phase = 2 * np.pi * np.cumsum(np.geomspace(frequency, target, len(time))) / SAMPLE_RATE
        return _harmonics(phase, rng) * envelope, ("glide:up" if target > frequency else "glide:down",)
    if kind == "vibrato":
        wobble = rng.uniform(0.005, 0.05) * np.sin(2 * np.pi * rng.uniform(3, 9) * time)
        return _harmonics(
            2 * np.pi * np.cumsum(frequency * (1 + wobble)) / SAMPLE_RATE, rng
        ) * envelope, pitch
    if kind == "two":
        other = frequency * 2 ** (rng.integers(1, 20) / 12)
        return np.sin(2 * np.pi * frequency * time) + np.sin(2 * np.pi * other * time), ()
    if kind == "beeps":
        gate = (time * rng.uniform(1, 12)) % 1.0 < rng.uniform(0.2, 0.8)
        return np.sin(2 * np.pi * frequency * time) * gate, pitch
    phase = 2 * np.pi * frequency * time
    return (np.sin(phase) if kind == "sine" else _harmonics(phase, rng)) * envelope, pitch


def _harmonics(phase: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    slope = rng.uniform(0.3, 2.5)
    step = int(rng.choice((1, 1, 2)))
    orders = np.arange(1, 20, step)
    # Partials above half the sample rate would fold back; the phase increment tells which those are.
    steepest = float(np.diff(phase).max())
    return sum(np.sin(phase * order) / order**slope for order in orders if order * steepest < np.pi)
