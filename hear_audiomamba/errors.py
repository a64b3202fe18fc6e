"""Every error this package raises on purpose, and the words that its messages share.

Each class is also the built-in error a caller would expect, so `except ValueError` keeps working.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager


class AudioMambaError(Exception):
    """Base of all errors raised on purpose: one line saying what was given and what is allowed."""


class InputError(AudioMambaError, ValueError):
    """An argument does not fit: wrong rank, dtype, range, shape, or device."""


class ConfigError(AudioMambaError, ValueError):
    """A configuration holds an unknown key or a value that is not allowed."""


class VariantError(AudioMambaError, ValueError):
    """A model name is not known."""


class CheckpointError(AudioMambaError, RuntimeError):
    """A weights file cannot be used: unreadable, unsafe, of another model, or with the wrong hash."""


class BackendError(AudioMambaError, RuntimeError):
    """The requested compute backend does not exist on this machine or in this build."""


class AudioReadError(AudioMambaError, RuntimeError):
    """An audio file cannot be decoded."""


class TruncatedAudioError(AudioReadError):
    """An audio file does not hold all the audio that it should; the part that is there can be read."""


class DataError(AudioMambaError, RuntimeError):
    """A folder, manifest or results file is missing, empty, or not what it should be."""


class LabelError(DataError):
    """Labels that cannot be used.

    Args:
        labels: their file or folder.
        problems: all that is wrong, each with its file and line.
    """

    def __init__(self, labels: str, problems: Sequence[str]) -> None:
        self.labels, self.problems = labels, list(problems)
        super().__init__("\n  ".join(self.lines(100)))

    def lines(self, most: int) -> list[str]:
        """Return how many problems there are, and the first `most` of them, one a line."""
        n = len(self.problems)
        shown = [" ".join(problem.split()) for problem in self.problems[:most]]
        more = [f"and {n - most} more"] if n > most else []
        return [f"{self.labels}: {counted(n, 'problem')} in these labels", *shown, *more]


class OutputError(AudioMambaError, OSError):
    """A file or folder cannot be written: no space, no permission, no such folder."""

    @classmethod
    def of(cls, path: object, error: Exception) -> OutputError:
        """Return the error that says which path cannot be written, with the system's number and reason."""
        if not isinstance(error, OSError):
            return cls(f"{path}: cannot be written: {error}")
        made = cls(f"{path}: cannot be written: {error.strerror or error}")
        made.errno = error.errno
        return made


class DownloadError(AudioMambaError, OSError):
    """A file cannot be downloaded: no network, no such file, or not the file that was expected."""


class MissingPackageError(AudioMambaError, ImportError):
    """The call needs a package that is not installed, or that cannot be loaded here."""


class FirstUseWarning(UserWarning):
    """Weights without a published hash were downloaded for the first time; their hash has been recorded."""


class SettingsWarning(UserWarning):
    """A weights file does not contain the settings that belong to its weights; defaults are used."""


class UntrainedWeightsWarning(UserWarning):
    """The model was built from a fixed seed because no trained weights are available."""


def require(module: str, task: str, install: str) -> None:
    """Refuse a task whose package is not installed, before anything is done.

    Args:
        module: what the task imports, for instance "pyarrow".
        task: in words.
        install: what to give pip, for instance "hear_audiomamba[parquet]".

    Raises:
        MissingPackageError: says how to install it.
    """
    if importlib.util.find_spec(module) is None:
        raise MissingPackageError(f"{task} needs {module}: pip install '{install}'")


@contextmanager
def loading(package: str) -> Iterator[None]:
    """Import a package in this block; an installation that is damaged, or lacks a library, is then named.

    Args:
        package: what is imported.

    Raises:
        MissingPackageError: it is installed, and cannot be loaded.
    """
    try:
        yield
    except ModuleNotFoundError:
        raise
    except (ImportError, OSError) as error:  # OSError: of ctypes and cffi, which soundfile uses
        raise MissingPackageError(f"{package} cannot be loaded: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """Return what an error of a library says as one line, or its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def shown(value: object, most: int = 80) -> str:
    """Return what a caller gave as part of one line, however long or wide it is.

    Args:
        value: anything.
        most: characters to return.
    """
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # of an int with more digits than Python prints
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= most else f"{text[: most - 1]}…"


def counted(count: int, noun: str, nouns: str = "") -> str:
    """Return a number with its noun, for instance "1 clip" or "2 clips".

    Args:
        count: how many.
        noun: what one is called.
        nouns: what several are called; by default the noun with an "s".
    """
    return f"{count} {noun if count == 1 else nouns or f'{noun}s'}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message that points to the nearest known names.

    Args:
        name: what was given.
        known: all allowed names.

    Returns:
        `"did you mean 'a' or 'b'?"` when some are near, else `"known: a, b, …"`.
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.55)
    near = near or [n for n in names if n.startswith(str(name))][:3]
    if near:
        return "did you mean " + " or ".join(repr(n) for n in near) + "?"
    return "known: " + ", ".join(names)
