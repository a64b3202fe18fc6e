"""A picture of a recording's tags: the spectrogram above, the labels' activations below."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..io.drawing import quiet_drawing
from ..io.files import replacing
from ..io.names import valid_text
from .embedder import AudioEmbedder
from .tagging import Tags

_MAX_COLUMNS = 2000
_BLOCK_SECONDS = 60.0


@quiet_drawing()
def plot_tags(
    path: str | Path, model: AudioEmbedder, audio: Tensor, tags: Tags, *, top: int, title: str
) -> None:
    """Draw a recording and its labels over time to a PNG file.

    The file appears under its name only when it is complete.

    Args:
        path: the file to write; its folder is made.
        model: what tagged the recording.
        audio: `(S,)` the recording at the model's sample rate.
        tags: what `tag_audio` returned for it.
        top: how many labels to show.
        title: printed above.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    seconds = len(audio) / model.sample_rate
    shown = tags.top(top)
    figure = Figure(figsize=(10, 4.2 + 0.22 * len(shown)), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 0.5 + 0.22 * len(shown)])

    picture = _spectrogram(model, audio)
    low, high = np.percentile(picture, [2, 99.8])
    above.imshow(
        picture.T, origin="lower", aspect="auto", extent=(0, seconds, 0, picture.shape[1]),
        vmin=low, vmax=max(high, low + 1e-6), cmap="magma", interpolation="nearest",
    )  # fmt: skip
    above.set_ylabel("mel bin")
    above.set_title(valid_text(title), parse_math=False)

    activity = tags.frames[:, [index for index, _, _ in shown]]
    edges = np.concatenate([[0.0], (tags.times[1:] + tags.times[:-1]) / 2, [seconds]])
    mesh = below.pcolormesh(
        edges, np.arange(len(shown) + 1), activity.T, vmin=0, vmax=1, cmap="viridis", rasterized=True
    )
    below.invert_yaxis()
    below.set(xlabel="seconds", xlim=(0, seconds))
    rows = np.arange(len(shown)) + 0.5
    below.set_yticks(rows, [name for _, name, _ in shown], parse_math=False)
    clip = below.secondary_yaxis("right")
    clip.set_yticks(rows, [f"{probability:.2f}" for _, _, probability in shown])
    clip.tick_params(length=0)
    figure.colorbar(mesh, ax=below, label="probability", pad=0.01)
    with replacing(path) as partial:
        FigureCanvasAgg(figure).print_png(partial)  # type: ignore[no-untyped-call]  # matplotlib's is not typed


def _spectrogram(model: AudioEmbedder, audio: Tensor) -> np.ndarray:
    """Return the model's spectrogram, `(columns, F)`, averaged over time to at most 2000 columns."""
    size = round(_BLOCK_SECONDS * model.sample_rate)
    total = -(-len(audio) // model.features.hop_length)
    group = -(-total // _MAX_COLUMNS)
    pieces = []
    with torch.no_grad():
        for start in range(0, len(audio), size):
            block = model.features(audio[None, start : start + size].to(model.device))[0]
            if group > 1:
                whole = len(block) // group * group
                block = block[:whole].unflatten(0, (-1, group)).mean(dim=1) if whole else block[:1]
            pieces.append(block.cpu().numpy())
    return np.concatenate(pieces)
