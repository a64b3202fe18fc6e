"""A picture of a folder of embeddings: every clip a point, coloured by its sub-folder."""

from __future__ import annotations

import csv
import io
from collections import Counter
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from ..errors import ConfigError, DataError, require
from ..io.files import replacing, write_text
from .read import SceneTable, read_all_scenes

METHODS = ("tsne", "umap", "none")
MOST_GROUPS = 20


def draw_map(
    folder: str | Path,
    picture: str | Path,
    method: Literal["tsne", "umap", "none"] = "tsne",
    limit: int = 10_000,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Draw the scene embeddings of a folder in two dimensions.

    Beside the picture a `.csv` of the same name holds every point: path, start, group, coordinates.

    Args:
        folder: what `embed` wrote.
        picture: file to write; its ending (.png, .svg, .pdf) decides the format.
        method: what stands beside the principal components: "tsne", "umap" (needs umap-learn), "none".
        limit: most points; of more, a random sample is drawn.
        seed: of the sample and the method.

    Returns:
        Coordinates `(n, 2)` by name: "pca" and, if wanted, the method's.

    Raises:
        DataError: fewer than three clips. MissingPackageError: a library is not installed.
        ConfigError: the method or the picture's ending is not known.
    """
    picture = Path(picture)
    if method not in METHODS:
        raise ConfigError(f"method: {method!r} is not one of {', '.join(map(repr, METHODS))}")
    if picture.suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"{picture}: a picture's name ends in .png, .svg or .pdf")
    table = read_all_scenes(folder)
    if len(table) < 3:
        raise DataError(f"{folder}: {len(table)} embeddings, a map needs at least 3")
    chosen = np.arange(len(table))
    if len(table) > limit:
        chosen = np.sort(np.random.default_rng(seed).choice(len(table), limit, replace=False))
    groups = groups_of([table.paths[index] for index in chosen])
    points = standardized(table.embeddings[chosen])
    layouts = {"pca": principal_components(points, 2)}
    if method != "none":
        layouts[method] = neighbour_map(principal_components(points, 50), method, seed)
    _draw(
        layouts,
        groups,
        picture,
        f"{folder}: {len(chosen)} of {len(table)} clips, {table.provenance['model']}",
    )
    _write_points(table, chosen, groups, layouts, picture.with_suffix(".csv"))
    return layouts


def groups_of(paths: list[str]) -> list[str]:
    """Return the first folder in which the paths differ; in one flat folder the files, if they are few."""
    parents = [PurePosixPath(path).parent.parts for path in paths]
    shared = len(list(takewhile(lambda level: len(set(level)) == 1, zip(*parents))))
    names = [parts[shared] if len(parts) > shared else "." for parts in parents]
    if len(set(names)) == 1 and len(set(paths)) <= MOST_GROUPS:
        names = [PurePosixPath(path).name for path in paths]
    common = {name for name, _ in Counter(names).most_common(MOST_GROUPS)}
    return [name if name in common else "other" for name in names]


def standardized(rows: np.ndarray) -> np.ndarray:
    """Return rows whose columns have mean 0 and standard deviation 1, constant columns 0."""
    spread = rows.std(axis=0)
    return np.asarray((rows - rows.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


def principal_components(points: np.ndarray, size: int) -> np.ndarray:
    """Return coordinates on the first principal axes, each pointing to where its largest weight is positive."""
    size = min(size, *points.shape)
    # By the smaller of the two Gram matrices: exact, and quick for many points or wide embeddings.
    if points.shape[0] <= points.shape[1]:
        values, vectors = np.linalg.eigh(points @ points.T)
        coordinates = vectors[:, ::-1][:, :size] * np.sqrt(np.maximum(values[::-1][:size], 0))
    else:
        _, axes = np.linalg.eigh(points.T @ points)
        coordinates = points @ axes[:, ::-1][:, :size]
    strongest = np.take_along_axis(coordinates, np.abs(coordinates).argmax(axis=0)[None], axis=0)
    return np.asarray(coordinates * np.where(strongest < 0, -1.0, 1.0))


def neighbour_map(points: np.ndarray, method: str, seed: int) -> np.ndarray:
    """Return coordinates `(n, 2)` by "tsne" or "umap", in which neighbours stay neighbours.

    Raises:
        MissingPackageError: the library is not installed.
    """
    n_near = min(30, max(1, (len(points) - 1) // 3))
    if method == "tsne":
        require("sklearn", "a map by t-SNE", "hear_audiomamba[evaluate]")
        from sklearn.manifold import TSNE

        return np.asarray(TSNE(2, perplexity=n_near, init="pca", random_state=seed).fit_transform(points))
    require("umap", "a map by UMAP", "umap-learn")
    from umap import UMAP

    reducer = UMAP(n_neighbors=max(2, min(15, n_near)), random_state=seed)
    return np.asarray(reducer.fit_transform(points))


def _draw(layouts: dict[str, np.ndarray], groups: list[str], picture: Path, title: str) -> None:
    require("matplotlib", "a map", "hear_audiomamba[evaluate]")
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    colours = colormaps["tab20"]
    names = sorted(set(groups), key=lambda name: (name == "other", name))
    labels = np.array(groups)
    figure = Figure(figsize=(6.5 * len(layouts), 6), layout="constrained")
    size = float(np.clip(4000 / len(groups), 3, 40))
    titles = {"pca": "principal components", "tsne": "t-SNE", "umap": "UMAP"}
    for axes, (name, layout) in zip(figure.subplots(1, len(layouts), squeeze=False)[0], layouts.items()):
        for index, group in enumerate(names):
            own = labels == group
            colour = colours(index % MOST_GROUPS)
            axes.scatter(*layout[own].T, s=size, color=colour, label=group, linewidths=0, alpha=0.8)
        axes.set(title=titles[name], xticks=[], yticks=[])
    if len(names) > 1:
        figure.legend(
            *axes.get_legend_handles_labels(), loc="outside right upper", markerscale=1.5, frameon=False
        )
    figure.suptitle(title, fontsize=10)
    with replacing(picture) as partial:
        figure.savefig(partial, dpi=150)


def _write_points(
    table: SceneTable, chosen: np.ndarray, groups: list[str], layouts: dict[str, np.ndarray], file: Path
) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["path", "start", "group", *(f"{name}_{axis}" for name in layouts for axis in "xy")])
    for row, index in enumerate(chosen):
        places = [f"{value:.5g}" for layout in layouts.values() for value in layout[row]]
        writer.writerow([table.paths[index], table.start[index], groups[row], *places])
    write_text(file, text.getvalue())
