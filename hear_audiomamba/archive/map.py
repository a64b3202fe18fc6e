"""A picture of folders of embeddings: every clip a point, coloured by its sub-folder or its label."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from ..config import check_whole
from ..errors import ConfigError, DataError, counted, require
from ..io.drawing import quiet_drawing, require_drawing
from ..io.files import replacing, write_text
from ..io.label_places import labels_of
from ..io.labels import LabelTable
from .read import SceneTable, read_all_scenes

METHODS = ("tsne", "umap", "none")
MOST_GROUPS = 20
OTHER, UNLABELLED = "other", "not labelled"


def draw_map(
    folders: str | Path | Sequence[str | Path],
    picture: str | Path,
    method: Literal["tsne", "umap", "none"] = "tsne",
    limit: int = 10_000,
    seed: int = 0,
    labels: LabelTable | None = None,
) -> dict[str, np.ndarray]:
    """Draw the scene embeddings of a folder, or of several, in two dimensions.

    Beside the picture a `.csv` of the same name holds every point: path, start, group, coordinates.

    Args:
        folders: what `embed` wrote.
        picture: file to write; its ending (.png, .svg, .pdf) decides the format.
        method: what stands beside the principal components: "tsne", "umap" (needs umap-learn), "none".
        limit: most points; of more, a random sample is drawn.
        seed: of the sample and the method.
        labels: give the colours; without them the sub-folders do.

    Returns:
        Coordinates `(n, 2)` by name: "pca" and, if wanted, the method's.

    Raises:
        DataError: fewer than three clips.
        MissingPackageError: a library is not installed.
        ConfigError: the method or the picture's ending is not known; matplotlib does not start.
        InputError: a number is not allowed.
    """
    require_drawing("a map", "hear_audiomamba[evaluate]")
    picture = Path(picture)
    if method not in METHODS:
        raise ConfigError(f"method: {method!r} is not one of {', '.join(map(repr, METHODS))}")
    if picture.suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"{picture}: a picture's name ends in .png, .svg or .pdf")
    limit, seed = check_whole(limit, "limit", least=3), check_whole(seed, "seed", least=0)
    given = [folders] if isinstance(folders, (str, Path)) else list(folders)
    table, name = read_all_scenes(*given), ", ".join(map(str, given))
    if len(table) < 3:
        raise DataError(f"{name}: {counted(len(table), 'embedding')}, a map needs at least 3")
    chosen = np.arange(len(table))
    if len(table) > limit:
        chosen = np.sort(np.random.default_rng(seed).choice(len(table), limit, replace=False))
    paths = [table.paths[index] for index in chosen]
    groups = groups_of(paths) if labels is None else _labelled(table, chosen, paths, labels)
    points = standardized(table.embeddings[chosen])
    layouts = {"pca": principal_components(points, 2)}
    if method != "none":
        layouts[method] = neighbour_map(principal_components(points, 50), method, seed)
    _draw(
        layouts,
        groups,
        picture,
        f"{name}: {len(chosen)} of {len(table)} clips, {table.provenance['model']}",
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
    return _most_common(names)


def _labelled(table: SceneTable, chosen: np.ndarray, paths: Sequence[str], labels: LabelTable) -> list[str]:
    starts, ends = table.start[chosen], (table.start + table.duration)[chosen]
    found = labels_of(labels, paths, starts.tolist(), ends.tolist())
    if not any(found):
        raise DataError(
            "none of the labels belongs to a sound of these embeddings; are their paths the same?"
        )
    return _most_common([UNLABELLED if label is None else label for label in found])


def _most_common(names: Sequence[str]) -> list[str]:
    counts = Counter(name for name in names if name != UNLABELLED)
    kept = {UNLABELLED, *(name for name, _ in counts.most_common(MOST_GROUPS))}
    return [name if name in kept else OTHER for name in names]


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


@quiet_drawing()
def _draw(layouts: dict[str, np.ndarray], groups: list[str], picture: Path, title: str) -> None:
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    colours = colormaps["tab20"]
    names = sorted(set(groups), key=lambda name: (name == UNLABELLED, name == OTHER, name))
    labels = np.array(groups)
    figure = Figure(figsize=(6.5 * len(layouts), 6), layout="constrained")
    size = float(np.clip(4000 / len(groups), 3, 40))
    titles = {"pca": "principal components", "tsne": "t-SNE", "umap": "UMAP"}
    for axes, (name, layout) in zip(figure.subplots(1, len(layouts), squeeze=False)[0], layouts.items()):
        # From the last one, so that what has a label of its own lies on top.
        dots = [
            axes.scatter(
                *layout[labels == group].T, s=size, linewidths=0, alpha=0.8,
                color="#b8bec6" if group in (OTHER, UNLABELLED) else colours(index % MOST_GROUPS),
            )
            for index, group in reversed(list(enumerate(names)))
        ]  # fmt: skip
        axes.set(title=titles[name], xticks=[], yticks=[])
    if len(names) > 1:
        # The space keeps a name that starts with "_", which matplotlib would leave out.
        shown = [f" {group}" for group in names]
        legend = figure.legend(dots[::-1], shown, loc="outside right upper", markerscale=1.5, frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
    figure.suptitle(title, fontsize=10, parse_math=False, wrap=True)
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
