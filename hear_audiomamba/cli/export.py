"""The verb `export`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", help="a variant of `hear-audiomamba list`, a weights file, a hub id, or a "
        "classifier that `fit` or `finetune` wrote")  # fmt: skip
    add("--format", choices=("onnx", "torch-export"), default="onnx", help="which file (default: onnx)")
    add("--out", type=Path, help="the file to write (default: MODEL.onnx or MODEL.pt2 here)")
    add("--seconds", type=float,
        help="length of the clips it will take (default: the model's window, or the clips that its classes were "
        "learned on)")  # fmt: skip
    add("--classes", action="store_true",
        help="also give the probabilities of the model's own tagging head; every call then takes a second pass "
        "through the model. A classifier gives its classes without this")  # fmt: skip
    add("--from", dest="source", choices=("waveform", "spectrogram"), default="waveform",
        help="what it will take (default: waveform)")  # fmt: skip
    add("--int8", action="store_true", help="ONNX: weights in eight bits, for smaller files")


def run(args: argparse.Namespace) -> int:
    from ..adapters.export import export_onnx, export_torch
    from ..classify.model_file import is_classifier, load_classifier
    from ..errors import ConfigError
    from ..hear import load_model

    onnx = args.format == "onnx"
    if args.int8 and not onnx:
        raise ConfigError("--int8 is for --format onnx")
    ending = ".onnx" if onnx else ".pt2"
    classifier = None
    if is_classifier(args.model):
        classifier = load_classifier(args.model)
        model = load_model(device="cpu", **classifier.embedding.arguments)
        out = args.out or Path(f"{Path(args.model).stem}{ending}")
    else:
        model = load_model(args.model, device="cpu")
        out = args.out or Path(f"{model.config.variant}{ending}")
    options = {
        "seconds": args.seconds,
        "source": args.source,
        "classes": args.classes,
        "classifier": classifier,
    }
    if onnx:
        export_onnx(model, out, int8=args.int8, **options)
    else:
        export_torch(model, out, **options)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
    return 0
