"""The verb `finetune`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .pretrain import add_run_arguments, train

if TYPE_CHECKING:
    from ..pretrain.run.loop import Outcome

DEFAULT = "default"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG|LABELS",
        help="a YAML file or the name of a bundled one, for instance ssamba_esc50; or labels, for the bundled "
        "weights: a folder a class, a table (path,label[,start,end][,split]), or a HEAR task")  # fmt: skip
    add_run_arguments(parser)
    parser.add_argument("--out", metavar="DIR", help="folder of the run; the same as run.out=DIR")


def run(args: argparse.Namespace) -> int:
    """Fine-tune, and return the exit status: 0 finished, 3 stopped before the last step."""
    from ..pretrain import read_config

    overrides = list(args.overrides)
    if args.out is not None:
        overrides.append(f"run.out={args.out}")
    name = args.config
    if _is_labels(name):
        name = DEFAULT
        overrides.insert(0, f"data.path={args.config}")
    config = read_config(name, ["recipe=finetune", *overrides])

    def write_classifier(outcome: Outcome) -> None:
        if outcome.head is not None:
            from ..classify.finetuned import write_finetuned

            file = write_finetuned(outcome.out, outcome.head, config.data.crop_seconds)
            print(f"for `predict --model`: {file}")

    return train(config, args.resume, args.dry_run, write_classifier)


def _is_labels(name: str) -> bool:
    path = Path(name).expanduser()
    return path.exists() and path.suffix.lower() not in (".yaml", ".yml", ".json")
