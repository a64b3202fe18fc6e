"""Sounds made from nothing: notes, chords, drums, pieces, tones, everyday sounds, words and sentences.

An engine is a function `(source, work) -> iterator of Sound`; the same source gives the same sounds.
Every sound carries labels of what it holds, which serve as a free teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from hear_audiomamba.errors import ConfigError, did_you_mean

from ..recipe import SynthSource
from . import music, speech, textures, tones, variants
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
    "textures": textures.textures,
    "words": speech.words,
    "syllables": speech.syllables,
    "sentences": speech.sentences,
    "crowds": speech.crowds,
    "babble": speech.babble,
    "toned": speech.toned,
}

# These make their sounds from what the corpus already holds, `(source, work, corpus)`; so they come last.
DERIVED: dict[str, Callable[[SynthSource, Path, Path], Iterator[Sound]]] = {"variants": variants.variants}


def check_engine(source: SynthSource) -> None:
    """Refuse a source whose engine there is not.

    Raises:
        ConfigError: there is no such engine.
    """
    known = (*ENGINES, *DERIVED)
    if source.engine not in known:
        raise ConfigError(
            f"source {source.name}: no engine {source.engine!r}; {did_you_mean(source.engine, known)}"
        )


def sounds_of(source: SynthSource, work: Path, corpus: Path) -> Iterator[Sound]:
    """Yield a source's sounds.

    Args:
        source: of a known engine.
        work: folder for files in between.
        corpus: the corpus folder, for engines in `DERIVED`.

    Raises:
        ConfigError: there is no such engine.
        DataError: what the engine needs is not there.
    """
    check_engine(source)
    if source.engine in DERIVED:
        return DERIVED[source.engine](source, work, corpus)
    return ENGINES[source.engine](source, work)


__all__ = ["DERIVED", "ENGINES", "Engine", "Sound", "check_engine", "sounds_of"]
