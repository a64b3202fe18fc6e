"""The page's data: where each sound lies on the map, in which file it is, and when."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np

from ...archive.journal import read_plan
from ...archive.map import groups_of, neighbour_map, principal_components, standardized
from ...archive.read import SceneTable, read_all_scenes
from ...errors import ConfigError, DataError
from ...io.files import write_text
from ...io.labels import LabelTable

METHODS = ("auto", "pca", "tsne", "umap")
# scikit-learn's t-SNE takes about a minute for so many.
MOST_FOR_TSNE = 5000
_EDGE = 0.02


@dataclass(frozen=True)
class Explored:
    """What a page shows: how many sounds, out of how many, laid out how."""

    shown: int
    total: int
    method: str


def write_page(
    folder: str | Path,
    page: str | Path,
    *,
    method: Literal["auto", "pca", "tsne", "umap"] = "auto",
    limit: int = 50_000,
    labels: LabelTable | None = None,
    seed: int = 0,
) -> Explored:
    """Write a page in which an archive is seen, heard and labelled.

    Args:
        folder: scene embeddings of files or segments, as `embed` wrote them.
        page: the .html file; links to the audio are relative to its folder.
        method: of the layout: principal components, t-SNE or UMAP; "auto" takes UMAP where it is installed,
            else t-SNE of up to 5,000 sounds, else principal components.
        limit: most sounds; of more, a random sample is shown.
        labels: given already; shown, and kept in what the page downloads.
        seed: of the sample and the layout.

    Returns:
        What the page shows.

    Raises:
        ConfigError: the method is not known. DataError: fewer than three sounds, or a library is missing.
        OutputError: the page cannot be written.
    """
    if method not in METHODS:
        raise ConfigError(f"method: {method!r} is not one of {', '.join(map(repr, METHODS))}")
    if limit < 3:
        raise ConfigError(f"limit: {limit}, a map needs at least 3 sounds")
    folder, page = Path(folder), Path(page)
    table = read_all_scenes(folder)
    if len(table) < 3:
        raise DataError(f"{folder}: {len(table)} embeddings, a map needs at least 3")
    chosen = np.arange(len(table))
    if len(table) > limit:
        chosen = np.sort(np.random.default_rng(seed).choice(len(table), limit, replace=False))
    paths = _audio_paths(folder, table)
    places, used = _layout(table.embeddings[chosen], method, seed)
    data = _data(table, chosen, paths, places, page, folder, labels)
    count = f"{len(chosen)}" if len(chosen) == len(table) else f"{len(chosen)} of {len(table)}"
    subtitle = f"{count} sounds by {table.provenance['model']}; layout: {used}"
    write_text(page, _assembled(folder.resolve().name or str(folder), subtitle, len(chosen), data))
    return Explored(len(chosen), len(table), used)


def _audio_paths(folder: Path, table: SceneTable) -> list[str]:
    """Return the audio file of each row; npz files are called after their source's name."""
    known = {source.name: source.label for _, source in read_plan(folder)}
    labels = set(known.values())
    return [path if path in labels else known.get(path, path) for path in table.paths]


def _layout(embeddings: np.ndarray, method: str, seed: int) -> tuple[np.ndarray, str]:
    if method == "auto":
        if find_spec("umap") is not None:
            method = "umap"
        else:
            small = len(embeddings) <= MOST_FOR_TSNE and find_spec("sklearn") is not None
            method = "tsne" if small else "pca"
    points = standardized(embeddings)
    if method == "pca":
        places = principal_components(points, 2)
    else:
        places = neighbour_map(principal_components(points, 50), method, seed)
    if places.shape[1] < 2:
        places = np.pad(places, ((0, 0), (0, 2 - places.shape[1])))
    names = {"pca": "principal components", "tsne": "t-SNE", "umap": "UMAP"}
    return places, names[method]


