"""Sounds made from nothing: notes, chords, drums, pieces, tones, words and sentences.

An engine is a function `(source, work) -> iterator of Sound`; the same source gives the same sounds.
Every sound carries labels of what it holds, which serve as a free teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ....errors import ConfigError, did_you_mean
from ..recipe import SynthSource
from . import music, speech, tones
from .sound import Sound

Engine = Callable[[SynthSource, Path], Iterator[Sound]]

ENGINES: dict[str, Engine] = {
    "notes": music.notes,
    "chords": music.chords,
    "drums": music.drums,
    "phrases": music.phrases,
    "midi-files": music.midi_files,
    "accompaniments": music.accompaniments,
    "tones": tones.tones,
    "words": speech.words,
    "syllables": speech.syllables,
    "sentences": speech.sentences,
    "crowds": speech.crowds,
}


def engine_of(source: SynthSource) -> Engine:
    """Return the engine a source names.

    Raises:
        ConfigError: there is no such engine.
    """
    if source.engine not in ENGINES:
        raise ConfigError(
            f"source {source.name}: no engine {source.engine!r}; {did_you_mean(source.engine, ENGINES)}"
        )
    return ENGINES[source.engine]


__all__ = ["ENGINES", "Engine", "Sound", "engine_of"]
