"""Options that several verbs share: which model, on which machine, which labels; and what they ask for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..config import parse_setting
from ..errors import ConfigError

if TYPE_CHECKING:
    from ..embedding.embedder import AudioEmbedder
    from ..io.labels import LabelTable

# Far more threads than cores would take minutes for each call.
_MOST_THREADS = 1024
PRECISIONS = ("float32", "bfloat16", "float16")  # those of `modules.compute`, which imports torch


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say which model; `model_arguments` reads them."""
    add = parser.add_argument_group("model").add_argument
    add("--model", default="", metavar="NAME_OR_FILE",
        help="variant, weights file or hub id; `list` shows the names")  # fmt: skip
    add("--window-seconds", type=float, metavar="S", help="length of the windows the encoder sees")
    add_precision_option(add)
    add("--compat", choices=("published",), help="the authors' runtime with its quirks (docs/models.md)")
    add("--option", action="append", default=[], metavar="KEY=VALUE",
        help="one field of the model's configuration")  # fmt: skip


def add_precision_option(add: Callable[..., Any]) -> None:
    """Declare `--precision`."""
    add("--precision", default="float32", choices=("auto", *PRECISIONS),
        help="of the encoder [%(default)s]; auto: bfloat16 where that is faster and as good")  # fmt: skip


def tell_precision(asked: str, model: AudioEmbedder) -> None:
    """Say on the standard error which precision "auto" has chosen."""
    if asked == "auto":
        print(f"precision: {model.precision}", file=sys.stderr)


def add_machine_options(parser: argparse.ArgumentParser, decoding: bool = True) -> Callable[..., Any]:
    """Declare the options that say where to compute, for a verb that decodes much; return what adds more of them."""
    add = parser.add_argument_group("machine").add_argument
    add("--device", metavar="NAMES", help="where to compute: cpu, cuda:0, or several: cuda:0,cuda:1")
    add("--backend", metavar="NAME", help="of the scan: cpu, torch, reference, triton, mamba_ssm")
    add("--threads", type=int, metavar="N", help="CPU threads of the model")
    if decoding:
        add("--workers", type=int, metavar="N", help="decoding processes (0: decode in this one)")
    add("--batch-windows", type=int, metavar="N", help="windows encoded at once (16; on a GPU 256)")
    return add


def devices(args: argparse.Namespace) -> tuple[str, ...]:
    """Return the names of the devices given; none for the default."""
    return () if args.device is None else tuple(name.strip() for name in args.device.split(","))


def use_threads(count: int | None) -> None:
    """Set how many threads PyTorch and the kernels use on the CPU; None leaves that to PyTorch."""
    if count is None:
        return
    if not 1 <= count <= _MOST_THREADS:
        raise ConfigError(f"--threads {count}: expected 1 to {_MOST_THREADS}")
    import torch

    torch.set_num_threads(count)


def load(args: argparse.Namespace, **arguments: Any) -> AudioEmbedder:
    """Load a model on the machine that the options describe; `arguments` are those of `load_model`."""
    use_threads(args.threads)
    from ..hear import load_model

    model = load_model(**{**machine_arguments(args), **arguments})
    tell_precision(arguments.get("precision", ""), model)
    return model


def model_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Return the keywords of `load_model` that say which model; its embeddings depend on them."""
    given = {
        "model_file_path": args.model, "window_seconds": args.window_seconds, "precision": args.precision,
        "compat": args.compat, **dict(map(parse_setting, args.option)),
    }  # fmt: skip
    return {key: value for key, value in given.items() if value is not None}


def machine_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Return the keywords of `load_model` that say how to compute, whatever the model."""
    device = next(iter(devices(args)), None)
    return {"device": device, "backend": args.backend, "max_batch_windows": args.batch_windows}


def add_label_options(group: argparse._ArgumentGroup) -> None:
    """Declare the options that say how labels are written down; `labels_from` reads them."""
    add = group.add_argument
    add("--audio", type=Path, metavar="DIR", help="folder that audio paths are relative to")
    add("--path-column", default="path", metavar="NAME")
    add("--label-column", metavar="NAME", help="default: label; in Raven tables Annotation, Species, …")


def add_label_files(parser: argparse.ArgumentParser) -> None:
    """Declare the options for labels to be shown."""
    group = parser.add_argument_group("labels")
    group.add_argument("--labels", nargs="+", type=Path, metavar="LABELS",
                       help="labels to show, of any kind that `fit` reads")  # fmt: skip
    add_label_options(group)


def shown_labels(args: argparse.Namespace) -> LabelTable | None:
    """Return the labels to be shown, or None."""
    if args.labels is None:
        return None
    # Nothing is fitted: one label of a class is enough, and events of one class may overlap.
    return labels_from(args, args.labels, rare="keep", overlaps="keep")


def labels_from(
    args: argparse.Namespace,
    labels: Sequence[Path],
    *,
    rare: Literal["refuse", "drop", "keep"] = "refuse",
    overlaps: Literal["refuse", "merge", "keep"] | None = None,
    kind: Literal["single", "multi", "events"] | None = None,
    split_column: str = "split",
    group_by: str | None = None,
) -> LabelTable:
    """Read labels as the options say."""
    from ..io.labels import Columns, read_labels

    columns = Columns(args.path_column, args.label_column, split_column, group_by)
    return read_labels(labels, kind=kind, columns=columns, audio=args.audio, rare=rare, overlaps=overlaps)
