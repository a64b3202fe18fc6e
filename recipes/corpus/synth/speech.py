"""Speech by Pico (py-nanotts) and festival: words, syllables, sentences, and several voices at once.

Voices are named `pico:en-GB` or `festival:czech_dita:cs`, the last part being the language of its words.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hear_audiomamba.errors import DataError

from ..decode import decode
from ..recipe import SynthSource
from .sound import SAMPLE_RATE, Sound, levelled, trimmed
from .texts import CONSONANTS, VOWELS, WORDS

FESTIVAL_BATCH = 50
FRAME = 512
# Semitones around the syllable's own pitch, evenly over its length.
CONTOURS = {
    "level": (0.0, 0.0),
    "rising": (-4.0, -3.0, 5.0),
    "falling": (5.0, 1.0, -6.0),
    "dipping": (0.0, -5.0, -4.0, 4.0),
    "peaking": (-3.0, 4.0, -3.0),
}
FESTIVAL_ENCODING = {"cs": "iso-8859-2", "fi": "iso-8859-15", "it": "iso-8859-1", "ca": "iso-8859-15"}


def words(source: SynthSource, work: Path) -> Iterator[Sound]:
    """Yield isolated words, labelled by word, language and voice."""
    return _spoken(source, work, lambda rng, language: str(rng.choice(WORDS[language])), "word")


def syllables(source: SynthSource, work: Path) -> Iterator[Sound]:
    """Yield a consonant and a vowel spoken alone, labelled also by the consonant (the initial)."""
    return _spoken(
        source, work, lambda rng, _: str(rng.choice(CONSONANTS)) + str(rng.choice(VOWELS)), "syllable"
    )


def sentences(source: SynthSource, work: Path) -> Iterator[Sound]:
    """Yield sentences of four to ten words, labelled by language and voice."""

    def text(rng: np.random.Generator, language: str) -> str:
        return " ".join(rng.choice(WORDS[language], size=int(rng.integers(4, 11)))) + "."

    return _spoken(source, work, text, "")


def crowds(source: SynthSource, work: Path) -> Iterator[Sound]:
    """Yield five seconds of one to six voices talking at once or in turn, labelled by their number."""
    plain = source.__class__.from_dict({**source.to_dict(), "count": max(60, source.count)})
    spoken: list[np.ndarray] = []
    voices: list[str] = []
    for sound in sentences(plain, work):
        spoken.append(sound.samples)
        voices.append(next(label for label in sound.labels if label.startswith("voice:")))
    rng = np.random.default_rng((source.seed, 1))
    length = 5 * SAMPLE_RATE
    for index in range(source.count):
        people = int(rng.integers(1, 7))
        chosen = rng.permutation(np.unique(voices))[:people]
        mixture = np.zeros(length, np.float32)
        for voice in chosen:
            own = [i for i, name in enumerate(voices) if name == voice]
            stretch = spoken[int(rng.choice(own))][: length - SAMPLE_RATE // 2]
            start = int(rng.integers(0, max(1, length - len(stretch))))
            mixture[start : start + len(stretch)] += stretch * float(rng.uniform(0.4, 1.0))
        yield Sound(f"{source.name}-{index:05d}", levelled(mixture), (f"speakers:{len(chosen)}",))


def babble(source: SynthSource, work: Path) -> Iterator[Sound]:
    """Yield two and a half seconds of one to six voices that all talk all the time, labelled by number."""
    spoken: dict[str, list[np.ndarray]] = {}
    for sound in sentences(source.replace(count=max(90, source.count // 4)), work):
        voice = next(label for label in sound.labels if label.startswith("voice:"))
        spoken.setdefault(voice, []).append(sound.samples / (np.sqrt(np.mean(sound.samples**2)) + 1e-6))
    length = int(2.5 * SAMPLE_RATE)
    for index in range(source.count):
        rng = np.random.default_rng((source.seed, 2, index))
        people = int(rng.integers(1, 7))
        chosen = rng.permutation(sorted(spoken))[:people]
        mixture = np.zeros(length, np.float32)
        for voice in chosen:
            own = spoken[voice]
            # Sentences one after another, begun anywhere, so that nobody is silent for long.
            line = np.concatenate([own[i] for i in rng.integers(len(own), size=3)])
            mixture += np.resize(np.roll(line, -int(rng.integers(len(line)))), length) * rng.uniform(0.4, 1.0)
        yield Sound(f"{source.name}-{index:05d}", levelled(mixture), (f"speakers:{len(chosen)}",))


def toned(source: SynthSource, work: Path) -> Iterator[Sound]:
    """Yield syllables with one of five pitch contours laid on them, labelled by the contour."""
    for index, sound in enumerate(syllables(source, work)):
        rng = np.random.default_rng((source.seed, 3, index))
        name = list(CONTOURS)[index % len(CONTOURS)]
        places = np.linspace(0, 1, len(CONTOURS[name]))
        semitones = np.interp(np.linspace(0, 1, len(sound.samples)), places, CONTOURS[name])
        semitones = semitones * rng.uniform(0.8, 1.8) + rng.uniform(-4, 4)
        labels = tuple(label for label in sound.labels if not label.startswith("voice:"))
        samples = repitched(sound.samples, 2.0 ** (semitones / 12))
        yield Sound(sound.name, levelled(samples), (*labels, f"tone:{name}"))


def repitched(samples: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Return speech whose pitch is multiplied by `ratio` `(n,)`, its formants unchanged.

    Linear prediction parts the voice's source from its filter; the source is played at the ratio's
    speed and goes through the filter of the moment it comes from. Source: Makhoul, "Linear prediction: a
    tutorial review", Proc. IEEE 63(4), 1975.

    Args:
        samples: `(n,)` at 16 kHz.
        ratio: 1 keeps the pitch; the mean says how much shorter the result is.
    """
    from scipy.linalg import solve_toeplitz
    from scipy.signal import lfilter

    hop, order = FRAME // 4, 18
    padded = np.pad(samples.astype(np.float64), FRAME)
    window = np.hanning(FRAME + 1)[:-1] * 0.5  # four of them overlap to one
    starts = range(0, len(padded) - FRAME, hop)
    filters, residual = [], np.zeros(len(padded))
    for start in starts:
        frame = padded[start : start + FRAME] * window
        correlation = np.correlate(frame, frame, "full")[FRAME - 1 : FRAME + order]
        correlation[0] = correlation[0] * 1.0001 + 1e-9
        filters.append(np.r_[1.0, -solve_toeplitz(correlation[:-1], correlation[1:])])
        before = padded[max(0, start - order) : start + FRAME]
        residual[start : start + FRAME] += lfilter(filters[-1], 1.0, before)[-FRAME:] * window
    speed = np.pad(ratio, (FRAME, FRAME + len(padded) - len(ratio) - 2 * FRAME), mode="edge")
    # Where in the source each sample of the result comes from: the speeds, summed up in the result's time.
    clock = np.concatenate([[0.0], np.cumsum(1.0 / speed)[:-1]])
    origin = np.interp(np.arange(int(clock[-1])), clock, np.arange(len(padded)))
    source = np.interp(origin, np.arange(len(padded)), residual)
    result = np.zeros(len(source))
    for start in range(0, len(source) - FRAME, hop):
        moment = min(len(filters) - 1, int(origin[start + FRAME // 2] - FRAME // 2) // hop)
        begin = max(0, start - FRAME)
        voiced = lfilter([1.0], filters[max(0, moment)], source[begin : start + FRAME])
        result[start : start + FRAME] += voiced[-FRAME:] * window
    return trimmed(result.astype(np.float32))


def _spoken(source: SynthSource, work: Path, text, kind: str) -> Iterator[Sound]:
    """Speak `source.count` texts, in turn by each voice; those of one festival voice in batches."""
    shares = [
        source.count // len(source.voices) + (i < source.count % len(source.voices))
        for i in range(len(source.voices))
    ]
    for number, (voice, share) in enumerate(zip(source.voices, shares)):
        engine, _, name = voice.partition(":")
        rng = np.random.default_rng((source.seed, number))
        language = name[:2] if engine == "pico" else name.rsplit(":", 1)[1]
        lines = [text(rng, language) for _ in range(share)]
        spoken = _pico(name, lines, rng) if engine == "pico" else _festival(name, lines, work)
        for index, samples in spoken:
            samples = trimmed(samples)
            if len(samples) < SAMPLE_RATE // 20:
                continue
            labels = [f"language:{language}", f"voice:{voice}"]
            if kind:
                labels.append(
                    f"{kind}:{language}:{lines[index]}" if kind == "word" else f"{kind}:{lines[index]}"
                )
            if kind == "syllable":
                labels.append("initial:" + re.sub(r"[aeiou]+$", "", lines[index]))
            slug = re.sub(r"\W+", "-", voice)
            yield Sound(f"{source.name}-{slug}-{index:05d}", levelled(samples), tuple(labels))


def _pico(voice: str, lines: list[str], rng: np.random.Generator) -> Iterator[tuple[int, np.ndarray]]:
    try:
        import py_nanotts
    except ImportError:
        raise DataError("the Pico voices need py-nanotts: pip install py-nanotts") from None
    speaker = py_nanotts.NanoTTS()
    for index, line in enumerate(lines):
        pitch, speed = float(rng.uniform(0.65, 1.5)), float(rng.uniform(0.7, 1.35))
        raw = speaker.speak(line, voice, speed=speed, pitch=pitch)
        yield index, np.frombuffer(raw, np.int16).astype(np.float32) / 32768


def _festival(voice: str, lines: list[str], work: Path) -> Iterator[tuple[int, np.ndarray]]:
    name, _, language = voice.rpartition(":")
    for first in range(0, len(lines), FESTIVAL_BATCH):
        batch = lines[first : first + FESTIVAL_BATCH]
        script = [f"(voice_{name})"]
        for index, line in enumerate(batch):
            quoted = line.replace("\\", " ").replace('"', " ")
            script.append(
                f'(utt.save.wave (utt.synth (Utterance Text "{quoted}")) "{work}/say-{index}.wav" \'riff)'
            )
        path = work / "say.scm"
        path.write_bytes("\n".join(script).encode(FESTIVAL_ENCODING.get(language, "utf-8"), errors="replace"))
        try:
            subprocess.run(["festival", "--batch", str(path)], capture_output=True, check=False, timeout=600)
        except FileNotFoundError:
            raise DataError("festival is not installed: apt-get install festival and the voices") from None
        made = [(index, work / f"say-{index}.wav") for index in range(len(batch))]
        if not any(wave.is_file() for _, wave in made):
            raise DataError(f"festival voice {name} spoke nothing; is its package installed?")
        for index, wave in made:
            if wave.is_file():
                samples = decode(wave, SAMPLE_RATE)
                wave.unlink()
                yield first + index, samples
