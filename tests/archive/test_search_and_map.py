"""Searching and drawing embedded folders, whatever format they are in."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from hear_audiomamba import load_model
from hear_audiomamba.archive.map import draw_map, principal_components
from hear_audiomamba.archive.options import EmbedOptions
from hear_audiomamba.archive.read import read_all_scenes
from hear_audiomamba.archive.run import Resources, embed_sources
from hear_audiomamba.archive.search import embed_query, search
from hear_audiomamba.archive.sources import find_sources
from hear_audiomamba.errors import ConfigError, DataError, InputError

from .conftest import TINY


@pytest.fixture(params=["npz", "parquet", "npy"])
def embedded(request, tiny_model, make_archive, tmp_path):
    sources = find_sources([make_archive(25, (0.1, 1.0))])
    options = EmbedOptions(format=request.param, shard_sources=7)
    embed_sources(sources, tiny_model, tmp_path / "out", options, Resources(workers=0))
    return tmp_path / "out"


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_search_is_exact(embedded, metric):
    table = read_all_scenes(embedded)
    query = table.embeddings[11] + 0.01
    rows = table.embeddings.astype(np.float64)
    if metric == "cosine":
        scores = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
    else:
        scores = -np.linalg.norm(rows - query, axis=1)
    best = np.argsort(-scores, kind="stable")[:6]
    hits = search(query, embedded, 6, metric)
    assert [hit.path for hit in hits] == [table.paths[index] for index in best]
    np.testing.assert_allclose([hit.score for hit in hits], scores[best], atol=1e-5)
    assert len(search(query, embedded, 100)) == 25


@pytest.mark.parametrize("engine", ["faiss", "usearch"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_libraries_find_the_same(embedded, engine, metric):
    pytest.importorskip(engine)
    query = read_all_scenes(embedded).embeddings[3] + 0.01
    own, theirs = (search(query, embedded, 5, metric, name) for name in ("exact", engine))
    assert [hit.path for hit in own] == [hit.path for hit in theirs]
    np.testing.assert_allclose([hit.score for hit in own], [hit.score for hit in theirs], atol=1e-4)


def test_a_query_is_embedded_as_its_folder_was(embedded, tiny_model, tmp_path):
    path = tmp_path / "audio" / "group1" / "clip0001.wav"
    best = search(embed_query(path, tiny_model, embedded), embedded, 1)[0]
    assert best.path.endswith("group1/clip0001.wav") and best.score == pytest.approx(1, abs=1e-5)
    with pytest.raises(DataError, match="was made with weights"):
        embed_query(path, load_model(**{**TINY, "d_state": 3}), embedded)
    with pytest.raises(DataError, match="was made with pooling mean, the query's is mean_plus_max"):
        embed_query(path, load_model(**TINY, scene_pooling="mean_plus_max"), embedded)
    with pytest.raises(InputError, match=r"query: shape \(3,\), expected"):
        search(np.zeros(3), embedded)


def test_ties_come_in_the_order_of_the_folder(tiny_model, tmp_path, make_archive):
    folder = make_archive(1, (0.2, 0.3))
    for name in "cab":
        (folder / f"{name}.wav").write_bytes((folder / "group0" / "clip0000.wav").read_bytes())
    embed_sources(find_sources([folder]), tiny_model, tmp_path / "out", EmbedOptions(format="npy"))
    table = read_all_scenes(tmp_path / "out")
    hits = search(table.embeddings[0], tmp_path / "out", 2)
    assert [hit.path for hit in hits] == table.paths[:2]


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_map_shows_every_clip_with_its_group(embedded, tmp_path, ending):
    picture = tmp_path / "maps" / f"map.{ending}"
    layouts = draw_map(embedded, picture)
    assert picture.stat().st_size > 5000 and set(layouts) == {"pca", "tsne"}
    with open(picture.with_suffix(".csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 25 and {row["group"] for row in rows} == {"group0", "group1", "group2"}
    assert sorted(p.name for p in picture.parent.iterdir()) == ["map.csv", f"map.{ending}"]


def test_maps_that_cannot_be_drawn(embedded, tmp_path):
    with pytest.raises(ConfigError, match=r"ends in \.png, \.svg or \.pdf"):
        draw_map(embedded, tmp_path / "map.gif")
    with pytest.raises(DataError, match="no such folder"):
        draw_map(tmp_path / "none", tmp_path / "map.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no scene embeddings; make some with"):
        draw_map(tmp_path / "empty", tmp_path / "map.png")
    (tmp_path / "empty" / "x.npz").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"x\.npz: not a file of embeddings"):
        draw_map(tmp_path / "empty", tmp_path / "map.png")


@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
def test_principal_components_are_those_of_scikit_learn(shape):
    decomposition = pytest.importorskip("sklearn.decomposition")
    points = np.random.default_rng(0).standard_normal(shape) * np.linspace(1, 3, shape[1])
    points -= points.mean(axis=0)
    expected = decomposition.PCA(2).fit_transform(points)
    np.testing.assert_allclose(np.abs(principal_components(points, 2)), np.abs(expected), atol=1e-8)
