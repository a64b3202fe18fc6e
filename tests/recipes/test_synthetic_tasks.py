"""The labels of synthesised sounds become HEAR tasks that the quick probe reads."""

import csv
import importlib
import json
from pathlib import Path

import pytest

from recipes.corpus import build_corpus
from recipes.corpus.recipe import CorpusRecipe, load_recipe

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def synthetic_tasks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("synthetic_tasks")


def test_every_file_of_a_frequent_class_is_in_one_fold(synthetic_tasks, tmp_path):
    tones = {"name": "tones", "engine": "tones", "count": 60, "seed": 5}
    build_corpus(CorpusRecipe.from_dict({"name": "t", "synthesis": [tones]}), tmp_path / "corpus")
    with (tmp_path / "corpus/labels.csv").open(newline="") as stream:
        signals = {
            Path(row["path"]).stem: row["label"].partition(":")[2]
            for row in csv.DictReader(stream)
            if row["label"].startswith("signal:")
        }
    labels = synthetic_tasks.read_labels(tmp_path / "corpus")["signal"]
    clips, classes = synthetic_tasks.write_task(tmp_path / "corpus", tmp_path / "signals", labels)
    folds = [json.loads((tmp_path / f"signals/fold{k:02d}.json").read_text()) for k in range(5)]
    listed = {Path(name).stem: names for fold in folds for name, names in fold.items()}
    assert clips == sum(map(len, folds)) == len(listed) and classes == len(
        {names[0] for names in listed.values()}
    )
    often = {name for name in signals.values() if list(signals.values()).count(name) >= 5}
    assert listed == {stem: [name] for stem, name in signals.items() if name in often}
    assert max(map(len, folds)) - min(map(len, folds)) <= 1
    for k, fold in enumerate(folds):
        assert {path.name for path in (tmp_path / f"signals/16000/fold{k:02d}").iterdir()} == set(fold)


def test_the_sounds_measured_with_are_not_those_trained_on(synthetic_tasks):
    corpus = load_recipe(ROOT / "recipes/weights/open-corpus.yaml")
    trained = [source for source in corpus.synthesis if source.split == "train"]
    measured = load_recipe(ROOT / "recipes/weights/synthetic-tasks.yaml").synthesis
    assert not {source.seed for source in measured} & {source.seed for source in trained}
    assert {source for source, *_ in synthetic_tasks.TASKS.values()} == {source.name for source in measured}
