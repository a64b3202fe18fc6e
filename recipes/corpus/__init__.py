"""An open pretraining corpus out of free-software packages and synthesis, built again by one command.

`build_corpus` turns a recipe into a folder of 16 kHz mono FLAC files with a manifest that names every
file's source and licence; `teachers` adds what the distillation objective learns from.
"""

from .build import build_corpus
from .manifest import read_manifest
from .recipe import CorpusRecipe, load_recipe

__all__ = ["CorpusRecipe", "build_corpus", "load_recipe", "read_manifest"]
