"""From labels to a classifier, with a measurement of how good it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..archive.options import Resources
from ..embedding.embedder import AudioEmbedder
from ..io.labels import LabelTable
from .embeddings import OnProgress
from .fit_clips import fit_clips
from .fit_events import fit_events
from .outcome import FitOptions, Fitted


def fit_labels(
    table: LabelTable,
    model: AudioEmbedder,
    embeddings: str | Path,
    options: FitOptions | None = None,
    *,
    arguments: dict[str, Any] | None = None,
    resources: Resources | None = None,
    on_progress: OnProgress = None,
) -> Fitted:
    """Fit a classifier to labels.

    Args:
        table: what `read_labels` returned.
        model: the model that makes the embeddings.
        embeddings: an archive of this model's embeddings; missing embeddings are added to it.
        options: how to fit.
        arguments: keywords of `load_model` that `model` was loaded with, to load it again for predictions.
        resources: for embedding.
        on_progress: called after every file embedded.

    Returns:
        The classifier and its trial. It is fitted on all rows but those of a test split.

    Raises:
        DataError: too few files could be read, or the archive does not fit.
    """
    fit = fit_events if table.kind == "events" else fit_clips
    return fit(table, model, Path(embeddings), options or FitOptions(), arguments, resources, on_progress)
