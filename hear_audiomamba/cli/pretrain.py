"""The verb `pretrain`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import counted

if TYPE_CHECKING:
    from ..pretrain import Outcome, PretrainConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="a YAML file, or the name of a bundled one, for instance ssam_tiny")
    add_run_arguments(parser)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what every verb that trains takes besides."""
    parser.add_argument("overrides", nargs="*", metavar="key=value",
        help="change single settings, for instance optim.batch=64")  # fmt: skip
    parser.add_argument(
        "--resume", action="store_true", help="continue from the newest checkpoint in run.out"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, say what would be done, and stop"
    )


def run(args: argparse.Namespace) -> int:
    """Train, and return the exit status: 0 finished, 3 stopped before the last step."""
    from ..pretrain import read_config

    return train(read_config(args.config, args.overrides), args.resume, args.dry_run)


def train(
    config: PretrainConfig, resume: bool, dry_run: bool, on_end: Callable[[Outcome], None] | None = None
) -> int:
    """Train or describe a run, and return the exit status; `on_end` is called in the main process."""
    from ..pretrain import pretrain

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    if dry_run:
        return _describe(config)
    return _report(pretrain(config, resume=resume), on_end)


def _report(outcome: Outcome, on_end: Callable[[Outcome], None] | None) -> int:
    from ..pretrain.run.distributed import launched_rank

    if launched_rank() == 0:
        done = "finished" if outcome.finished else "stopped (continue with --resume)"
        loss = "nothing was left to do" if outcome.loss is None else f"loss {outcome.loss:.4f}"
        print(f"{done} at step {outcome.step}, {loss}: {outcome.out / 'model.safetensors'}")
        if outcome.scores:
            print("test: " + ", ".join(f"{name} {value:.4f}" for name, value in outcome.scores.items()))
        if on_end is not None:
            on_end(outcome)
    return 0 if outcome.finished else 3


def _describe(config: PretrainConfig) -> int:
    import torch

    from ..pretrain.run.build import build, check_disk
    from ..pretrain.run.evaluation import Forward
    from ..pretrain.run.memory import choose_micro_batch, clips_of_process
    from ..pretrain.run.optim import Schedule

    share = clips_of_process(config)
    parts = build(config)
    check_disk(config, parts.objective)
    micro = choose_micro_batch(config, parts, Forward(config, parts, torch.device("cpu")), None)
    schedule = Schedule(config.optim, len(parts.train) / config.optim.batch)
    encoder = sum(p.numel() for p in parts.encoder.parameters())
    print(
        f"model      {parts.model.variant}, {encoder / 1e6:.2f} M parameters, {parts.n_frames} frames a crop"
    )
    print(
        f"data       {counted(len(parts.train.clips), 'clip')}, {counted(len(parts.train), 'crop')} an epoch"
    )
    print(f"valid      {counted(len(parts.valid.clips) if parts.valid else 0, 'clip')}")
    if parts.test is not None:
        print(f"test       {counted(len(parts.test.clips), 'clip')}")
    print(
        f"steps      {schedule.steps} of {counted(config.optim.batch, 'crop')}, {schedule.warmup} of warm-up"
    )
    print(f"batches    {share // micro} × {counted(micro, 'crop')} a step in each process")
    print(f"rate       {schedule.peak:.3g} at its peak")
    return 0
