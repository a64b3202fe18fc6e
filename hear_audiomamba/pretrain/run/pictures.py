"""A picture of what the model sees and what it makes of it: input, mask and reconstruction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...io.drawing import quiet_drawing
from ...io.files import replacing
from ...modules.patch_embed import PatchEmbed
from ..objectives.objectives import Picture


def patches_to_spectrogram(patches: Tensor, embed: PatchEmbed, shape: tuple[int, int]) -> Tensor:
    """Put patches side by side again.

    Args:
        patches: `(P, values)` in the order of the encoder's tokens.
        embed: the encoder's patches, which do not overlap.
        shape: frames and mel bins of the spectrogram.

    Returns:
        `(frames, mel bins)`.
    """
    frames, bins = embed.patch_size
    n_time, n_freq = embed.grid_of(*shape)
    inner = (frames, bins) if embed.kernel == "time_freq" else (bins, frames)
    outer = (n_time, n_freq) if embed.order == "time" else (n_freq, n_time)
    grid = patches.reshape(*outer, *inner)
    if embed.kernel == "freq_time":
        grid = grid.transpose(2, 3)
    if embed.order == "frequency":
        grid = grid.transpose(0, 1)
    return grid.permute(0, 2, 1, 3).reshape(n_time * frames, n_freq * bins)


@quiet_drawing()
def reconstruction_picture(picture: Picture, embed: PatchEmbed, shape: tuple[int, int], path: Path) -> None:
    """Write the picture of one clip.

    Args:
        picture: true and predicted patches, and the mask.
        embed: the encoder's patches.
        shape: frames and mel bins.
        path: the PNG file; its folder is made.
    """
    from matplotlib.figure import Figure

    values = picture.mask[:, None].expand_as(picture.target).float()
    true = patches_to_spectrogram(picture.target.float(), embed, shape).cpu()
    guess = patches_to_spectrogram(picture.prediction.float(), embed, shape).cpu()
    hidden = patches_to_spectrogram(values, embed, shape).cpu().bool()
    panels = {
        "input": true,
        "what the encoder sees": torch.where(hidden, torch.nan, true),
        "prediction": guess,
        "prediction where hidden, input elsewhere": torch.where(hidden, guess, true),
    }
    figure = Figure(figsize=(8, 8), layout="constrained")
    low, high = float(true.min()), float(true.max())
    for axes, (title, image) in zip(figure.subplots(len(panels), 1, sharex=True), panels.items()):
        axes.set_facecolor("0.6")
        axes.imshow(image.T.numpy(), origin="lower", aspect="auto", vmin=low, vmax=high, cmap="magma")
        axes.set_title(title, fontsize=9)
        axes.set_ylabel("mel bin")
    axes.set_xlabel("frame (10 ms)")
    _save(figure, path)


@quiet_drawing()
def course_picture(events: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the course of a run: its losses, and the probe's scores where there are some.

    Args:
        events: of the run's log, as `runlog.read_log` gives them.
        path: the PNG file; its folder is made.
    """
    from matplotlib.figure import Figure

    probes = [event for event in events if event["event"] == "probe"]
    figure = Figure(figsize=(9, 3.5) if probes else (5, 3.5), layout="constrained")
    panels = figure.subplots(1, 2 if probes else 1, squeeze=False)[0]
    for kind, style in (("train", "-"), ("valid", "o--")):
        chosen = [event for event in events if event["event"] == kind and event.get("loss") is not None]
        if chosen:
            panels[0].plot([e["step"] for e in chosen], [e["loss"] for e in chosen], style, label=kind, ms=4)
    panels[0].set_ylabel("loss")
    panels[0].set_yscale("log")
    if probes:
        for name in [key for key in probes[0] if key not in ("event", "step")]:
            line = "k-" if name == "mean" else "-"
            values = [event.get(name) for event in probes]
            panels[1].plot([e["step"] for e in probes], values, line, marker="o", ms=4, label=name)
        panels[1].set_ylabel("probe score")
    for axes in panels:
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    with replacing(path) as partial:
        figure.savefig(partial, dpi=90)
