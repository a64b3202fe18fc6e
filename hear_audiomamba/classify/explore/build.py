"""The page's data: where each sound lies on the map, in which file it is, and when."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np

from ...archive.map import OTHER, groups_of, neighbour_map, principal_components, standardized
from ...archive.read import SceneTable, read_all_scenes
from ...errors import ConfigError, DataError, counted
from ...io.files import write_text
from ...io.label_places import labels_of
from ...io.labels import LabelTable
from ...io.names import path_of
from .thumbnails import BANDS, COLUMNS, draw_all, pack

METHODS = ("auto", "pca", "tsne", "umap")
# scikit-learn's t-SNE takes about a minute for so many.
MOST_FOR_TSNE = 5000
_EDGE = 0.02


@dataclass(frozen=True)
class Explored:
    """What a page shows: how many sounds, out of how many, laid out how, and how many have a picture."""

    shown: int
    total: int
    method: str
    pictures: int


def write_page(
    folders: str | Path | Sequence[str | Path],
    page: str | Path,
    *,
    method: Literal["auto", "pca", "tsne", "umap"] = "auto",
    limit: int = 50_000,
    labels: LabelTable | None = None,
    pictures: bool = True,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Explored:
    """Write a page in which an archive, or several of one model, are seen, heard and labelled.

    Args:
        folders: scene embeddings of files or segments, as `embed` wrote them.
        page: the .html file; links to the audio are relative to its folder.
        method: of the layout: principal components, t-SNE or UMAP; "auto" takes UMAP where it is installed,
            else t-SNE of up to 5,000 sounds, else principal components.
        limit: most sounds; of more, a random sample is shown.
        labels: given already; shown, and kept in what the page downloads.
        pictures: put a small spectrogram of each sound into the page, for which all files are decoded once.
        seed: of the sample and the layout.
        on_progress: called with the sounds drawn and their number.

    Returns:
        What the page shows.

    Raises:
        ConfigError: the method is not known.
        DataError: fewer than three sounds, or a library is missing.
        OutputError: the page cannot be written.
    """
    if method not in METHODS:
        raise ConfigError(f"method: {method!r} is not one of {', '.join(map(repr, METHODS))}")
    if limit < 3:
        raise ConfigError(f"limit: {limit}, a map needs at least 3 sounds")
    page = Path(page)
    given = [Path(folders)] if isinstance(folders, (str, Path)) else [Path(folder) for folder in folders]
    table, title = (
        read_all_scenes(*given),
        ", ".join(folder.resolve().name or str(folder) for folder in given),
    )
    if len(table) < 3:
        raise DataError(f"{title}: {counted(len(table), 'embedding')}, a map needs at least 3")
    chosen = np.arange(len(table))
    if len(table) > limit:
        chosen = np.sort(np.random.default_rng(seed).choice(len(table), limit, replace=False))
    places, used = _layout(table.embeddings[chosen], method, seed)
    own = [table.paths[index] for index in chosen]
    starts, ends = _times(table, chosen, own)
    data = _data(own, starts, ends, places, page)
    data["id"] = _identity(data, table.provenance)
    # `fit` takes the embeddings of one archive.
    data["folder"] = str(given[0]) if len(given) == 1 else ""
    data["known"] = _known(labels, own, starts, ends)
    drawn = 0
    if pictures:
        data["pictures"], drawn = _pictures(own, starts, ends, on_progress)
    count = f"{len(chosen)}" if len(chosen) == len(table) else f"{len(chosen)} of {len(table)}"
    subtitle = f"{count} sounds by {table.provenance['model']}; layout: {used}"
    write_text(page, _assembled(title, subtitle, len(chosen), data))
    return Explored(len(chosen), len(table), used, drawn)


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
    paths: Sequence[str], starts: np.ndarray, ends: np.ndarray, places: np.ndarray, page: Path
) -> dict[str, Any]:
    names = list(dict.fromkeys(paths))
    number = {name: index for index, name in enumerate(names)}
    root, shown, link = _below_one_folder([os.path.abspath(name) for name in names], page.parent)
    groups = groups_of(list(paths))
    known_groups = sorted(set(groups), key=lambda name: (name == OTHER, name))
    scaled = _scaled(places)
    return {
        "root": root,
        "link": link,
        "shown": shown,
        "file": _packed([number[name] for name in paths], np.uint32),
        "x": _packed(scaled[:, 0], np.uint16), "y": _packed(scaled[:, 1], np.uint16),
        "start": _packed(starts, np.float32), "end": _packed(ends, np.float32),
        "groups": known_groups,
        "group": _packed([known_groups.index(name) for name in groups], np.uint8),
    }  # fmt: skip


def _below_one_folder(paths: Sequence[str], folder: Path) -> tuple[str, list[str], str]:
    """Return the folder that all files are below, their names in it, and a link to it from another folder.

    Each ends in "/" where it is not empty, so that names can be put behind it.
    """
    try:
        root = os.path.commonpath([os.path.dirname(path) for path in paths])
        names = [os.path.relpath(path, root).replace(os.sep, "/") for path in paths]
    except ValueError:  # several drives
        return "", [path.replace(os.sep, "/") for path in paths], "file:///"
    try:
        link = quote(os.fsencode(path_of(os.path.relpath(root, folder).replace(os.sep, "/"))))
    except ValueError:  # the page is on another drive
        link = Path(root).as_uri()
    return root.replace(os.sep, "/").rstrip("/") + "/", names, f"{link}/"


def _identity(data: dict[str, Any], provenance: dict[str, Any]) -> str:
    """Tell pages whose labels must not meet in a browser from each other."""
    what = [data["root"], data["shown"], data["file"], data["start"], provenance["weights_sha256"]]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def _pictures(
    paths: Sequence[str], starts: np.ndarray, ends: np.ndarray, on_progress: Callable[[int, int], None] | None
) -> tuple[dict[str, Any], int]:
    drawn, known = draw_all(paths, starts.tolist(), ends.tolist(), on_progress)
    packed = pack(drawn, known)
    held = {
        "width": COLUMNS, "height": BANDS,
        "mean": _packed(packed.mean, np.uint8), "patterns": _packed(packed.patterns, np.int8),
        "scales": _packed(packed.scales, np.float32), "weights": _packed(packed.weights, np.int8),
        "known": _packed(packed.known, np.uint8),
    }  # fmt: skip
    return held, int(known.sum())


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
    labels: LabelTable | None, paths: Sequence[str], starts: np.ndarray, ends: np.ndarray
) -> dict[str, Any]:
    """Return labels that were given before, by the number of the sound."""
    if labels is None:
        return {"labels": [], "given": []}
    found = labels_of(labels, paths, starts.tolist(), ends.tolist())
    names = sorted({label for label in found if label is not None})
    given = [[number, names.index(label)] for number, label in enumerate(found) if label is not None]
    return {"labels": names, "given": given}


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
