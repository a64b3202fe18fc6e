"""`search` by example with tables out, and `map` in the colours of own labels."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import soundfile

from hear_audiomamba.archive.read import read_all_scenes
from hear_audiomamba.archive.search import Query, parse_query, search, search_all
from hear_audiomamba.cli import main
from hear_audiomamba.errors import DataError, InputError
from hear_audiomamba.io.label_places import labels_of
from hear_audiomamba.io.labels import read_labels

from .conftest import RATE, SOUNDS, TINY_WORDS

MODEL_WORDS = TINY_WORDS[: TINY_WORDS.index("--workers")] + TINY_WORDS[TINY_WORDS.index("--option") :]


@pytest.fixture
def archives(recording, tmp_path):
    """Two archives of one-second segments; each recording is low, high and noise in another order."""
    for number in range(3):
        parts = [(kind, 2.0) for kind in np.roll(SOUNDS, number)]
        recording(f"field/night {number}.wav", *parts, seed=number)
    recording("more/day.wav", ("low", 2.0), ("noise", 2.0), seed=9)
    for name in ("field", "more"):
        words = ["embed", str(tmp_path / name), "--out", str(tmp_path / f"{name}.out"), "--segments", "1"]
        assert main([*words, *TINY_WORDS]) == 0
    return [tmp_path / "field.out", tmp_path / "more.out"]


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_queries_are_files_or_stretches_of_them(tmp_path):
    assert parse_query("night.wav") == Query("night.wav")
    assert parse_query("a@b/night.wav@12.5-14") == Query("a@b/night.wav", 12.5, 1.5)
    assert parse_query("x@.5-1") == Query("x", 0.5, 0.5)
    # What is a file is meant as one.
    odd = tmp_path / "take@1-2"
    odd.write_bytes(b"")
    assert parse_query(str(odd)) == Query(str(odd))
    with pytest.raises(InputError, match="ends at 2 s, expected after its start, 3 s"):
        parse_query("night.wav@3-2")


def test_search_with_stretches_over_two_archives(archives, tmp_path, capsys):
    night, day = tmp_path / "field" / "night 0.wav", tmp_path / "more" / "day.wav"
    kinds = np.roll(SOUNDS, 0)
    at = 2 * list(kinds).index("low")
    queries = [f"{night}@{at}-{at + 1}", str(day) + "@2-3"]
    table = tmp_path / "hits.csv"
    words = ["search", *queries, *map(str, archives), "--count", "5", *MODEL_WORDS]
    assert main([*words, "--out", str(table)]) == 0
    rows = read_csv(table)
    assert [row["query"] for row in rows] == [queries[0]] * 5 + [queries[1]] * 5
    assert [row["rank"] for row in rows] == [*"12345"] * 2
    # The stretch itself is what is nearest to it, and audio files are named, not results.
    assert (rows[0]["path"], float(rows[0]["start"]), float(rows[0]["end"])) == (str(night), at, at + 1)
    assert (rows[5]["path"], float(rows[5]["start"])) == (str(day), 2.0)
    assert float(rows[0]["score"]) == pytest.approx(1, abs=1e-4)
    assert {row["path"] for row in rows[:5]} > {str(night), str(day)}
    assert main([*words, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [(line["query"], line["path"], line["rank"]) for line in lines] == [
        (row["query"], row["path"], int(row["rank"])) for row in rows
    ]
    assert main([*words, "--out", str(tmp_path / "hits.json")]) == 0
    assert [row["path"] for row in json.loads((tmp_path / "hits.json").read_text())] == [
        row["path"] for row in rows
    ]


@pytest.mark.parametrize("format", ["raven", "audacity"])
def test_hits_are_read_back_as_labels(archives, tmp_path, format):
    query = str(tmp_path / "more" / "day.wav") + "@0-1"
    out = tmp_path / "hits"
    words = ["search", query, *map(str, archives), "--count", "4", *MODEL_WORDS]
    assert main([*words, "--out", str(out), "--format", format]) == 0
    files = sorted(path for path in out.rglob("*.txt"))
    assert files
    found = {
        (row.path, row.start, row.end)
        for file in files
        for row in read_labels(file, audio=next(tmp_path.glob(f"*/{file.name.split('.')[0]}.wav")).parent,
                               rare="keep", overlaps="keep").rows
    }  # fmt: skip
    table = tmp_path / "hits.csv"
    assert main([*words, "--out", str(table)]) == 0
    assert found == {(row["path"], float(row["start"]), float(row["end"])) for row in read_csv(table)}


def test_wrong_questions(archives, tmp_path, capsys):
    night = str(tmp_path / "field" / "night 0.wav")
    for words, message in [
        (["search", night], "give one or more audio files, then a folder"),
        (["search", str(archives[0])], "give one or more audio files, then a folder"),
        (["search", night, str(tmp_path / "none")], "no such folder"),
        (["search", night, str(archives[0]), "--out", "hits.xyz"], "its name does not show the format"),
        (["search", night, str(archives[0]), "--format", "csv"], "--format: give --out too"),
        (["search", f"{night}@90-91", str(archives[0]), *MODEL_WORDS], "night 0.wav"),
    ]:
        assert main(words) == 1
        shown = capsys.readouterr().err
        assert message in shown and shown.count("\n") - shown.count("warning:") <= 1


def test_several_queries_are_each_answered_as_alone(archives):
    table = read_all_scenes(*archives)
    assert len(table) == 22 and len(set(table.paths)) == 4
    queries = table.embeddings[[3, 15]] + 0.01
    for metric in ("cosine", "euclidean"):
        together = search_all(queries, archives, 6, metric)
        for query, hits in zip(queries, together):
            alone = [search_all(query[None], [folder], 6, metric)[0] for folder in archives]
            assert [hit.score for hit in hits] == sorted(
                (h.score for own in alone for h in own), reverse=True
            )[:6]
    assert search(queries[0], archives[0], 2)[0] in search_all(queries, archives, 2)[0]


def test_archives_of_different_models_are_not_compared(archives, tmp_path):
    words = ["embed", str(tmp_path / "more"), "--out", str(tmp_path / "wide"), "--segments", "1", *TINY_WORDS]
    assert main([*words, "--option", "d_state=3"]) == 0
    with pytest.raises(DataError, match="wide: was made with weights_sha256 .* cannot be compared"):
        read_all_scenes(archives[0], tmp_path / "wide")


def test_labels_find_their_sounds(tmp_path):
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(10 * RATE, np.float32), RATE)
    file = tmp_path / "labels.csv"
    file.write_text("path,label,start,end\na.wav,wren,0.9,2\na.wav,robin,4.2,4.4\nb.wav,crow,1,9\n")
    table = read_labels(file, rare="keep", overlaps="keep")
    a, b = str(tmp_path / "a.wav"), str(tmp_path / "b.wav")
    starts = [0.0, 1.0, 2.0, 4.0, 4.0]
    found = labels_of(table, [a, a, a, a, b], starts, [start + 1 for start in starts])
    assert found == [None, "wren", None, "robin", "crow"]
    nan = float("nan")
    assert labels_of(table, [a, b, "c.wav"], [nan] * 3, [nan] * 3) == ["wren", "crow", None]
    file.write_text("path,label\na.wav,wren;robin\n")
    assert labels_of(read_labels(file, rare="keep"), [a, b], [1.0, 1.0], [2.0, 2.0]) == ["wren;robin", None]


def test_a_map_in_the_colours_of_labels(archives, tmp_path):
    # Audacity labels of two recordings: _a name that legends would leave out, and one that is a formula.
    for number in range(2):
        at = 2 * list(np.roll(SOUNDS, number)).index("low")
        (tmp_path / "field" / f"night {number}.txt").write_text(f"{at}\t{at + 2}\t_low $x$\n")
    picture = tmp_path / "map.svg"
    words = ["map", *map(str, archives), "--out", str(picture), "--method", "none"]
    assert main([*words, "--labels", str(tmp_path / "field")]) == 0
    rows = read_csv(picture.with_suffix(".csv"))
    assert len(rows) == 22 and sum(row["group"] == "_low $x$" for row in rows) == 4
    assert sum(row["group"] == "not labelled" for row in rows) == 18
    text = picture.read_text()
    assert "_low $x$" in text and "not labelled" in text
    (tmp_path / "other.csv").write_text("path,label\nmore.out/summary.json,wren\n")
    assert main([*words, "--labels", str(tmp_path / "other.csv")]) == 1


def test_a_page_over_two_archives_with_labels(archives, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label,start,end\nfield/night 0.wav,first,0,1\nmore/day.wav,last,3,4\n")
    page = tmp_path / "page.html"
    words = ["explore", *map(str, archives), "--out", str(page), "--method", "pca", "--labels", str(labels)]
    assert main(words) == 0
    from .test_explore import data_of, unpacked

    data = data_of(page)
    assert len(unpacked(data["x"], "<u2")) == 22 and len(data["shown"]) == 4
    file, start = unpacked(data["file"], "<u4"), unpacked(data["start"], "<f4")
    shown = {
        (data["known"]["labels"][k], data["shown"][file[i]], start[i]) for i, k in data["known"]["given"]
    }
    assert shown == {("first", "field/night 0.wav", 0.0), ("last", "more/day.wav", 3.0)}
