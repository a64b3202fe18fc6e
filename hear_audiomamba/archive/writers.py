"""What every writer of a unit's results offers: it begins, is stopped, and continues with the same bytes.

A writer writes below the unit's own folder only; the run moves its files to their names when they are
complete. The same embeddings give the same bytes, also of a writer that was stopped and continues.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..embedding.embedder import AudioEmbedder
from .clips import Clip
from .options import EmbedOptions
from .sources import Source

Array = NDArray[Any]
Mark = dict[str, Any]


@dataclass(frozen=True)
class Provenance:
    """Where embeddings come from: stands in every file.

    Attributes:
        model: name of the variant.
        weights_sha256: of the weights' values.
        settings: all of the model's and the run's settings, plain values.
    """

    model: str
    weights_sha256: str
    settings: dict[str, Any]

    def to_json(self) -> str:
        """Return everything as one JSON object."""
        return json.dumps(
            {"model": self.model, "weights_sha256": self.weights_sha256, **self.settings}, sort_keys=True
        )


class UnitWriter(ABC):
    """Writes the results of one unit.

    Args:
        folder: the unit's own, for the files until they are complete.
        unit: number of the unit.
        model: whose embeddings.
        options: of the run.
        provenance: to be stored with them.
    """

    def __init__(
        self, folder: Path, unit: int, model: AudioEmbedder, options: EmbedOptions, provenance: Provenance
    ) -> None:
        self.folder, self.unit, self.model = folder, unit, model
        self.options, self.provenance = options, provenance
        self.dtype: np.dtype[Any] = np.dtype(options.dtype)
        self.width = model.scene_embedding_size
        self.names: list[str] = []

    @abstractmethod
    def add(self, source: Source, clips: Sequence[Clip]) -> None:
        """Write the embeddings of a source."""

    def close(self) -> list[str]:
        """Complete the files; return the names of all of the unit's that were written since it was opened,
        relative to `folder` and to the output folder."""
        return self.names

    def finished(self) -> list[str]:
        """Return the names of files that are complete already and may be moved to their places."""
        return []

    def mark(self) -> Mark | None:
        """Return what `resume` needs to continue after the sources added so far; None if it cannot."""
        return None

    def flush(self) -> None:  # noqa: B027
        """Have everything up to the latest mark on disk; nothing to do where files are never half done."""

    def resume(self, mark: Mark) -> None:
        """Continue where a writer of the same folder was when it gave this mark; nothing was added yet."""
        raise NotImplementedError

    def _seconds(self, clip: Clip) -> float:
        return clip.n_samples / self.model.sample_rate

    def _new(self, name: str) -> Path:
        self.names.append(name)
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


NewWriter = Callable[[Path, int, AudioEmbedder, EmbedOptions, Provenance], UnitWriter]


@dataclass(frozen=True)
class Product:
    """What a run makes of clips, where it is not their embeddings; can be pickled.

    Attributes:
        settings: what the results depend on besides model and options, plain values; kept on record.
        writer: begins the files of a unit.
        names: the files that a unit, by its number, may have.
    """

    settings: dict[str, Any]
    writer: NewWriter
    names: Callable[[int], Sequence[str]]


def write_header(file: Any, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Write the beginning of an `.npy` file, which the values of an array of this shape are to follow."""
    facts = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, facts)
