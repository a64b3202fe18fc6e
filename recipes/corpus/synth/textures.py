"""Everyday sounds by rule: rain, fire, engines, bells, birds and the like, out of noise, pulses and resonances.

Free recordings of such sounds are few. These are no match for them, but they are without end, each kind varies widely,
and a teacher that knows everyday sounds hears each one itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from hear_audiomamba.pretrain.data.augment import coloured_noise

from ..recipe import SynthSource
from .sound import SAMPLE_RATE, Sound, levelled

LENGTH = 2 * SAMPLE_RATE
TIME = np.arange(LENGTH) / SAMPLE_RATE
HERTZ = np.fft.rfftfreq(LENGTH, 1 / SAMPLE_RATE)

Rng = np.random.Generator


def textures(source: SynthSource, work: Path) -> Iterator[Sound]:
    """Yield two-second sounds, labelled by kind."""
    del work
    kinds = list(KINDS)
    for index in range(source.count):
        rng = np.random.default_rng((source.seed, index))
        kind = kinds[index % len(kinds)]
        yield Sound(f"{source.name}-{index:05d}", levelled(KINDS[kind](rng)), (f"texture:{kind}",))


# Building blocks. All signals are float64 of shape (LENGTH,) unless said otherwise.


def _between(rng: Rng, low: float, high: float) -> float:
    """Return a number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _noise(rng: Rng, centre: float, octaves: float, slope: float = 0.0) -> np.ndarray:
    """Return noise around `centre` Hz that falls off by a Gaussian `octaves` wide."""
    spectrum = np.fft.rfft(coloured_noise(LENGTH, slope, rng))
    noise = np.fft.irfft(spectrum * np.exp(-0.5 * (np.log2((HERTZ + 1) / centre) / octaves) ** 2), LENGTH)
    return noise / (noise.std() + 1e-12)


def _curve(rng: Rng, rate: float) -> np.ndarray:
    """Return a smooth random curve between 0 and 1 that turns about `rate` times a second."""
    points = rng.random(max(3, int(2 * rate) + 2))
    place = TIME / TIME[-1] * (len(points) - 1)
    left = np.minimum(place.astype(int), len(points) - 2)
    part = 0.5 - 0.5 * np.cos(np.pi * (place - left))
    return points[left] * (1 - part) + points[left + 1] * part


def _moving(rng: Rng, hertz: np.ndarray, width: float) -> np.ndarray:
    """Return a band of noise `width` Hz wide around a frequency that moves, (LENGTH,)."""
    slow = np.fft.irfft(np.fft.rfft(rng.standard_normal(LENGTH)) * (width > HERTZ), LENGTH)
    phase = 2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE
    return slow / (slow.std() + 1e-12) * np.cos(phase)


def _harmonic(hertz: np.ndarray, slope: float, orders: int = 30) -> np.ndarray:
    """Return a periodic sound of a frequency that moves, (LENGTH,), its partials falling as order^-slope."""
    phase = 2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE
    highest = hertz.max()
    return sum(
        np.sin(phase * order) / order**slope
        for order in range(1, orders + 1)
        if order * highest < SAMPLE_RATE / 2
    )


def _resonant(samples: np.ndarray, rng: Rng, low: float, high: float, peaks: int) -> np.ndarray:
    """Return samples through a body with some resonances between two frequencies."""
    gain = np.full(len(HERTZ), 0.05)
    for _ in range(peaks):
        gain += np.exp(-0.5 * (np.log2((HERTZ + 1) / _between(rng, low, high)) / rng.uniform(0.05, 0.4)) ** 2)
    return np.fft.irfft(np.fft.rfft(samples) * gain, LENGTH)


