"""`hear-audiomamba convert SOURCE TARGET`: published checkpoints to our format."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import CheckpointError
from ..io.files import sha256_of
from .options import PRECISIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="a checkpoint as its authors released it (.pth, .safetensors, …)")
    parser.add_argument("target", help="the .safetensors file to write")
    parser.add_argument("--dtype", choices=PRECISIONS, help="store weights in this type")
    parser.add_argument("--overwrite", action="store_true", help="replace the target if it exists")


def run(args: argparse.Namespace) -> int:
    from ..models.convert import convert
    from ..modules import compute

    target = Path(args.target)
    if target.suffix != ".safetensors":
        raise CheckpointError(f"{target}: the target's name must end in .safetensors")
    if target.exists() and not args.overwrite:
        raise CheckpointError(f"{target} exists; use --overwrite to replace it")
    config = convert(args.source, target, dtype=compute.PRECISIONS.get(args.dtype))
    print(f"{config.variant}: {target} ({target.stat().st_size / 1e6:.1f} MB, sha256 {sha256_of(target)})")
    return 0
