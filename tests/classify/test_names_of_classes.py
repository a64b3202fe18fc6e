"""Classes with names that mean something to a table, a page, a file system or another program."""

from __future__ import annotations

import csv
import json
import unicodedata
from pathlib import Path

import pytest

from hear_audiomamba.classify.model_file import load_classifier
from hear_audiomamba.classify.pictures import file_names
from hear_audiomamba.cli import main
from hear_audiomamba.io.labels import read_labels

from .conftest import SOUNDS, TINY_WORDS, sound, write_sound

pytest.importorskip("pyarrow")


def write_labels(folder: Path, names: tuple[str, ...]) -> Path:
    """Write a table of three clips for each of the names, which share the kinds of sound."""
    rows = [("path", "label")]
    for number, name in enumerate(names):
        for index in range(3):
            file = f"clips/{number}-{index}.wav"
            write_sound(folder / file, sound(SOUNDS[number % 3], 0.5, 10 * number + index))
            rows.append((file, name))
    with open(folder / "labels.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "labels.csv"


def read_table(path: Path) -> list[list[str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize(
    "names",
    [("path", "start", "end"), ("label", "query", "score"), ("Start", "label:start", "label")],
    ids=" ".join,
)
def test_columns_of_probabilities_are_all_different(tmp_path, names):
    from pyarrow import parquet

    labels, out = write_labels(tmp_path, names), tmp_path / "model.safetensors"
    assert main(["fit", str(labels), "--kind", "single", "--folds", "3", "--out", str(out), *TINY_WORDS]) == 0
    words = ["predict", str(tmp_path / "clips"), "--model", str(out), "--out", str(tmp_path / "found.csv")]
    for ending in ("csv", "parquet"):
        table = tmp_path / f"all.{ending}"
        assert main([*words, "--probabilities", str(table), "--workers", "0", "--quiet"]) == 0
    head, *rows = read_table(tmp_path / "all.csv")
    own = ["path", "start", "end"]
    assert head[:3] == own and len(set(head)) == len(head)
    assert not {name.casefold() for name in head[3:]} & set(own)
    held = parquet.read_table(tmp_path / "all.parquet")
    assert held.column_names == head and len(rows) == held.num_rows == 9
    for name, of_class in zip(head[3:], load_classifier(out).head.classes, strict=True):
        assert name.endswith(of_class) and (name == of_class) == (of_class.casefold() not in own)
        column = [float(row[head.index(name)]) for row in rows]
        assert held.column(name).to_pylist() == column and all(0 <= value <= 1 for value in column)


NAMES = ("a,b", 'say "hi"', "two\nlines", "=1+1", "Крапивник", "ミソサザイ", "wren", "Wren", "tab\there",
         "<b>x</b>", "{{mistakes}}", "../up", "CON", "x" * 300, "</script><script>alert(1)</script>")  # fmt: skip


def test_any_name_is_kept_from_the_labels_to_every_table(tmp_path, capsys):
    labels, out = write_labels(tmp_path, NAMES), tmp_path / "model.safetensors"
    assert main(["fit", str(labels), "--kind", "single", "--folds", "3", "--out", str(out), *TINY_WORDS]) == 0
    assert "Wren and wren are taken for 2 classes; they differ in capitals" in capsys.readouterr().err
    assert load_classifier(out).head.classes == tuple(sorted(NAMES))
    held = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert [score["name"] for score in held["classes"]] == sorted(NAMES)
    page = out.with_suffix(".html").read_text(encoding="utf-8")
    assert "<b>x</b>" not in page and "<script>alert" not in page
    assert page.count("{{mistakes}}") >= 2  # in the table and at its curve, and nothing put in its place

    words = ["predict", str(tmp_path / "clips"), "--model", str(out), "--threshold", "0"]
    words += ["--workers", "0", "--quiet"]
    for name in ("found.json", "found.csv"):
        assert main([*words, "--out", str(tmp_path / name), "--plot", "1"]) == 0
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    said = [one["label"] for one in found["detections"]]
    assert len(said) == 3 * len(NAMES) and set(said) <= set(NAMES)
    assert [row[3] for row in read_table(tmp_path / "found.csv")[1:]] == said
    drawn = [file.name for file in (tmp_path / "found.csv.plots").iterdir()]
    assert len({name.casefold() for name in drawn}) == len(set(said))

    for format in ("raven", "audacity"):
        folder = tmp_path / format
        assert main([*words, "--out", str(folder), "--format", format]) == 0
        table = read_labels(folder, kind="multi", audio=tmp_path / "clips", rare="keep")
        # Neither format can hold a line break or a tab in a label.
        assert [row.labels for row in table.rows] == [(" ".join(label.split()),) for label in said]


def test_files_named_after_classes_are_apart_on_every_system():
    names = file_names(["Wren", "a/b", "a:b", "a_b-2", "nul", "wren", "é" * 200, "..", "é" * 201])
    assert len({name.casefold() for name in names.values()}) == len(names)
    assert names["Wren"] == "Wren" and names["nul"] == "_nul" and names[".."] == "class"
    assert max(len(name.encode()) for name in names.values()) < 120


def test_a_letter_with_an_accent_is_one_however_it_is_written(tmp_path):
    names = [unicodedata.normalize(form, "mésange") for form in ("NFC", "NFD")]
    labels = write_labels(tmp_path, (*names, "wren"))
    assert names[0] != names[1] and read_labels(labels).classes == (names[0], "wren")
