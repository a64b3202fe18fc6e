"""Teachers that are plain signal processing: what a spectrogram holds and a mean over time forgets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .base import Teacher, padded

SAMPLE_RATE = 16000
EPS = 1e-6


class Spectrum(Teacher):
    """Statistics of a 64-band log-mel and a fine chroma.

    Of each band: mean and deviation over time, deviation of the differences, and the means of the three
    thirds of the clip; of each of 12 pitch classes and of 72 semitones from 65 Hz: the mean salience in
    windows of a quarter second, in which neighbouring low notes stand apart.
    """

    name = "spectrum"
    licence = "Apache-2.0"
    source = "hear_audiomamba"
    dim = 64 * 6 + 12 + 72

    def __init__(self, corpus: Path) -> None:
        super().__init__(corpus)
        self.mel = _mel(64, 512)
        self.semitones = _semitones(72, 4096)

    def embed(self, clips: Sequence[np.ndarray], paths: Sequence[str]) -> np.ndarray:
        return np.stack([self._one(clip) for clip in clips])

    def _one(self, samples: np.ndarray) -> np.ndarray:
        log_mel = np.log(_power(samples, 512, 400, 160) @ self.mel + EPS)
        log_mel = (log_mel - log_mel.mean()) / (log_mel.std() + EPS)
        change = np.diff(log_mel, axis=0).std(0) if len(log_mel) > 1 else np.zeros(64)
        thirds = [part.mean(0) if len(part) else log_mel.mean(0) for part in np.array_split(log_mel, 3)]
        fine = np.sqrt(_power(samples, 4096, 4096, 1024)) @ self.semitones
        level = fine / (fine.sum(1, keepdims=True) + EPS)
        salience = np.sqrt(level.mean(0))
        chroma = np.sqrt(level.mean(0).reshape(-1, 12).sum(0))
        return np.concatenate([log_mel.mean(0), log_mel.std(0), change, *thirds, chroma, salience]).astype(
            np.float32
        )


class Contour(Teacher):
    """How the level and the pitch move: modulation of the level at 1–32 Hz, and the pitch contour.

    Of the level of eight bands: how much it moves at 1, 2, 4, 8, 16 and 32 Hz. Of the pitch (by
    autocorrelation, 60–500 Hz): share of voiced frames, mean, deviation, slope, curvature, and the
    means of its start, middle and end, in octaves around the mean.
    """

    name = "contour"
    licence = "Apache-2.0"
    source = "hear_audiomamba"
    dim = 8 * 6 + 8

    def __init__(self, corpus: Path) -> None:
        super().__init__(corpus)
        self.mel = _mel(8, 512)

    def embed(self, clips: Sequence[np.ndarray], paths: Sequence[str]) -> np.ndarray:
        return np.stack(
            [np.concatenate([self._modulation(clip), self._pitch(clip)]) for clip in clips]
        ).astype(np.float32)

    def _modulation(self, samples: np.ndarray) -> np.ndarray:
        level = np.log(_power(samples, 512, 400, 160) @ self.mel + EPS)
        spectrum = np.abs(np.fft.rfft((level - level.mean(0)) * np.hanning(len(level))[:, None], 256, axis=0))
        hertz = np.fft.rfftfreq(256, 0.01)
        rows = [
            spectrum[(hertz >= centre * 0.7) & (hertz < centre * 1.42)].mean(0)
            for centre in (1, 2, 4, 8, 16, 32)
        ]
        return np.log(np.stack(rows) + 1e-2).ravel()

    def _pitch(self, samples: np.ndarray) -> np.ndarray:
        power = _power(samples, 2048, 1024, 320)
        autocorrelation = np.fft.irfft(power, axis=1)[:, : SAMPLE_RATE // 60]
        autocorrelation /= autocorrelation[:, :1] + EPS
        first = SAMPLE_RATE // 500
        # The window's own correlation falls with the lag; without this, short lags would always win.
        lags = np.arange(first, autocorrelation.shape[1])
        scaled = autocorrelation[:, first:] / (1 - lags / 1100)
        best = scaled.argmax(1)
        loud = power.sum(1) > 1e-3 * power.sum(1).max()
        voiced = (scaled[np.arange(len(best)), best] > 0.55) & loud
        share = voiced.sum() / max(1, loud.sum())
        if voiced.sum() < 4:
            return np.array([share, *[0.0] * 7])
        octave = np.log2(SAMPLE_RATE / lags[best[voiced]] / 150.0)
        time = np.linspace(-1, 1, len(octave))
        slope = np.polynomial.polynomial.polyfit(time, octave, 2)
        parts = [part.mean() - octave.mean() for part in np.array_split(octave, 3)]
        return np.array([share, octave.mean(), octave.std(), slope[1], slope[2], *parts])


def _power(samples: np.ndarray, n_fft: int, window: int, hop: int) -> np.ndarray:
    """Return the power spectrum `(frames, n_fft // 2 + 1)` in Hann windows."""
    samples = padded(samples, window + hop)
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    return np.abs(np.fft.rfft(frames * np.hanning(window).astype(np.float32), n_fft, axis=1)) ** 2


def _mel(n_mels: int, n_fft: int) -> np.ndarray:
    hertz = np.linspace(0, SAMPLE_RATE / 2, n_fft // 2 + 1)
    edges = 700 * (
        10 ** (np.linspace(2595 * np.log10(1 + 50 / 700), 2595 * np.log10(1 + 8000 / 700), n_mels + 2) / 2595)
        - 1
    )
    rising = (hertz[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def _semitones(count: int, n_fft: int) -> np.ndarray:
    """Return triangular filters a semitone apart from C2 (65.4 Hz), whose first pitch class is C."""
    hertz = np.linspace(0, SAMPLE_RATE / 2, n_fft // 2 + 1)
    key = 12 * np.log2(np.maximum(hertz, 1e-3) / 65.406)
    return np.maximum(0, 1 - np.abs(key[:, None] - np.arange(count))).astype(np.float32)
