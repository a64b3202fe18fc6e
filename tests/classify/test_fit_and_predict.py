"""From labels on disk to a table of detections, on the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from hear_audiomamba.classify.model_file import load_classifier
from hear_audiomamba.cli import main

from .conftest import SOUNDS, TINY_WORDS


def read_table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def fitted(class_folders, tmp_path) -> Path:
    out = tmp_path / "model.safetensors"
    assert main(["fit", str(class_folders(6)), "--out", str(out), *TINY_WORDS]) == 0
    return out


def test_folders_to_a_table(fitted, recording, tmp_path, capsys):
    recording("field/day.wav", ("low", 3.0), ("high", 2.0), ("noise", 2.0))
    out = tmp_path / "found.csv"
    words = ["predict", str(tmp_path / "field"), "--model", str(fitted), "--out", str(out)]
    assert main([*words, "--workers", "0", "--quiet"]) == 0
    rows = read_table(out)
    assert [(row["label"], float(row["start"]), float(row["end"])) for row in rows] == [
        ("low", 0.0, 3.0), ("high", 3.0, 5.0), ("noise", 5.0, 7.0),
    ]  # fmt: skip
    assert all(0.5 < float(row["score"]) <= 1 for row in rows)
    assert "3 detections in 1 recordings" in capsys.readouterr().out


def test_the_file_says_all_that_it_needs(fitted):
    classifier = load_classifier(fitted)
    assert classifier.head.classes == SOUNDS and classifier.head.kind == "single"
    assert classifier.clip_seconds == pytest.approx(1.0) and len(classifier.embedding.weights_sha256) == 64
    assert classifier.facts["labels"] == {"high": 6, "low": 6, "noise": 6}
    assert np.isfinite(classifier.head.probabilities(np.zeros((2, classifier.head.embedding_size)))).all()


def test_probabilities_of_every_row(fitted, recording, tmp_path):
    path = recording("day.wav", ("low", 2.0), ("high", 1.5))
    words = [
        "predict",
        str(path),
        "--model",
        str(fitted),
        "--out",
        str(tmp_path / "found.json"),
        "--hop",
        "0.5",
    ]
    assert main([*words, "--probabilities", str(tmp_path / "all.csv"), "--workers", "0", "--quiet"]) == 0
    rows = read_table(tmp_path / "all.csv")
    assert list(rows[0]) == ["path", "start", "end", *SOUNDS]
    assert [float(row["start"]) for row in rows] == pytest.approx(np.arange(0, 3.5, 0.5))
    for row in rows:
        assert sum(float(row[name]) for name in SOUNDS) == pytest.approx(1, abs=1e-5)
    held = json.loads((tmp_path / "found.json").read_text())
    assert held["recordings"] == [str(path)] and held["detections"][0]["label"] == "low"


def test_an_archive_gives_what_its_audio_gives(fitted, recording, tmp_path):
    recording("field/a.wav", ("low", 2.0), ("high", 1.0)), recording("field/b.wav", ("noise", 2.0))
    tables = {}
    for format in ("npz", "npy", "parquet"):
        archive = tmp_path / f"archive-{format}"
        made = [
            "embed",
            str(tmp_path / "field"),
            "--out",
            str(archive),
            "--segments",
            "1",
            "--format",
            format,
        ]
        assert main([*made, *TINY_WORDS]) == 0
        tables[format] = tmp_path / f"{format}.csv"
        assert main(["predict", str(archive), "--model", str(fitted), "--out", str(tables[format])]) == 0
    words = ["predict", str(tmp_path / "field"), "--model", str(fitted), "--out", str(tmp_path / "audio.csv")]
    assert main([*words, "--workers", "0", "--quiet"]) == 0
    expected = (tmp_path / "audio.csv").read_text()
    assert len(expected.splitlines()) == 4
    assert {table.read_text() for table in tables.values()} == {expected}
