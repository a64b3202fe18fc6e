"""What is evaluated: the suite file, the list of tasks, and the models by name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...config import Config, load_config
from ...errors import ConfigError, did_you_mean
from ...models.bundled import bundled_path
from ..predictions.protocol import GRID_POINTS, GRIDS, KIT_SEED, PRECISIONS
from ..tasks.catalogue import hear_tasks

ENGINES = ("heareval", "fast")


@dataclass(frozen=True)
class Entrant:
    """A model that is evaluated.

    Args:
        name: under which it appears; letters, digits and `._+-`.
        module: HEAR module that is imported.
        weights: path given to `load_model`, empty for none.
        options: keywords given to `load_model`.
    """

    name: str
    module: str = "hear_audiomamba"
    weights: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", self.name):
            raise ConfigError(f"model name {self.name!r}: use letters, digits and ._+- only")
        if self.weights and not Path(self.weights).is_file():
            raise ConfigError(f"{self.name}: no weights file {self.weights}")


def parse_entrant(text: str | Mapping[str, Any]) -> Entrant:
    """Read a model from the command line or from a suite.

    Args:
        text: a name of `list_models()`, with a weights tag or without; `NAME=MODULE`, `NAME=MODULE@WEIGHTS`, either
            followed by a JSON object of options; or a mapping with the fields of `Entrant`. `NAME=@WEIGHTS` is a
            weights file for this package.

    Returns:
        The entrant.

    Raises:
        ConfigError: it cannot be read, or the weights file is not there.
        VariantError: the name is not known.
    """
    if isinstance(text, Mapping):
        unknown = set(text) - {"name", "module", "weights", "options"}
        if unknown or "name" not in text:
            problem = f"unknown key {sorted(unknown)[0]!r}" if unknown else "no name"
            raise ConfigError(f"model {dict(text)}: {problem}; allowed: name, module, weights, options")
        return Entrant(**text)
    name, equals, source = text.partition("=")
    if not equals:
        from ...models.registry import find_variant

        find_variant(name.partition(".")[0] if "." in name else name)
        return Entrant(name, options={"variant": name})
    source, brace, tail = source.partition("{")
    module, _, weights = source.partition("@")
    try:
        options = json.loads(brace + tail) if brace else {}
    except ValueError as error:
        raise ConfigError(f"model {text!r}: the options are no JSON object: {error}") from None
    return Entrant(name, module or "hear_audiomamba", weights, options)


@dataclass(frozen=True)
class Suite(Config):
    """A study: which tasks and models, how often, and with which grid and engine.

    Args:
        name: of the study.
        tasks: task ids, folder names under the tasks folder; empty for those of `tasks.txt`; "all" for every task
            in the folder.
        variants: models; see `parse_entrant`.
        seeds: how many runs; their seeds count up from 42, the kit's own.
        grid: `default`, `fast` or `faster`, as in the kit.
        grid_points: how many points of the grid are tried.
        grid_seed: seed of the choice of points; None draws them again for each run, from its own seed.
        engine: `fast` for this package's runners, which need nothing else; `heareval` for HEAR's own.
        precision: of the fast engine's matrix products while training: `float32`, the kit's, or `bfloat16`, faster
            on processors that have it.
    """

    name: str = "hear10"
    tasks: tuple[str, ...] = ()
    variants: tuple[Any, ...] = ()
    seeds: int = 10
    grid: str = "default"
    grid_points: int = GRID_POINTS
    grid_seed: int | None = KIT_SEED
    engine: str = "fast"
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.grid not in GRIDS:
            raise ConfigError(f"grid {self.grid!r}: {did_you_mean(self.grid, GRIDS)}")
        if self.engine not in ENGINES:
            raise ConfigError(f"engine {self.engine!r}: use one of {', '.join(ENGINES)}")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision {self.precision!r}: use one of {', '.join(PRECISIONS)}")
        if self.engine == "heareval" and self.precision != "float32":
            raise ConfigError(f"precision {self.precision!r}: HEAR's own tools know float32 only")
        if self.seeds < 1 or self.grid_points < 1:
            raise ConfigError("seeds and grid_points must be 1 or more")

    @property
    def seed_list(self) -> list[int]:
        """The seeds of the runs."""
        return list(range(KIT_SEED, KIT_SEED + self.seeds))


def load_suite(path: str | Path | None) -> Suite:
    """Read a suite.

    Args:
        path: a YAML file; a bare name, looked up in `eval_configs/`; or None for the default suite.

    Returns:
        The suite; without tasks of its own it has the ten HEAR tasks of `tasks.txt`.

    Raises:
        ConfigError: there is no such suite, or the file holds an unknown key or value.
    """
    if path is None:
        return Suite(tasks=hear_tasks())
    given = Path(path)
    if not given.exists() and given.parent == Path("."):
        folder = bundled_path("eval_configs")
        known = [p.stem for p in folder.glob("*.yaml")]
        if given.stem not in known:
            raise ConfigError(
                f"no suite {str(path)!r}, and no file of that name; {did_you_mean(given.stem, known)}"
            )
        given = folder / given.with_suffix(".yaml")
    suite = Suite.from_dict(load_config(given))
    return suite if suite.tasks else suite.replace(tasks=hear_tasks())


def check_unique(entrants: Sequence[Entrant]) -> None:
    """Refuse two models of one name, whose results would be taken for each other's.

    Raises:
        ConfigError: naming the first such name.
    """
    seen: set[str] = set()
    for entrant in entrants:
        if entrant.name in seen:
            raise ConfigError(
                f"two models are named {entrant.name!r}; give one another name (NAME=MODULE@WEIGHTS)"
            )
        seen.add(entrant.name)
