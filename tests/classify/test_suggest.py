"""What to label next, and the MLP."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from hear_audiomamba.classify.mlp import mlp_fitter
from hear_audiomamba.classify.suggest import doubts, spread_out
from hear_audiomamba.cli import main
from hear_audiomamba.io.labels import read_labels

from .conftest import SOUNDS, TINY_WORDS


def test_doubt():
    single = np.array([[0.98, 0.01, 0.01], [0.5, 0.49, 0.01], [0.4, 0.3, 0.3]])
    assert np.argsort(-doubts(single, "single")).tolist() == [1, 2, 0]
    multi = np.array([[0.99, 0.99], [0.5, 0.01], [0.2, 0.1]])
    assert doubts(multi, "multi").tolist() == pytest.approx([0.02, 1.0, 0.4])


def test_suggestions_differ_from_one_another():
    random = np.random.default_rng(0)
    # Twenty near copies of the most doubtful row, and three other kinds a little less doubtful.
    rows = np.concatenate([np.eye(4)[0] + 0.01 * random.standard_normal((20, 4)), np.eye(4)[1:]])
    doubt = np.concatenate([np.full(20, 0.9), np.full(3, 0.6)])
    assert set(spread_out(rows, doubt, 4)) > {20, 21, 22}


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_from_few_labels_to_more(class_folders, recording, tmp_path, capsys):
    labels, model = class_folders(2), tmp_path / "model.safetensors"
    for number in range(3):
        recording(f"field/{number}.wav", ("low", 2.0), ("high", 2.0), ("noise", 2.0), seed=number)
    words = ["--out", str(model), *TINY_WORDS, "--suggest", "6", "--pool", str(tmp_path / "field")]
    assert main(["fit", str(labels), *words]) == 0
    first = tmp_path / "model.suggest.csv"
    rows = read(first)
    assert len(rows) == 6 and all(row["label"] == "" and row["guess"] in SOUNDS for row in rows)
    assert all(float(row["end"]) - float(row["start"]) == pytest.approx(1) for row in rows)
    assert f"fit {labels} {first} --kind single" in capsys.readouterr().out

    # Filled in, and on it goes: what is labelled is not suggested again.
    text = [",".join(rows[0])]
    for row in rows:
        row["label"] = ("low", "high", "noise")[int(float(row["start"]) // 2)]
        text.append(",".join(row.values()))
    first.write_text("\n".join(text) + "\n")
    table = read_labels([labels, first], kind="single")
    assert len(table.rows) == 12 and table.classes == SOUNDS
    assert main(["fit", str(labels), str(first), "--kind", "single", *words]) == 0
    second = read(tmp_path / "model.suggest-2.csv")
    assert len(second) == 6 and read(first) == rows
    assert not {(r["path"], r["start"]) for r in second} & {(r["path"], r["start"]) for r in rows}


def test_events_are_suggested_in_stretches(recording, tmp_path):
    for number in range(3):
        recording(f"night/{number}.wav", ("silence", 1.0), ("low", 1.0), ("silence", 1.0), seed=number)
        (tmp_path / f"night/{number}.txt").write_text("1.0\t2.0\tlow\n")
    recording("more/long.wav", ("silence", 6.0), ("low", 1.0), ("silence", 5.0), seed=9)
    words = [
        "--out",
        str(tmp_path / "m.safetensors"),
        *TINY_WORDS,
        "--suggest",
        "9",
        "--pool",
        str(tmp_path / "more"),
    ]
    assert main(["fit", str(tmp_path / "night"), *words]) == 0
    rows = read(tmp_path / "m.suggest.csv")
    assert sorted(float(row["start"]) for row in rows) == [0.0, 5.0, 10.0]


def test_pool_and_number_belong_together(class_folders, tmp_path, capsys):
    words = ["fit", str(class_folders(2)), "--out", str(tmp_path / "m.safetensors"), "--suggest", "3"]
    assert main([*words, *TINY_WORDS]) == 1
    assert "--suggest N and --pool AUDIO belong together" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_the_mlp_learns_what_no_line_divides(kind):
    random = np.random.default_rng(0)
    rows = random.uniform(-1, 1, (200, 2)).astype(np.float32)
    own = (rows[:, 0] * rows[:, 1] > 0).astype(int)
    targets = np.eye(2, dtype=np.float32)[own]
    valid = np.arange(200) % 5 == 0
    (head,) = mlp_fitter(kind, ("a", "b"), 0).fit(rows, targets, valid, [0])
    assert (head.probabilities(rows[valid]).argmax(axis=1) == own[valid]).mean() > 0.8


def test_the_mlp_on_the_command_line(class_folders, tmp_path):
    words = [
        "fit",
        str(class_folders(4)),
        "--out",
        str(tmp_path / "m.safetensors"),
        "--head",
        "mlp",
        "--folds",
        "2",
    ]
    assert main([*words, *TINY_WORDS]) == 0
