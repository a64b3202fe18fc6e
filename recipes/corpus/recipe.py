"""What a corpus is made of: the recipe's packages, selection rules and synthesis, read from YAML."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Literal

from hear_audiomamba.config import Config, load_config
from hear_audiomamba.errors import ConfigError

MUSIC_SECONDS = (25.0, 3600.0)
SPEECH_SECONDS = (0.1, 20.0)
EFFECT_SECONDS = (0.1, 15.0)
DEFAULT_SECONDS = {"music": MUSIC_SECONDS, "speech": SPEECH_SECONDS, "effect": EFFECT_SECONDS}


@dataclasses.dataclass(frozen=True)
class PackageSource(Config):
    """Recordings out of one Debian package.

    `pattern` is a regular expression searched in the file's path inside the package (with a leading
    slash); `seconds` the shortest and longest recording taken, by default 25 s and up for music, 0.1–20
    for speech, 0.1–15 for effects. `hours` is what the rule was measured to give, for planning only.
    `weight` multiplies the limit of hours that `build_corpus` is given for each source.
    `labels` are true of every recording, such as `language:cs`.
    """

    package: str
    kind: Literal["music", "speech", "effect"]
    pattern: str = "."
    seconds: tuple[float, float] | None = None
    split: Literal["train", "valid"] = "train"
    licence: str = ""
    hours: float = 0.0
    weight: float = 1.0
    labels: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The source's name in the manifest: kind and package."""
        return f"{self.kind}-{self.package}"

    @property
    def limits(self) -> tuple[float, float]:
        """Shortest and longest recording taken, in seconds."""
        return self.seconds or DEFAULT_SECONDS[self.kind]


@dataclasses.dataclass(frozen=True)
class SynthSource(Config):
    """Sounds made by one of the synthesis engines (`synth.ENGINES`).

    `count` is how many items are made (phrases, notes, words, mixtures); `voices` names soundfont files
    or voices, as the engine understands them. The same seed gives the same items.
    """

    name: str
    engine: str
    count: int
    voices: tuple[str, ...] = ()
    split: Literal["train", "valid"] = "train"
    licence: str = ""
    seed: int = 0
    hours: float = 0.0


@dataclasses.dataclass(frozen=True)
class CorpusRecipe(Config):
    """A whole corpus: packages, synthesis, and what is left out.

    `exclude` holds regular expressions searched in `package/path`; a match is never taken.
    """

    name: str
    packages: tuple[PackageSource, ...] = ()
    synthesis: tuple[SynthSource, ...] = ()
    exclude: tuple[str, ...] = ()
    description: str = ""
    sample_rate: int = 16000

    def __post_init__(self) -> None:
        if not self.packages and not self.synthesis:
            raise ConfigError(f"recipe {self.name!r}: name at least one package or synthesis source")
        names = [source.name for source in (*self.packages, *self.synthesis)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"recipe {self.name!r}: listed more than once: {', '.join(twice)}")
        for pattern in (*self.exclude, *(source.pattern for source in self.packages)):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(f"recipe {self.name!r}: bad pattern {pattern!r}: {error}") from None
        splits: dict[str, str] = {}
        for source in self.packages:
            if splits.setdefault(source.package, source.split) != source.split:
                raise ConfigError(f"recipe {self.name!r}: {source.package} is in both train and valid")


def load_recipe(path: str | Path) -> CorpusRecipe:
    """Read a corpus recipe.

    Args:
        path: a YAML or JSON file with the fields of `CorpusRecipe`. Its key `base` names a recipe beside it,
            whose fields it takes where it has none of its own.

    Returns:
        The recipe, checked.

    Raises:
        ConfigError: the file is not readable, or holds an unknown key or a bad value.
    """
    values = load_config(path)
    base = values.pop("base", None)
    if base is not None:
        values = {**load_config(Path(path).parent / str(base)), **values}
    return CorpusRecipe.from_dict(values)
