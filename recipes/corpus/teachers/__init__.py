"""Teachers with free licences, and the table of them.

A teacher turns a batch of clips into one vector each. All of them ship inside packages; `make_teacher`
says which to install where one is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from hear_audiomamba.errors import ConfigError, did_you_mean

from .base import Teacher
from .crepe import CrepeTeacher
from .effects import EffectsTeacher
from .labels import EXCLUSIVE, SEVERAL, LabelTeacher
from .own import OwnTeacher
from .signals import Contour, Spectrum
from .speaker import SpeakerTeacher
from .speech import SpeechTeacher
from .yamnet import YAMNetTagsTeacher, YAMNetTeacher

TEACHERS: dict[str, Callable[[Path], Teacher]] = {
    "yamnet": YAMNetTeacher,
    "yamnet_tags": YAMNetTagsTeacher,
    "effects": EffectsTeacher,
    "own": OwnTeacher,
    "speech": SpeechTeacher,
    "speaker": SpeakerTeacher,
    "crepe": CrepeTeacher,
    "spectrum": Spectrum,
    "contour": Contour,
    **{f"labels_{group}": partial(LabelTeacher, group=group) for group in (*EXCLUSIVE, *SEVERAL)},
}


def make_teacher(name: str, corpus: str | Path) -> Teacher:
    """Build a teacher.

    Args:
        name: one of `TEACHERS`.
        corpus: the corpus folder; the label teacher reads its `labels.csv`.

    Raises:
        ConfigError: the name is not known.
        BackendError: what the teacher needs is not installed.
    """
    if name not in TEACHERS:
        raise ConfigError(f"no teacher {name!r}; {did_you_mean(name, TEACHERS)}")
    return TEACHERS[name](Path(corpus))


__all__ = ["TEACHERS", "Teacher", "make_teacher"]