def _struck(rng: Rng, low: float, high: float, decay: tuple[float, float], partials: int) -> np.ndarray:
    """Return a struck body: inharmonic partials, the higher the sooner gone, with the noise of the blow."""
    base, longest = _between(rng, low, high), _between(rng, *decay)
    sound = np.zeros(LENGTH)
    for _ in range(partials):
        hertz = base * _between(rng, 1.0, 9.0)
        if hertz < SAMPLE_RATE / 2:
            sound += rng.random() * np.sin(2 * np.pi * hertz * TIME) * np.exp(-TIME / longest * hertz / base)
    blow = rng.uniform(0.1, 1.0) * rng.standard_normal(LENGTH) * np.exp(-TIME / rng.uniform(0.001, 0.01))
    return sound + blow


def _placed(rng: Rng, times: np.ndarray, grain: Callable[[], np.ndarray], spread: float) -> np.ndarray:
    """Return grains laid down at times in seconds; their levels spread by `spread` dB around one another."""
    sound = np.zeros(2 * LENGTH)
    for time in times:
        start, piece = int(time * SAMPLE_RATE), grain()
        sound[start : start + len(piece)] += piece * 10 ** (rng.normal(0, spread) / 20)
    return sound[:LENGTH]


def _chance(rng: Rng, rate: float) -> np.ndarray:
    """Return times of events that know nothing of one another, `rate` a second."""
    return np.sort(rng.uniform(0, 2, max(1, rng.poisson(2 * rate))))


def _regular(rng: Rng, rate: float, jitter: float = 0.03) -> np.ndarray:
    """Return times of events `rate` a second, each off by a part of the period."""
    times = np.arange(rng.uniform(0, 1 / rate), 2, 1 / rate)
    return np.clip(times + rng.normal(0, jitter / rate, len(times)), 0, 1.99)


def _click(rng: Rng, low: float, high: float, decay: float) -> np.ndarray:
    """Return a short decaying burst that rings at some frequency, (n,)."""
    n = max(32, int(6 * decay * SAMPLE_RATE))
    time = np.arange(n) / SAMPLE_RATE
    ring = np.sin(2 * np.pi * _between(rng, low, high) * time) + 0.5 * rng.standard_normal(n)
    return ring * np.exp(-time / decay)


def _chirp(rng: Rng, start: float, end: float, seconds: float, curve: float = 1.0) -> np.ndarray:
    """Return a sine that glides from one frequency to another under a bell-shaped envelope, (n,)."""
    place = np.linspace(0, 1, max(64, int(seconds * SAMPLE_RATE)))
    hertz = np.minimum(start * (end / start) ** (place**curve), 7800)
    return np.sin(2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE) * np.sin(np.pi * place) ** rng.uniform(0.5, 2)


# The kinds.


def _rain(rng: Rng) -> np.ndarray:
    drops = _placed(
        rng,
        _chance(rng, _between(rng, 60, 800)),
        lambda: _click(rng, 1500, 7000, rng.uniform(3e-4, 3e-3)),
        6,
    )
    return drops / drops.std() + rng.uniform(0.1, 2.0) * _noise(rng, _between(rng, 2000, 6000), 1.0)


def _fire(rng: Rng) -> np.ndarray:
    crackle = _placed(
        rng, _chance(rng, _between(rng, 8, 80)), lambda: _click(rng, 800, 6000, _between(rng, 5e-4, 8e-3)), 9
    )
    roar = _noise(rng, _between(rng, 80, 500), 1.2) * (0.3 + _curve(rng, 4))
    return crackle / crackle.std() + rng.uniform(0.1, 1.0) * roar


def _wind(rng: Rng) -> np.ndarray:
    pitch = _between(rng, 150, 900) * 2 ** (1.5 * _curve(rng, rng.uniform(0.5, 3)))
    gusts = 0.1 + _curve(rng, rng.uniform(0.5, 4)) ** 2
    return (_moving(rng, pitch, _between(rng, 30, 300)) + 0.5 * _noise(rng, 300, 1.5)) * gusts


