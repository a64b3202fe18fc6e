"""Changes of the waveform during training: gain, noise, another clip on top, an echo.

Speed is changed while a crop is read (`reading.read_crop`), where it costs nothing more.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..config import AugmentConfig


def draw_speed(config: AugmentConfig, rng: np.random.Generator) -> float:
    """Return the factor to play a crop faster by, 1 for most crops; even in the logarithm."""
    if rng.random() >= config.speed:
        return 1.0
    low, high = np.log(config.speed_range)
    return float(np.exp(rng.uniform(low, high)))


def augment(
    samples: np.ndarray,
    sample_rate: int,
    config: AugmentConfig,
    rng: np.random.Generator,
    other: Callable[[], np.ndarray] | None = None,
) -> np.ndarray:
    """Return a crop after the changes that chance gives it.

    Args:
        samples: `(S,)` float32.
        sample_rate: Hz.
        config: probabilities and ranges.
        rng: decides.
        other: reads another crop of S samples, for mixing.

    Returns:
        `(S,)` float32, scaled down where it would leave [-1, 1].
    """
    if config.mix and rng.random() < config.mix and other is not None:
        samples = add_at_snr(samples, other(), rng.uniform(*config.mix_snr_db))
    if config.reverb and rng.random() < config.reverb:
        samples = reverberate(samples, sample_rate, rng.uniform(*config.reverb_seconds), rng)
    if config.noise and rng.random() < config.noise:
        noise = coloured_noise(len(samples), rng.uniform(0.0, 2.0), rng)
        samples = add_at_snr(samples, noise, rng.uniform(*config.noise_snr_db))
    if config.gain and rng.random() < config.gain:
        samples = samples * np.float32(10.0 ** (rng.uniform(-config.gain_db, config.gain_db) / 20.0))
    peak = np.abs(samples).max(initial=0.0)
    return (samples / peak if peak > 1.0 else samples).astype(np.float32, copy=False)


def add_at_snr(samples: np.ndarray, other: np.ndarray, snr_db: float) -> np.ndarray:
    """Return `samples` plus `other` scaled to lie `snr_db` decibels below (in mean power)."""
    power, other_power = float(np.mean(samples**2)), float(np.mean(other**2))
    if power == 0.0 or other_power == 0.0:
        return samples
    return samples + other * np.float32(np.sqrt(power / other_power) * 10.0 ** (-snr_db / 20.0))


def coloured_noise(n_samples: int, slope: float, rng: np.random.Generator) -> np.ndarray:
    """Return Gaussian noise whose power falls as frequency to the `slope`: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(n_samples, dtype=np.float32))
    scale = np.arange(len(spectrum), dtype=np.float32)
    scale[0] = 1.0
    return np.fft.irfft(spectrum * scale ** (-slope / 2), n_samples).astype(np.float32)


def reverberate(
    samples: np.ndarray, sample_rate: int, seconds: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the crop in a made-up room: its own sound and a tail of noise that falls 60 dB in `seconds`."""
    length = max(1, int(seconds * sample_rate))
    tail = rng.standard_normal(length, dtype=np.float32)
    tail *= np.exp(-6.9078 * np.arange(length, dtype=np.float32) / length)
    tail *= np.float32(rng.uniform(0.1, 0.7)) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    size = len(samples) + length - 1  # long enough that nothing wraps around
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail, size), size)
    return wet[: len(samples)].astype(np.float32)
