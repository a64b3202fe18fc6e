"""Spectrograms of the most certain detections of each class, to check a classifier at a glance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..archive.sources import windows_name
from ..embedding.embedder import AudioEmbedder
from ..errors import AudioReadError
from ..io.audio import load_audio
from ..io.drawing import quiet_drawing, require_drawing
from ..io.files import replacing
from ..io.names import path_of
from .predict import Detection

MARGIN_SECONDS = 1.0
# A longer detection is shown from its beginning.
MOST_SECONDS = 12.0
PER_ROW = 3
# Bytes, of the 255 that file systems allow; and letters.
_LONGEST_NAME, _LONGEST_TITLE = 100, 40


def draw_detections(
    detections: Sequence[Detection], model: AudioEmbedder, folder: str | Path, count: int
) -> list[Path]:
    """Draw the most certain detections of each class.

    Args:
        detections: of any recordings.
        model: for its spectrogram.
        folder: for one PNG file a class, named after it; made if need be.
        count: most detections of a class.

    Returns:
        The files written.

    Raises:
        MissingPackageError: matplotlib is not installed.
        ConfigError: matplotlib does not start.
        OutputError: a file cannot be written.
    """
    require_drawing("--plot", "hear_audiomamba[classify]")
    by_class: dict[str, list[Detection]] = defaultdict(list)
    for one in sorted(detections, key=lambda one: -one.score):
        if len(by_class[one.label]) < count:
            by_class[one.label].append(one)
    names = file_names(sorted(by_class))
    files = [Path(folder) / f"{name}.png" for name in names.values()]
    for label, path in zip(names, files):
        _draw(label, by_class[label], model, path)
    return files


def file_names(labels: Sequence[str]) -> dict[str, str]:
    """Name a file for each label: one that every system takes, and no two the same where capitals do not count."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for label in labels:
        plain = "".join(letter if letter.isalnum() or letter in " -_." else "_" for letter in label)
        short = plain.encode()[:_LONGEST_NAME].decode(errors="ignore").strip(". ")
        stem = windows_name(short) or "class"
        name, number = stem, 2
        while name.casefold() in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.casefold())
        names[label] = name
    return names


def _title(label: str) -> str:
    text = " ".join(label.split())
    return text if len(text) <= _LONGEST_TITLE else f"{text[: _LONGEST_TITLE - 1]}…"


@quiet_drawing()
def _draw(label: str, detections: Sequence[Detection], model: AudioEmbedder, path: Path) -> None:
    from matplotlib.figure import Figure

    rows = -(-len(detections) // PER_ROW)
    figure = Figure(figsize=(4.2 * min(PER_ROW, len(detections)), 2.6 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, min(PER_ROW, len(detections)), squeeze=False).ravel()
    for axes in grid[len(detections) :]:
        axes.set_axis_off()
    for axes, one in zip(grid, detections):
        begin = max(0.0, one.start - MARGIN_SECONDS)
        seconds = min(one.end + MARGIN_SECONDS - begin, MOST_SECONDS)
        try:
            audio = load_audio(path_of(one.path), model.sample_rate, start=begin, duration=seconds)
        except AudioReadError as error:
            axes.text(0.5, 0.5, str(error), ha="center", va="center", wrap=True, fontsize=7)
            axes.set_axis_off()
            continue
        with torch.no_grad():
            picture = model.features(torch.from_numpy(audio)[None].to(model.device))[0].cpu().numpy()
        low, high = np.percentile(picture, [5, 99.8])
        end = begin + len(audio) / model.sample_rate
        axes.imshow(
            picture.T, origin="lower", aspect="auto", extent=(begin, end, 0, picture.shape[1]), cmap="magma",
            vmin=low, vmax=max(high, low + 1e-6), interpolation="nearest",
        )  # fmt: skip
        for edge in (one.start, one.end):
            axes.axvline(edge, color="white", linewidth=1.2, linestyle="--")
        axes.set(xlim=(begin, end), yticks=[])
        axes.set_title(f"{one.score:.2f}  {Path(one.path).name}", fontsize=8, parse_math=False)
        axes.tick_params(labelsize=7)
    figure.suptitle(
        f"{_title(label)}: the most certain detections, seconds in the recording",
        fontsize=10,
        parse_math=False,
    )
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=110)