def _sea(rng: Rng) -> np.ndarray:
    swell = np.sin(np.pi * ((TIME * rng.uniform(0.15, 0.6) + rng.random()) % 1.0)) ** rng.uniform(1, 4)
    return _noise(rng, _between(rng, 300, 1000), 1.8) * (0.2 + swell) + _noise(rng, 4000, 0.8) * swell**2


def _stream(rng: Rng) -> np.ndarray:
    def bubble() -> np.ndarray:
        start = _between(rng, 400, 3500)
        return _chirp(rng, start, start * rng.uniform(1.05, 1.6), rng.uniform(0.005, 0.05))

    bubbles = _placed(rng, _chance(rng, _between(rng, 40, 400)), bubble, 6)
    return bubbles / bubbles.std() + rng.uniform(0, 0.6) * _noise(rng, _between(rng, 600, 3000), 1.2)


def _drops(rng: Rng) -> np.ndarray:
    def drop() -> np.ndarray:
        start = _between(rng, 500, 3000)
        fall = _chirp(rng, start, start * rng.uniform(1.2, 2.5), rng.uniform(0.02, 0.1), 2.0)
        touch = _click(rng, 2000, 6000, 1e-3)
        fall[: len(touch)] += 0.3 * touch
        return fall

    return _placed(rng, _regular(rng, rng.uniform(1, 6), 0.2), drop, 3)


def _engine(rng: Rng) -> np.ndarray:
    hertz = _between(rng, 18, 160) * (1 + rng.uniform(0.02, 0.6) * _curve(rng, rng.uniform(0.5, 2)))
    rough = 1 + rng.uniform(0, 0.8) * _noise(rng, 20, 1.0)
    sound = _harmonic(hertz, rng.uniform(0.2, 1.2), 40) * rough
    return _resonant(sound + rng.uniform(0.1, 1) * rng.standard_normal(LENGTH), rng, 80, 2500, 4)


def _rotor(rng: Rng) -> np.ndarray:
    rate = _between(rng, 7, 30)
    beat = np.clip(np.cos(2 * np.pi * rate * TIME), 0, 1) ** rng.uniform(2, 12)
    whine = rng.uniform(0, 0.5) * _harmonic(np.full(LENGTH, _between(rng, 200, 1500)), 1.0)
    return _noise(rng, _between(rng, 100, 800), 1.2) * (beat + rng.uniform(0.02, 0.3)) + whine


def _explosion(rng: Rng) -> np.ndarray:
    start, decay = rng.uniform(0, 0.4), _between(rng, 0.1, 0.8)
    after = np.clip(TIME - start, 0, None)
    burst = (start <= TIME) * np.exp(-after / decay)
    low = _noise(rng, _between(rng, 40, 250), 1.2) * burst
    high = _noise(rng, 2000, 1.5) * (start <= TIME) * np.exp(-after / (0.25 * decay))
    debris = _placed(rng, start + rng.exponential(0.4, 30) % 1.5, lambda: _click(rng, 500, 5000, 4e-3), 8)
    return low + rng.uniform(0.2, 1.5) * high + rng.uniform(0, 0.3) * debris


def _thunder(rng: Rng) -> np.ndarray:
    sound = np.zeros(LENGTH)
    for time in np.sort(rng.uniform(0, 1.2, rng.integers(2, 7))):
        rise = np.clip((TIME - time) / rng.uniform(0.005, 0.2), 0, 1)
        fall = np.exp(-np.clip(TIME - time, 0, None) / rng.uniform(0.2, 0.9))
        sound += rng.random() * rise * fall * _noise(rng, _between(rng, 40, 200), 1.1, 1.0)
    return sound


def _metal(rng: Rng) -> np.ndarray:
    sound = _struck(rng, 150, 2000, (0.2, 2.5), int(rng.integers(5, 16)))
    return np.roll(sound, int(rng.integers(0, 8000))) if rng.random() < 0.5 else sound


