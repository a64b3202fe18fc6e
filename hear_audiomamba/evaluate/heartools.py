"""A launcher for HEAR's own tools, unmodified, in any environment where they are installed.

    python -m hear_audiomamba.evaluate.heartools validator hear_audiomamba
    python -m hear_audiomamba.evaluate.heartools embeddings hear_audiomamba --tasks-dir tasks --task all
    python -m hear_audiomamba.evaluate.heartools predictions embeddings/hear_audiomamba/*

What follows the tool's name goes to the tool. The launcher supplies what the tools miss on today's Python: a stand-in
for TensorFlow (`--real-tensorflow` before the tool's name keeps an installed one) and, for predictions, leave to read
back the checkpoints that the runner itself has just written. The predictions runner always uses seed 42;
`--seed N` before the tool's name gives another one.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..errors import BackendError
from ..models.bundled import bundled_path
from .child import exit_with_parent

MODULES = {
    "validator": "hearvalidator.validate",
    "embeddings": "heareval.embeddings.runner",
    "predictions": "heareval.predictions.runner",
}
KIT_SEED = 42
PYTHON_VARIABLE = "AUDIOMAMBA_HEAREVAL_PYTHON"


def heareval_python() -> Path:
    """Find an interpreter whose environment has HEAR's tools.

    Returns:
        `$AUDIOMAMBA_HEAREVAL_PYTHON`; else this interpreter, if heareval is installed with it; else
        `.venv-heareval/bin/python` in the current folder or at the top of the source checkout.

    Raises:
        BackendError: there is none; the message says how to install one.
    """
    named = os.environ.get(PYTHON_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise BackendError(f"{PYTHON_VARIABLE}={named}: no such file")
        return Path(named)
    if importlib.util.find_spec("heareval") is not None:
        return Path(sys.executable)
    for folder in (Path.cwd(), bundled_path("tasks.txt").parent):
        python = folder / ".venv-heareval" / "bin" / "python"
        if python.is_file():
            return python
    raise BackendError(
        "HEAR's tools (heareval, hearvalidator) are not installed: `make heareval` in a checkout, or "
        "`hear-audiomamba evaluate --install-kit DIR`, makes an environment with them, which "
        f"{PYTHON_VARIABLE} then names; --engine fast does without"
    )


def supply_tensorflow() -> None:
    """Let `import tensorflow` find a stand-in that knows no TensorFlow model."""
    from .kit import tensorflow_standin

    sys.modules["tensorflow"] = tensorflow_standin


def use_seed(seed: int, grid_seed: int | None) -> None:
    """Make the predictions runner of this process train with another seed than its own 42.

    Args:
        seed: of the initial weights and of dropout.
        grid_seed: of the choice of grid points; None takes `seed` for both, from one stream.
    """
    import random

    from heareval.predictions import task_predictions as kit
    from pytorch_lightning import seed_everything

    if seed == KIT_SEED and grid_seed in (None, KIT_SEED):
        kit.seed_everything, kit.random = seed_everything, random
        return

    def shuffle(points: list[Any]) -> None:
        random.shuffle(points)
        if grid_seed is not None:
            seed_everything(seed, workers=False)

    first = seed if grid_seed is None else grid_seed
    kit.seed_everything = lambda *_, **__: seed_everything(first, workers=False)
    # The kit's only use of Python's generator is the shuffle of its grid.
    kit.random = SimpleNamespace(shuffle=shuffle)


def main(argv: Sequence[str] | None = None) -> None:
    """Run one of the tools in this process; it ends as the tool ends."""
    parser = argparse.ArgumentParser(
        "hear_audiomamba.evaluate.heartools", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--real-tensorflow", action="store_true", help="use an installed TensorFlow")
    parser.add_argument(
        "--seed", type=int, default=KIT_SEED, help="of predictions (default: 42, the kit's own)"
    )
    parser.add_argument("--grid-seed", type=int, help="of the choice of grid points (default: the seed)")
    parser.add_argument("tool", choices=MODULES)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="given to the tool as they are")
    args = parser.parse_args(argv)
    exit_with_parent()
    if not args.real_tensorflow:
        supply_tensorflow()
    if args.tool == "predictions":
        os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
        use_seed(args.seed, args.grid_seed)
    sys.argv = [MODULES[args.tool], *args.arguments]
    runpy.run_module(MODULES[args.tool], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
