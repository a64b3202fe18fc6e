"""`hear-audiomamba tag FILE…`: AudioSet labels of audio files.

The default model is bundled. Its head has learned to say what YAMNet says: its tags are an imitation of YAMNet's 521
classes, made without anyone's labels.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AudioMambaError, ConfigError, UntrainedWeightsWarning, one_line
from ..io.drawing import require_drawing
from ..io.files import make_folder
from .options import add_precision_option, tell_precision

if TYPE_CHECKING:
    from torch import Tensor

    from ..embedding.embedder import AudioEmbedder
    from ..embedding.tagging import Tags

DEFAULT_MODEL = "hiermamba_nano"
_NOISE = "  [untrained weights: these labels are noise]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", type=Path, help="audio files of any rate")
    add("--model", default=DEFAULT_MODEL,
        help="a variant or weights file with a tagging head [%(default)s]")  # fmt: skip
    add("--top", type=int, default=5, metavar="K", help="labels to show [%(default)s]")
    add("--json", action="store_true", help="print JSON, one line for each file")
    add("--plot", type=Path, metavar="PNG", help="draw spectrogram and labels; a folder for several files")
    add("--allow-untrained", action="store_true",
        help="tag with random weights, for trying out: the labels are noise")  # fmt: skip
    add("--device", help="where to compute [a GPU if there is one]")
    add_precision_option(add)


def run(args: argparse.Namespace) -> int:
    import torch

    from ..embedding.tagging import no_head_error, tag_audio
    from ..encoders.base import n_classes
    from ..io.audio import load_audio

    if args.top < 1:
        raise ConfigError(f"--top: {args.top} is less than 1")
    if args.plot:
        require_drawing("--plot", "hear_audiomamba[evaluate]")
    model, untrained = _load(args)
    if not n_classes(model.encoder):
        raise no_head_error(model)
    if untrained and not args.allow_untrained:
        raise ConfigError(
            f"--model: {args.model} has no trained weights, so its labels would be noise; give a weights file, "
            "or --allow-untrained to see what the output looks like"
        )
    pictures = _picture_paths(args.files, args.plot)
    failed = 0
    for file, picture in zip(args.files, pictures):
        try:
            audio = torch.from_numpy(load_audio(file, model.sample_rate))
            tags = tag_audio(model, audio, model.sample_rate)
            _report(file, audio, tags, model, args, untrained)
            if picture is not None:
                from ..embedding.tag_plot import plot_tags

                plot_tags(picture, model, audio, tags, top=args.top, title=file.name + _NOISE * untrained)
        except (AudioMambaError, OSError) as error:
            failed += 1
            print(f"hear-audiomamba: error: {one_line(error)}", file=sys.stderr)
    return 1 if failed else 0


def _load(args: argparse.Namespace) -> tuple[AudioEmbedder, bool]:
    """Return the model, and whether its weights are random: then every result has to say so."""
    from ..hear import load_model

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UntrainedWeightsWarning)
        model = load_model(args.model, device=args.device, precision=args.precision)
    tell_precision(args.precision, model)
    for warning in caught:
        warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)
    return model, any(issubclass(warning.category, UntrainedWeightsWarning) for warning in caught)


def _picture_paths(files: list[Path], plot: Path | None) -> list[Path | None]:
    """Return where each file's picture goes."""
    if plot is None:
        return [None] * len(files)
    if len(files) == 1 and not plot.is_dir():
        make_folder(plot.parent)
        return [plot]
    if plot.suffix.lower() == ".png":
        raise ConfigError(f"--plot: {plot} is one file for {len(files)} recordings; name a folder")
    make_folder(plot)
    paths = [plot / f"{file.name}.png" for file in files]
    if len(set(paths)) < len(paths):
        raise ConfigError("--plot: two of the files have the same name; draw them one by one")
    return list(paths)


def _report(
    file: Path,
    audio: Tensor,
    tags: Tags,
    model: AudioEmbedder,
    args: argparse.Namespace,
    untrained: bool,
) -> None:
    from ..embedding.tagging import audioset_classes

    best = tags.top(args.top)
    seconds = len(audio) / model.sample_rate
    if args.json:
        ids = {name: mid for mid, name in audioset_classes()}
        labels = [
            {
                "label": name,
                **({"id": ids[name]} if name in ids else {}),
                "probability": round(probability, 6),
            }
            for _, name, probability in best
        ]
        facts = {"file": str(file), "seconds": round(seconds, 3), "windows": tags.n_windows}
        facts |= {"model": model.config.variant} | ({"untrained": True} if untrained else {})
        print(json.dumps({**facts, "labels": labels}, ensure_ascii=False))
        return
    several = f", {tags.n_windows} windows" if tags.n_windows > 1 else ""
    print(f"{file}  ({seconds:.1f} s{several}){_NOISE * untrained}")
    for _, name, probability in best:
        print(f"  {probability:6.3f}  {name}")