def _wood(rng: Rng) -> np.ndarray:
    hit = _struck(rng, 120, 900, (0.01, 0.06), int(rng.integers(2, 6)))[:8000]
    return _placed(rng, _regular(rng, rng.uniform(0.8, 7), 0.1), lambda: hit, 3)


def _glass(rng: Rng) -> np.ndarray:
    def shard() -> np.ndarray:
        return _struck(rng, 1200, 4500, (0.02, 0.3), 5)[:8000]

    if rng.random() < 0.4:
        return _placed(rng, np.zeros(1), shard, 0)
    start = rng.uniform(0, 0.5)
    return _placed(rng, start + rng.exponential(0.2, int(rng.integers(8, 30))) % 1.4, shard, 6)


def _footsteps(rng: Rng) -> np.ndarray:
    centre, decay = _between(rng, 150, 3000), rng.uniform(0.01, 0.06)

    def step() -> np.ndarray:
        burst = _noise(rng, centre, 1.0)[: int(8 * decay * SAMPLE_RATE)]
        return burst * np.exp(-np.arange(len(burst)) / (decay * SAMPLE_RATE))

    return _placed(rng, _regular(rng, rng.uniform(1.2, 4), 0.05), step, 2)


def _birds(rng: Rng) -> np.ndarray:
    base, long, calls = _between(rng, 1800, 5000), rng.uniform(0.03, 0.25), int(rng.integers(1, 5))
    shapes = [(rng.uniform(0.6, 1.5), rng.uniform(0.6, 1.5)) for _ in range(calls)]

    def call() -> np.ndarray:
        start, end = shapes[rng.integers(calls)]
        return _chirp(rng, base * start, base * end, long * rng.uniform(0.8, 1.2), rng.uniform(0.5, 2))

    return _placed(rng, _regular(rng, rng.uniform(2, 12), 0.15), call, 4)


def _crickets(rng: Rng) -> np.ndarray:
    sound = np.zeros(LENGTH)
    for _ in range(rng.integers(1, 4)):
        pulses = np.clip(np.sin(2 * np.pi * rng.uniform(20, 70) * TIME), 0, 1)
        gate = (TIME * rng.uniform(0.8, 4) + rng.random()) % 1.0 < rng.uniform(0.2, 1.0)
        sound += rng.uniform(0.3, 1) * np.sin(2 * np.pi * _between(rng, 2500, 7000) * TIME) * pulses * gate
    return sound


def _bark(rng: Rng) -> np.ndarray:
    base, seconds = _between(rng, 180, 900), rng.uniform(0.08, 0.3)

    def bark() -> np.ndarray:
        place = np.linspace(0, 1, int(seconds * SAMPLE_RATE))
        hertz = base * (1 + rng.uniform(0.1, 0.6) * np.sin(np.pi * place**0.6))
        voice = _harmonic(hertz, 0.7) + rng.uniform(0.1, 1) * rng.standard_normal(len(place))
        return voice * np.sin(np.pi * place**0.5) ** 0.7

    return _resonant(_placed(rng, _regular(rng, rng.uniform(0.7, 4), 0.1), bark, 2), rng, 400, 3000, 3)


def _siren(rng: Rng) -> np.ndarray:
    place = (TIME * _between(rng, 0.3, 6) + rng.random()) % 1.0
    swing = (
        np.sin(2 * np.pi * place),  # wail
        np.sign(place - 0.5),  # two tones
        2 * place - 1,  # rising
    )[rng.integers(3)]
    return _harmonic(_between(rng, 400, 1400) * 2 ** (rng.uniform(0.15, 0.8) * swing), rng.uniform(0.6, 2), 8)


def _ticking(rng: Rng) -> np.ndarray:
    ticks = [_click(rng, 1000, 7000, rng.uniform(5e-4, 5e-3)) for _ in range(2)]
    turns = iter(range(1000))
    return _placed(rng, _regular(rng, rng.uniform(1.5, 12), 0.01), lambda: ticks[next(turns) % 2], 1)


