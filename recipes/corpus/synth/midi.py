"""Standard MIDI files written by hand, and fluidsynth to turn them into sound."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from hear_audiomamba.errors import DataError

from ..decode import decode
from .sound import SAMPLE_RATE

TICKS_PER_QUARTER = 480
TICKS_PER_SECOND = 960
DRUM_CHANNEL = 9

Event = tuple[float, bytes]


def note(channel: int, key: int, velocity: int, start: float, seconds: float) -> list[Event]:
    """Return the two events of a note; `start` and `seconds` in seconds, `key` 0–127 (60 is middle C)."""
    return [
        (start, bytes((0x90 | channel, key, velocity))),
        (start + seconds, bytes((0x80 | channel, key, 0))),
    ]


def program(channel: int, number: int, start: float) -> Event:
    """Return the event that chooses a channel's instrument, General MIDI program 0–127."""
    return (start, bytes((0xC0 | channel, number)))


def all_sound_off(start: float) -> list[Event]:
    """Return the events that silence every channel at once."""
    return [(start, bytes((0xB0 | channel, 120, 0))) for channel in range(16)]


def midi_bytes(events: Iterable[Event]) -> bytes:
    """Return a one-track MIDI file at 120 quarters a minute, the default tempo.

    Args:
        events: (time in seconds, message) in any order; messages at the same time keep their order.
    """
    track = bytearray()
    now = 0
    for start, message in sorted(events, key=lambda event: event[0]):
        tick = round(start * TICKS_PER_SECOND)
        track += _variable_length(tick - now) + message
        now = tick
    track += b"\x00\xff\x2f\x00"
    header = struct.pack(">4sIHHH", b"MThd", 6, 0, 1, TICKS_PER_QUARTER)
    return header + struct.pack(">4sI", b"MTrk", len(track)) + bytes(track)


def render(midi: Path, soundfont: str, reverb: bool = True) -> np.ndarray:
    """Render a MIDI file through a soundfont.

    Args:
        midi: the file.
        soundfont: path of the `.sf2` file.
        reverb: with fluidsynth's own reverb and chorus, or dry.

    Returns:
        Mono samples at 16 kHz, shape (n,).

    Raises:
        DataError: fluidsynth or the soundfont is missing, or the rendering fails.
    """
    if not Path(soundfont).is_file():
        raise DataError(
            f"soundfont {soundfont} is not there; install timgm6mb-soundfont and csound-soundfont"
        )
    wave = midi.with_suffix(".wav")
    switch = "1" if reverb else "0"
    command = [
        "fluidsynth",
        "-q",
        "-n",
        "-i",
        "-g",
        "0.5",
        "-R",
        switch,
        "-C",
        switch,
        "-r",
        "32000",
        "-F",
        str(wave),
        soundfont,
        str(midi),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        raise DataError("fluidsynth is not installed: apt-get install fluidsynth") from None
    if done.returncode or not wave.is_file():
        raise DataError(f"fluidsynth could not render {midi.name}: {' '.join(done.stderr.split())[:200]}")
    try:
        return decode(wave, SAMPLE_RATE)
    finally:
        wave.unlink()


def _variable_length(number: int) -> bytes:
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(0x80 | (number & 0x7F))
    return bytes(reversed(groups))
