"""The command line. Nothing is defined here: importing the verbs `list` and `map` puts those names in."""

from .program import PROGRAM, VERBS, main

__all__ = ["PROGRAM", "VERBS", "main"]