def _hum(rng: Rng) -> np.ndarray:
    hertz = np.full(LENGTH, rng.choice((50.0, 60.0, 100.0, 120.0)) * rng.uniform(0.98, 1.02))
    return _harmonic(hertz, rng.uniform(0.1, 1.5), 60) + rng.uniform(0, 0.4) * _noise(rng, 2000, 2.0)


def _zap(rng: Rng) -> np.ndarray:
    start, seconds = _between(rng, 800, 7000), _between(rng, 0.08, 0.7)
    end, bend = start * _between(rng, 0.05, 0.6), rng.uniform(0.3, 1.5)
    wobble = 1 + rng.uniform(0, 0.5) * np.sin(2 * np.pi * _between(rng, 10, 200) * TIME)

    def zap() -> np.ndarray:
        sweep = _chirp(rng, start, end, seconds, bend)
        return np.tanh(rng.uniform(1, 4) * sweep) * wobble[: len(sweep)]

    return _placed(rng, _regular(rng, rng.uniform(0.6, 4)), zap, 1)


def _whoosh(rng: Rng) -> np.ndarray:
    middle, width = rng.uniform(0.4, 1.6), rng.uniform(0.08, 0.5)
    pass_by = np.exp(-0.5 * ((TIME - middle) / width) ** 2)
    hertz = _between(rng, 300, 1500) * 2 ** (rng.uniform(0.5, 2) * pass_by)
    return _moving(rng, hertz, _between(rng, 200, 1500)) * pass_by


def _creak(rng: Rng) -> np.ndarray:
    rate = _between(rng, 20, 250) * 2 ** (rng.uniform(0.5, 2.5) * _curve(rng, rng.uniform(1, 4)))
    slips = np.diff(np.floor(np.cumsum(rate) / SAMPLE_RATE), prepend=0.0)
    level = _curve(rng, 3) ** 2
    return _resonant(slips * rng.uniform(0.5, 1.0, LENGTH) * level, rng, 300, 4000, 5)


def _applause(rng: Rng) -> np.ndarray:
    hands = [_noise(rng, _between(rng, 700, 2500), 0.5)[:800] * np.exp(-np.arange(800) / rng.uniform(30, 150))
             for _ in range(12)]  # fmt: skip
    return _placed(rng, _chance(rng, _between(rng, 8, 200)), lambda: hands[rng.integers(12)], 4)


def _shots(rng: Rng) -> np.ndarray:
    decay = rng.uniform(0.02, 0.15)
    shot = (_noise(rng, _between(rng, 200, 2500), 1.6) * np.exp(-TIME / decay))[:12000]
    rate = _between(rng, 0.6, 14)
    return _placed(rng, _regular(rng, rate), lambda: shot, 1)


def _sawing(rng: Rng) -> np.ndarray:
    stroke = np.abs(np.sin(np.pi * rng.uniform(1, 5) * TIME)) ** rng.uniform(0.5, 3)
    hertz = _between(rng, 800, 4000) * (1 + 0.3 * stroke)
    return (_moving(rng, hertz, _between(rng, 200, 2000)) + 0.5 * _noise(rng, 3000, 1.0)) * stroke


KINDS: dict[str, Callable[[Rng], np.ndarray]] = {
    "rain": _rain,
    "fire": _fire,
    "wind": _wind,
    "sea": _sea,
    "stream": _stream,
    "drops": _drops,
    "engine": _engine,
    "rotor": _rotor,
    "explosion": _explosion,
    "thunder": _thunder,
    "metal": _metal,
    "wood": _wood,
    "glass": _glass,
    "footsteps": _footsteps,
    "birds": _birds,
    "crickets": _crickets,
    "bark": _bark,
    "siren": _siren,
    "ticking": _ticking,
    "hum": _hum,
    "zap": _zap,
    "whoosh": _whoosh,
    "creak": _creak,
    "applause": _applause,
    "shots": _shots,
    "sawing": _sawing,
}
