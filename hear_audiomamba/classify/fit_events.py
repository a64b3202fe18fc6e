"""Events with start and end to a classifier of timestamp embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..archive.run import Resources
from ..embedding.embedder import AudioEmbedder
from ..errors import DataError
from ..io.labels import LabelTable
from .embeddings import OnProgress
from .outcome import FitOptions, Fitted


def fit_events(
    table: LabelTable,
    model: AudioEmbedder,
    embeddings: Path,
    options: FitOptions,
    arguments: dict[str, Any] | None,
    resources: Resources | None,
    on_progress: OnProgress,
) -> Fitted:
    """Fit a classifier of events; see `fit_labels`."""
    raise DataError("events: coming")
