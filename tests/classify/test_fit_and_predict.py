"""From labels on disk to a table of detections, on the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from hear_audiomamba import AudioClassifier
from hear_audiomamba.classify.model_file import load_classifier
from hear_audiomamba.cli import main
from hear_audiomamba.errors import CheckpointError, DataError

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
    assert "3 detections in 1 recording (" in capsys.readouterr().out


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


def test_predictions_follow_the_classifier_and_the_hop(fitted, class_folders, recording, tmp_path):
    path = recording("day.wav", ("low", 2.0), ("high", 2.0))
    words = ["predict", str(path), "--model", str(fitted), "--out", str(tmp_path / "found.csv")]
    words += ["--probabilities", str(tmp_path / "all.csv"), "--workers", "0", "--quiet"]
    assert main([*words, "--hop", "0.25"]) == 0 and len(read_table(tmp_path / "all.csv")) == 16
    assert main(words) == 0 and len(read_table(tmp_path / "all.csv")) == 4
    before = (tmp_path / "all.csv").read_bytes()
    scores = tmp_path / "found.csv.scores"
    held = {file.name: file.stat().st_mtime_ns for file in scores.glob("*.bin")}
    assert main(words) == 0 and (tmp_path / "all.csv").read_bytes() == before
    assert {
        file.name: file.stat().st_mtime_ns for file in scores.glob("*.bin")
    } == held  # nothing was done again

    assert main(["fit", str(class_folders(4, "others", seed=5)), "--out", str(fitted), *TINY_WORDS]) == 0
    assert main(words) == 0 and (tmp_path / "all.csv").read_bytes() != before


def test_pictures_of_the_surest_detections(fitted, recording, tmp_path):
    path = recording("day.wav", ("low", 2.0), ("high", 2.0), ("low", 1.0))
    words = [
        "predict",
        str(path),
        "--model",
        str(fitted),
        "--out",
        str(tmp_path / "found.csv"),
        "--plot",
        "2",
    ]
    assert main([*words, "--workers", "0", "--quiet"]) == 0
    for name in ("low.png", "high.png"):
        assert (tmp_path / "found.csv.plots" / name).read_bytes().startswith(b"\x89PNG")


def test_what_predict_refuses(fitted, recording, tmp_path, capsys):
    path = recording("day.wav", ("low", 2.0))
    words = ["predict", str(path), "--out", str(tmp_path / "found.csv"), "--quiet", "--workers", "0"]
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"\x80\x04pickle")
    for more, told in (
        (["--model", str(bad)], "cannot be read"),
        (["--model", str(tmp_path / "gone.safetensors")], "no such file"),
        (["--model", str(fitted), "--hop", "0.3"], "expected 1 s divided by a whole number"),
        (["--model", str(fitted), "--threshold", "7"], "expected a probability"),
        (["--model", str(fitted), "--format", "xml"], None),
    ):
        if told is None:
            with pytest.raises(SystemExit):
                main([*words, *more])
            continue
        assert main([*words, *more]) == 1
        assert told in capsys.readouterr().err
    # One file that cannot be read does not spoil the others.
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF no audio")
    assert main(["predict", str(path), str(broken), "--model", str(fitted), *words[2:]]) == 1
    assert len(read_table(tmp_path / "found.csv")) == 1
    assert main(["predict", str(path), str(broken), "--model", str(fitted), "--skip-errors", *words[2:]]) == 0


def test_a_classifier_of_recordings_is_none_of_embeddings(fitted):
    with pytest.raises(CheckpointError, match="`hear-audiomamba fit` wrote it, for `predict`"):
        AudioClassifier.load(fitted)


def test_embeddings_of_another_model_are_refused(fitted, small_model, tiny_model):
    classifier = load_classifier(fitted)
    classifier.embedding.check(tiny_model)
    with pytest.raises(DataError, match=r"fitted on embeddings of another weights .*--embedding-model"):
        classifier.embedding.check(small_model)


def test_a_table_gives_what_its_folders_give(class_folders, tmp_path):
    folder = class_folders(4)
    rows = [f"{path.relative_to(tmp_path)},{path.parent.name}" for path in sorted(folder.rglob("*.wav"))]
    (tmp_path / "labels.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    for labels, name in ((folder, "a"), (tmp_path / "labels.csv", "b")):
        assert main(["fit", str(labels), "--out", str(tmp_path / f"{name}.safetensors"), *TINY_WORDS]) == 0
    first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in "ab")
    assert first["summary"] == second["summary"] and first["classes"] == second["classes"]