def _data(
    table: SceneTable, chosen: np.ndarray, paths: Sequence[str], places: np.ndarray, page: Path, folder: Path,
    labels: LabelTable | None,
) -> dict[str, Any]:  # fmt: skip
    own = [paths[index] for index in chosen]
    names = list(dict.fromkeys(own))
    number = {name: index for index, name in enumerate(names)}
    absolute = [os.path.abspath(name) for name in names]
    starts, ends = _times(table, chosen, own)
    groups = groups_of(own)
    known_groups = sorted(set(groups), key=lambda name: (name == "other", name))
    scaled = _scaled(places)
    shared = os.path.commonpath(absolute) if len(absolute) > 1 else os.path.dirname(absolute[0])
    identity = hashlib.sha256(json.dumps([absolute, table.provenance["weights_sha256"]]).encode()).hexdigest()
    return {
        "id": identity[:16],
        "folder": str(folder),
        "paths": absolute,
        "shown": [os.path.relpath(name, shared) for name in absolute],
        "links": [_link(name, page.parent) for name in absolute],
        "file": _packed([number[name] for name in own], np.uint32),
        "x": _packed(scaled[:, 0], np.uint16), "y": _packed(scaled[:, 1], np.uint16),
        "start": _packed(starts, np.float32), "end": _packed(ends, np.float32),
        "groups": known_groups,
        "group": _packed([known_groups.index(name) for name in groups], np.uint8),
        "known": _known(labels, absolute, [number[name] for name in own], starts),
    }  # fmt: skip


def _times(table: SceneTable, chosen: np.ndarray, paths: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return start and end of each sound in its file, NaN for files that are one sound."""
    starts, ends = table.start[chosen], (table.start + table.duration)[chosen]
    # Whole files need no times in a table of labels, and a start of 0 does not tell one from a first segment.
    several = len(set(paths)) < len(paths) or bool((np.nan_to_num(starts) > 0).any())
    if not several:
        return np.full(len(starts), np.nan), np.full(len(starts), np.nan)
    return starts, ends


def _scaled(places: np.ndarray) -> np.ndarray:
    """Return whole numbers from 0 to 65535 with the layout's proportions; its upper end is at the top."""
    low, high = places.min(axis=0), places.max(axis=0)
    size = float((high - low).max()) or 1.0
    scaled = ((places - (low + high) / 2) / size * (1 - 2 * _EDGE) + 0.5) * 65535
    scaled[:, 1] = 65535 - scaled[:, 1]
    return np.asarray(scaled.round())


def _packed(values: Any, dtype: type[np.generic]) -> str:
    array = np.asarray(values).astype(np.dtype(dtype).newbyteorder("<"))
    return base64.b64encode(array.tobytes()).decode()


def _known(
    labels: LabelTable | None, names: Sequence[str], file: Sequence[int], starts: np.ndarray
) -> dict[str, Any]:
    """Return labels that were given before, by the number of the sound."""
    if labels is None:
        return {"labels": [], "given": []}
    index = {name: number for number, name in enumerate(labels.classes)}
    held = {
        (os.path.abspath(row.path), None if row.start is None else round(row.start, 3)): index[row.labels[0]]
        for row in labels.rows
        if row.labels
    }
    given = []
    for number, own in enumerate(file):
        start = None if np.isnan(starts[number]) else round(float(starts[number]), 3)
        label = held.get((names[own], start), held.get((names[own], None)))
        if label is not None:
            given.append([number, label])
    return {"labels": list(labels.classes), "given": given}


def _link(path: str, folder: Path) -> str:
    try:
        return quote(os.path.relpath(path, folder).replace(os.sep, "/"))
    except ValueError:  # another drive
        return Path(path).as_uri()


def _assembled(title: str, subtitle: str, count: int, data: dict[str, Any]) -> str:
    """Put the page together; nothing in a path can end the script that holds it."""
    here = files(__package__)
    text = here.joinpath("page.html").read_text(encoding="utf-8")
    parts = {
        "title": escape(title), "subtitle": escape(subtitle), "count": str(count),
        "style": here.joinpath("page.css").read_text(encoding="utf-8"),
        "script": here.joinpath("page.js").read_text(encoding="utf-8"),
        # Last, so that nothing in a path is taken for the name of a part.
        "data": json.dumps(data, allow_nan=False).replace("<", "\\u003c"),
    }  # fmt: skip
    for name, part in parts.items():
        text = text.replace("{{" + name + "}}", part)
    return text
