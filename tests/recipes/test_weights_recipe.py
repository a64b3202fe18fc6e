"""The recipe of the bundled weights: its parts fit each other."""

import csv
import json
import re
import subprocess
from pathlib import Path

import pytest

from hear_audiomamba.models.registry import find_variant
from hear_audiomamba.pretrain.settings import read_config
from recipes.corpus.recipe import load_recipe
from recipes.corpus.teachers import TEACHERS
from recipes.weights import gpu_train

FOLDER = Path(gpu_train.__file__).parent
VARIANTS = sorted(path.stem for path in FOLDER.glob("*.json"))


def test_every_model_has_a_configuration_and_is_trained_by_both_scripts():
    script = (FOLDER / "run.sh").read_text(encoding="utf-8")
    listed = re.search(r"for variant in ([^;]+);", script)
    assert listed and sorted(listed[1].split()) == VARIANTS == sorted(gpu_train.RUNS)
    assert sum(gpu_train.RUNS.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_configuration_asks_for_teachers_that_the_script_asks(variant, tmp_path):
    given = [f"data.path={tmp_path}", f"distill.targets={tmp_path}", f"run.out={tmp_path}"]
    config = read_config(FOLDER / f"{variant}.yaml", given)
    assert config.model == variant == find_variant(variant).config.variant
    script = (FOLDER / "run.sh").read_text(encoding="utf-8")
    asked = re.search(r"--teachers ([\w,]+)", script)
    assert asked and config.distill.teachers
    names = set(asked[1].split(","))
    for teacher in config.distill.teachers:
        assert teacher in TEACHERS and (teacher in names or teacher.partition("_")[0] in names)
    notes = json.loads((FOLDER / f"{variant}.json").read_text(encoding="utf-8"))
    assert {"licence", "source", "recipe", "teachers"} <= notes.keys()
    assert {teacher.partition("_")[0] for teacher in config.distill.teachers} == {
        teacher.partition("_")[0] for teacher in notes["teachers"]
    }


def test_the_table_of_sources_lists_what_the_corpus_is_made_of():
    with (FOLDER / "sources.csv").open(newline="", encoding="utf-8") as file:
        listed = {row["source"] for row in csv.DictReader(file)}
    corpus = load_recipe(FOLDER / "open-corpus.yaml")
    assert listed == {source.name for source in (*corpus.packages, *corpus.synthesis)}


def test_the_script_is_valid_for_a_plain_shell():
    subprocess.run(["sh", "-n", FOLDER / "run.sh"], check=True)
