"""The command line: a table of verbs, each in a module of its own that is imported only when used."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn, TextIO

from ..errors import AudioMambaError, LabelError, did_you_mean, one_line
from ..io.cores import limit_threads
from ..io.process import (
    check_working_folder,
    ending_as_interrupted,
    is_out_of_memory,
    keep_freed_memory,
    wait_passively,
)

PROGRAM = "hear-audiomamba"
_MOST_PROBLEMS = 25  # of labels that are shown

# verb: (one line of help). Each has a module of its name here, with add_arguments(parser) and run(args); a
# verb of two words has one with an underscore between them.
VERBS = {
    "list": "show the models, with their sizes and weights",
    "info": "show everything about one model or weights file",
    "embed": "write embeddings of audio files, folders and archives to disk",
    "fit": "fit a classifier to labelled recordings, with a report",
    "predict": "find a classifier's classes in recordings",
    "check": "run the checks of hear-validator, and show a table",
    "tasks list": "show the 19 tasks of the HEAR benchmark: clips, size, metric, licence",
    "tasks get": "download, check, unpack and resample HEAR tasks",
    "tasks check": "check that every HEAR task in a folder is complete",
    "tasks resample": "resample HEAR tasks to further sample rates",
    "evaluate": "run the HEAR benchmark; run again to continue",
    "leaderboard": "make tables, pictures and a page from evaluation results",
    "pretrain": "pretrain an encoder with one of the published recipes",
    "pretrain stats": "measure a corpus: hours, level, mean and deviation of its log-mels",
    "finetune": "train a whole model on labels",
    "convert": "convert published checkpoints to this package's format",
    "tag": "show AudioSet labels of audio files",
    "explore": "make a page to see, hear and label an archive",
    "map": "draw a picture of a folder of embeddings",
    "search": "find the nearest recordings in a folder of embeddings",
    "export": "export models for ONNX runtimes or for torch.export",
    "bench": "measure the speed of the scan and the models on this machine",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: the words after the program's name; by default those of this process.

    Returns:
        The exit status: 0 when all was done, 1 when something failed, 2 for wrong usage.
    """
    _accept_any_output()
    try:
        with ending_as_interrupted():
            status = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return status
    except LabelError as error:
        first, *problems = error.lines(_MOST_PROBLEMS)
        status = _fail(first, 1)
        print("\n".join(f"  {problem}" for problem in problems), file=sys.stderr)
        return status
    except AudioMambaError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt as interrupt:
        print(f"{PROGRAM}: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", __package__.partition(".")[0]):
            raise
        hint = (
            "; exported models run without it: see hear_audiomamba.onnx_runtime" if package == "torch" else ""
        )
        return _fail(f"{package} is not installed, and this command needs it{hint}", 1)
    except ImportError as error:  # a library that is damaged, or too large for the memory
        return _fail(f"a library cannot be loaded: {_why_not_loaded(error)}", 1)
    except BrokenPipeError:  # the reader of a pipe went away, as `head` does
        sys.stderr.close()
        return 141
    except Warning as warning:  # `python -W error`
        return _fail(str(warning), 1)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _fail(f"out of memory, or of threads (ulimit -v, -u): {one_line(error)}", 1)
    except OSError as error:  # the system's word on a file or a folder that the line names
        if error.errno is None:  # of a library's own
            return _fail(one_line(error), 1)
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror), 1)


def _accept_any_output() -> None:
    """Print to streams that are closed, or whose encoding lacks a character, without failing."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # open as long as the program
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _run(words: list[str]) -> int:
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0 if words else 2
    if words[0] == "--version":
        from .. import __version__

        print(f"{PROGRAM} {__version__}")
        return 0
    verb, rest = split_verb(words)
    family = {name: text for name, text in VERBS.items() if name.startswith(f"{verb} ")}
    if family and verb not in VERBS:
        if not rest or rest[0] in ("-h", "--help"):
            print(_usage(family))
            return 0 if rest else 2
        verb = f"{verb} {rest[0]}"
    if verb not in VERBS:
        return _fail(f"unknown verb {verb!r}; {did_you_mean(verb, VERBS)}", 2)
    for before, word in zip([verb, *rest], rest):
        # A shell variable that is not set; as a path it would be the current folder.
        if not word or (word.startswith("--") and word.endswith("=")):
            return _fail(f"an empty value after {word or before!r}; give one, or leave the option out", 2)
    check_working_folder()
    wait_passively()
    limit_threads(os.environ)
    # Options may stand between words: `pretrain ssam_tiny --resume optim.steps=100`.
    args = make_parser(verb).parse_intermixed_args(_names_behind_dashes(rest))
    warnings.showwarning = _show_warning
    keep_freed_memory()
    status: int = _module(verb).run(args)
    return status


def split_verb(words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the verb that a line begins with, of one word or two, and the words after it."""
    n_words = 2 if " ".join(words[:2]) in VERBS else 1
    return " ".join(words[:n_words]), list(words[n_words:])


def _names_behind_dashes(words: list[str]) -> list[str]:
    """Return the words with those behind `--` as paths that no parser takes for options."""
    if "--" not in words:
        return words
    at = words.index("--")
    return words[:at] + [f"./{word}" if word.startswith("-") else word for word in words[at + 1 :]]


def make_parser(verb: str) -> argparse.ArgumentParser:
    """Return the parser of a verb's words.

    Args:
        verb: one of `VERBS`.
    """
    parser = _Parser(f"{PROGRAM} {verb}", description=_sentence(VERBS[verb]))
    _module(verb).add_arguments(parser)
    return parser


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with the option that was probably meant."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and leave with status 2."""
        unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        if unknown:
            known = re.findall(r"--[\w-]+", self.format_usage())
            message = f"unknown option {unknown[1]!r}; {did_you_mean(unknown[1], known)}"
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())} (`{self.prog} --help` shows all)\n")


def _module(verb: str) -> ModuleType:
    return importlib.import_module(f".{verb.replace(' ', '_')}", __package__)


def _usage(verbs: Mapping[str, str] = VERBS) -> str:
    lines = [f"usage: {PROGRAM} VERB …    ({PROGRAM} VERB --help shows details)", ""]
    return "\n".join(lines + [f"  {verb:14} {text}" for verb, text in verbs.items()])


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _fail(message: str, status: int) -> int:
    print(f"{PROGRAM}: error: {' '.join(message.split())}", file=sys.stderr)
    return status


def _why_not_loaded(error: BaseException) -> str:
    """Return the loader's own words: libraries put advice of many lines around them."""
    while isinstance(error.__cause__ or error.__context__, ImportError):
        error = error.__cause__ or error.__context__  # type: ignore[assignment]  # one of them is there
    said = one_line(error)
    # What the loader says where no memory may be had, and where programs may not be run from a disk.
    is_refused = "failed to map" in said or "cannot allocate memory" in said.lower()
    return said + "; is memory limited (ulimit -v), or its disk mounted noexec?" if is_refused else said


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"{PROGRAM}: warning: {message}", file=sys.stderr)
