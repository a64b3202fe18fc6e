"""Musical sounds through free soundfonts: single notes, chords, drum hits, phrases and whole pieces."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from hear_audiomamba.errors import DataError

from ..recipe import SynthSource
from . import midi
from .sound import SAMPLE_RATE, Sound, levelled, trimmed

BATCH = 64
SLOT_SECONDS = 2.4
CHORDS = {
    "major": (0, 4, 7),
    "minor": (0, 3, 7),
    "dim": (0, 3, 6),
    "aug": (0, 4, 8),
    "sus2": (0, 2, 7),
    "sus4": (0, 5, 7),
    "maj7": (0, 4, 7, 11),
    "min7": (0, 3, 7, 10),
    "dom7": (0, 4, 7, 10),
    "dim7": (0, 3, 6, 9),
    "halfdim7": (0, 3, 6, 10),
    "maj6": (0, 4, 7, 9),
    "fifth": (0, 7),
}
SCALES = (
    (0, 2, 4, 5, 7, 9, 11),
    (0, 2, 3, 5, 7, 8, 10),
    (0, 2, 4, 7, 9),
    (0, 3, 5, 6, 7, 10),
    (0, 2, 3, 5, 7, 9, 10),
)
DRUM_KITS = (0, 8, 16, 24, 25, 32, 40, 48)
DRUM_KEYS = range(27, 88)
PITCHED_PROGRAMS = range(112)
MELODIC_KEYS = (28, 100)
MIDI_EXCERPT_SECONDS = 240.0
ACCOMPANIMENT_LIBRARY = Path("/usr/share/mma/lib/stdlib")

Slot = tuple[list[midi.Event], tuple[str, ...]]


def notes(source: SynthSource, work: Path) -> Iterator[Sound]:
    """Yield single notes of all melodic General MIDI instruments, labelled by key and program."""

    def slot(rng: np.random.Generator, at: float) -> Slot:
        number, key = int(rng.choice(PITCHED_PROGRAMS)), int(rng.integers(*MELODIC_KEYS))
        held = float(rng.choice((0.15, 0.4, 0.8, 1.6)))
        events = [
            midi.program(0, number, at),
            *midi.note(0, key, int(rng.integers(50, 127)), at + 0.02, held),
        ]
        return events, (f"note:{key}", f"chroma:{key % 12}", f"program:{number}")

    return _slots(source, work, slot)


def chords(source: SynthSource, work: Path) -> Iterator[Sound]:
    """Yield chords in all inversions, block or broken, labelled by root, type and keys."""

    def slot(rng: np.random.Generator, at: float) -> Slot:
        number, root = int(rng.choice(PITCHED_PROGRAMS)), int(rng.integers(40, 76))
        name = str(rng.choice(list(CHORDS)))
        keys = [root + step for step in CHORDS[name]]
        for _ in range(int(rng.integers(0, len(keys)))):
            keys = [*keys[1:], keys[0] + 12]
        if rng.random() < 0.4:
            keys.append(root - 12)
        spread = float(rng.choice((0.0, 0.0, 0.03, 0.12)))
        velocity = int(rng.integers(60, 120))
        events = [midi.program(0, number, at)]
        for index, key in enumerate(keys):
            events += midi.note(0, key, velocity, at + 0.02 + spread * index, 1.7 - spread * index)
        found = tuple(f"chroma:{chroma}" for chroma in sorted({key % 12 for key in keys}))
        return events, (f"chord:{name}", f"root:{root % 12}", f"program:{number}", *found)

    return _slots(source, work, slot)


def drums(source: SynthSource, work: Path) -> Iterator[Sound]:
    """Yield single drum hits and short rolls of several kits, labelled by General MIDI drum key."""

    def slot(rng: np.random.Generator, at: float) -> Slot:
        key, kit = int(rng.choice(DRUM_KEYS)), int(rng.choice(DRUM_KITS))
        events = [midi.program(midi.DRUM_CHANNEL, kit, at)]
        strokes = 1 if rng.random() < 0.8 else int(rng.integers(2, 8))
        for stroke in range(strokes):
            velocity = int(rng.integers(40, 127))
            events += midi.note(midi.DRUM_CHANNEL, key, velocity, at + 0.02 + 0.14 * stroke, 0.1)
        return events, (f"drum:{key}", "strokes:one" if strokes == 1 else "strokes:many")

    return _slots(source, work, slot)


def phrases(source: SynthSource, work: Path) -> Iterator[Sound]:
    """Yield random eight-second phrases of one to four instruments, some with drums."""
    for index in range(source.count):
        rng = np.random.default_rng((source.seed, index))
        path = work / f"{source.name}-{index:05d}.mid"
        events, labels = _phrase(rng, 8.0)
        path.write_bytes(midi.midi_bytes(events))
        sound = midi.render(path, str(rng.choice(source.voices)), reverb=rng.random() < 0.6)
        path.unlink()
        yield Sound(path.stem, levelled(sound[: 9 * SAMPLE_RATE]), labels)


def midi_files(source: SynthSource, work: Path) -> Iterator[Sound]:
    """Yield excerpts of MIDI pieces; `voices` names soundfonts and one folder or more of `.mid` files.

    Raises:
        DataError: no MIDI files are in the folders.
    """
    fonts = [voice for voice in source.voices if voice.endswith(".sf2")]
    folders = [voice for voice in source.voices if voice not in fonts]
    pieces = [piece for folder in folders for piece in sorted(Path(folder).rglob("*.mid"))][: source.count]
    if not pieces:
        raise DataError(f"source {source.name}: no .mid files under {', '.join(folders) or 'any folder'}")
    for index, piece in enumerate(pieces):
        copy = work / f"{source.name}-{index:03d}.mid"
        copy.write_bytes(piece.read_bytes())
        sound = midi.render(copy, fonts[index % len(fonts)])
        copy.unlink()
        yield Sound(
            f"{source.name}-{piece.stem}", levelled(sound[: int(MIDI_EXCERPT_SECONDS * SAMPLE_RATE)]), ()
        )


def accompaniments(source: SynthSource, work: Path) -> Iterator[Sound]:
    """Yield accompaniments of random chord sequences in the styles of MMA's standard library.

    Raises:
        DataError: MMA is not installed.
    """
    styles = [
        name
        for path in sorted(ACCOMPANIMENT_LIBRARY.glob("*.mma"))
        for name in re.findall(r"^\s*DefGroove\s+(\S+)", path.read_text(errors="replace"), re.MULTILINE)
    ]
    if not styles:
        raise DataError(f"source {source.name}: MMA's styles are not installed: apt-get install mma")
    roots = ["C", "D", "E", "F", "G", "A", "Bb", "Eb"]
    kinds = ("", "m", "7", "m7", "M7", "sus4", "dim", "6")
    for index in range(source.count):
        rng = np.random.default_rng((source.seed, index))
        style = str(rng.choice(styles))
        bars = [f"{bar} {rng.choice(roots)}{rng.choice(kinds)}" for bar in range(1, 13)]
        text = work / f"{source.name}-{index:05d}.mma"
        text.write_text(f"Tempo {int(rng.integers(70, 180))}\nGroove {style}\n" + "\n".join(bars) + "\n")
        path = text.with_suffix(".mid")
        made = subprocess.run(["mma", "-f", str(path), str(text)], capture_output=True, check=False)
        text.unlink()
        if made.returncode or not path.is_file():
            continue
        sound = midi.render(path, str(rng.choice(source.voices)))
        path.unlink()
        if len(sound) > 2 * SAMPLE_RATE:
            yield Sound(path.stem, levelled(sound[: 30 * SAMPLE_RATE]), (f"style:{style}",))


def _slots(
    source: SynthSource, work: Path, make: Callable[[np.random.Generator, float], Slot]
) -> Iterator[Sound]:
    """Render many short sounds in one MIDI file, each in a slot of its own, and cut them apart."""
    for first in range(0, source.count, BATCH):
        rng = np.random.default_rng((source.seed, first))
        events: list[midi.Event] = []
        labels = []
        for index in range(min(BATCH, source.count - first)):
            at = index * SLOT_SECONDS
            events += midi.all_sound_off(at)
            made, names = make(rng, at)
            events += made
            labels.append(names)
        path = work / f"{source.name}-{first:06d}.mid"
        path.write_bytes(midi.midi_bytes([*events, *midi.all_sound_off(len(labels) * SLOT_SECONDS)]))
        font = source.voices[(first // BATCH) % len(source.voices)]
        sound = midi.render(path, font, reverb=rng.random() < 0.4)
        path.unlink()
        for index, names in enumerate(labels):
            start = int(index * SLOT_SECONDS * SAMPLE_RATE)
            cut = sound[start : start + int((SLOT_SECONDS - 0.05) * SAMPLE_RATE)]
            if np.abs(cut).max(initial=0.0) > 1e-3:
                yield Sound(f"{source.name}-{first + index:06d}", levelled(trimmed(cut)), names)


def _phrase(rng: np.random.Generator, seconds: float) -> tuple[list[midi.Event], tuple[str, ...]]:
    events: list[midi.Event] = []
    labels = []
    tonic, scale = int(rng.integers(0, 12)), SCALES[rng.integers(len(SCALES))]
    beat = float(rng.uniform(0.12, 0.4))
    parts = int(rng.integers(1, 5))
    for channel in range(parts):
        number = int(rng.choice(PITCHED_PROGRAMS))
        labels.append(f"program:{number}")
        events.append(midi.program(channel, number, 0.0))
        degree, octave = int(rng.integers(0, 7)), int(rng.integers(3, 7))
        at = 0.0
        while at < seconds:
            length = beat * int(rng.choice((1, 1, 2, 2, 4, 8)))
            if rng.random() < 0.85:
                steps, step = divmod(degree, len(scale))
                key = min(108, max(24, 12 * (octave + steps) + tonic + scale[step]))
                together = 3 if rng.random() < 0.15 else 1
                for extra in range(together):
                    events += midi.note(
                        channel,
                        min(108, key + (0, 4, 7)[extra]),
                        int(rng.integers(50, 115)),
                        at,
                        length * 0.9,
                    )
            degree = int(np.clip(degree + rng.integers(-3, 4), -7, 14))
            at += length
    if rng.random() < 0.5:
        labels.append("drums:yes")
        events.append(midi.program(midi.DRUM_CHANNEL, int(rng.choice(DRUM_KITS)), 0.0))
        pattern = [(int(rng.choice(DRUM_KEYS)), rng.random(8) < rng.uniform(0.2, 0.7)) for _ in range(3)]
        for step in range(int(seconds / beat)):
            for key, hits in pattern:
                if hits[step % 8]:
                    events += midi.note(midi.DRUM_CHANNEL, key, int(rng.integers(50, 120)), step * beat, 0.1)
    return events, (*labels, f"parts:{parts}")
