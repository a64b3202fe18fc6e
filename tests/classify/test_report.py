"""The report: honest numbers, and a page that needs nothing beside it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from hear_audiomamba.classify.calibrate import choose_thresholds, fit_calibration
from hear_audiomamba.classify.folds import make_folds
from hear_audiomamba.classify.head import to_probabilities
from hear_audiomamba.classify.metrics import average_precision, resamples, wilson
from hear_audiomamba.cli import main
from hear_audiomamba.errors import DataError

from .browser import Browser, needs_browser
from .conftest import SOUNDS, TINY_WORDS


def test_average_precision_is_that_of_scikit_learn():
    random = np.random.default_rng(0)
    for _ in range(20):
        own = random.random(50) < 0.3
        scores = np.round(random.random(50) + 0.3 * own, 1)  # with ties
        weights = resamples(np.arange(50) // 2, 1)[:3]
        assert average_precision(scores, own)[0] == pytest.approx(average_precision_score(own, scores))
        for value, weight in zip(average_precision(scores, own, weights), weights):
            assert value == pytest.approx(
                average_precision_score(own, scores, sample_weight=weight), abs=1e-6
            )


def test_intervals_allow_for_small_samples():
    low, high = wilson(5, 5)
    assert 0.5 < low < 0.6 and high == 1
    assert wilson(0, 0) == (0, 1)
    low, high = wilson(900, 1000)
    assert 0.87 < low < 0.9 < high < 0.92


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_calibrated_probabilities_come_true(kind):
    random = np.random.default_rng(0)
    true = random.standard_normal((6000, 3)).astype(np.float32)
    if kind == "single":
        chance = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
        targets = np.eye(3)[[random.choice(3, p=row / row.sum()) for row in chance]]
        shown = 4 * true  # four times too sure
    else:
        targets = (random.random(true.shape) < 1 / (1 + np.exp(-true))).astype(float)
        shown = 3 * true + 2
    calibration = fit_calibration(shown, targets, kind)
    # Standard errors of the estimates: about 1 / sqrt(6000 rows · 0.2), times a few.
    np.testing.assert_allclose(shown * calibration.slope + calibration.offset, true, atol=0.5)
    probabilities = to_probabilities(shown, kind, calibration)
    top = probabilities.max(axis=1) > 0.6
    assert targets[top, probabilities[top].argmax(axis=1)].mean() == pytest.approx(
        probabilities[top].max(axis=1).mean(), abs=0.05
    )


def test_a_few_rows_that_are_all_right_do_not_make_sure():
    targets = np.eye(3)[np.arange(12) % 3]
    logits = (20 * targets).astype(np.float32)
    calibration = fit_calibration(logits, targets, "single")
    assert 0.75 < to_probabilities(logits, "single", calibration).max() < 0.95


def test_thresholds_keep_the_precision_asked_for():
    random = np.random.default_rng(0)
    targets = (random.random((500, 2)) < 0.3).astype(float)
    chance = np.clip(0.4 * targets + random.random((500, 2)) * 0.6, 0, 1)
    for wanted in (0.5, 0.8, 0.95):
        thresholds = choose_thresholds(chance, targets, "multi", wanted)
        for index in range(2):
            found = chance[:, index] >= thresholds[index]
            assert targets[found, index].mean() >= wanted and found.any()


def test_groups_are_never_on_both_sides():
    random = np.random.default_rng(0)
    groups = [str(number) for number in random.integers(0, 9, 120)]
    targets = np.eye(3)[random.integers(0, 3, 120)]
    folds = make_folds([(f"{i}.wav", None, group) for i, group in enumerate(groups)], targets, 4, 0)
    of_group: dict[str, set[int]] = {}
    for group, fold in zip(groups, folds.fold.tolist()):
        of_group.setdefault(group, set()).add(fold)
    assert all(len(fold) == 1 for fold in of_group.values()) and folds.numbers == [0, 1, 2, 3]
    counts = np.array([targets[folds.fold == k].sum(axis=0) for k in folds.numbers])
    assert counts.min() > 0
    with pytest.raises(DataError, match="one group"):
        make_folds([("a.wav", None, None), ("a.wav", None, None)], targets[:2], 4, 0)


def test_groups_with_a_class_each_leave_no_fold_empty(tmp_path, class_folders, capsys):
    targets = np.eye(3)[np.repeat(np.arange(3), 4)]
    units = [(f"{i}.wav", None, f"site{i // 4}") for i in range(12)]
    assert make_folds(units, targets, 3, 0).numbers == [0, 1, 2]
    folder, out = class_folders(3), tmp_path / "model.safetensors"
    rows = [f"{path},{path.parent.name},{path.parent.name}" for path in sorted(folder.rglob("*.wav"))]
    (tmp_path / "labels.csv").write_text("path,label,site\n" + "\n".join(rows) + "\n")
    words = ["fit", str(tmp_path / "labels.csv"), "--group-by", "site", "--out", str(out), *TINY_WORDS]
    assert main(words) == 0
    shown = capsys.readouterr().err
    assert "in one group or file only: high, low, noise" in shown and "warning: Mean" not in shown


class _Links(HTMLParser):
    """Collects what a page loads and links to."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.audio: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "link", "img", "iframe"):
            self.loads.append(str(given.get("src") or given.get("href")))
        if tag == "audio":
            self.audio.append(str(given["src"]))


def test_the_page_needs_nothing_beside_it(tmp_path, class_folders):
    labels = class_folders(5)
    # A label that is wrong on purpose: the classifier is sure, and the report shows it first.
    (labels / "low/wrong.wav").write_bytes((labels / "high/0.wav").read_bytes())
    out = tmp_path / "model.safetensors"
    assert main(["fit", str(labels), "--out", str(out), *TINY_WORDS]) == 0
    page, numbers = out.with_suffix(".html").read_text(), json.loads(out.with_suffix(".json").read_text())
    links = _Links()
    links.feed(page)
    assert not links.loads and not re.search(r"https?://", page) and "{{" not in page
    assert (tmp_path / links.audio[0]).is_file() and links.audio[0].endswith("low/wrong.wav")
    worst = numbers["mistakes"][0]
    assert (Path(worst["path"]).name, worst["label"], worst["said"]) == ("wrong.wav", "low", "high")
    assert [score["name"] for score in numbers["classes"]] == list(SOUNDS)
    assert np.array(numbers["confusion"]).sum() == 16
    assert not any(score["enough"] for score in numbers["classes"])
    assert any("too few labels to trust" in note for note in numbers["notes"]) and "few labels" in page
    low, high = numbers["classes"][0]["ap_interval"]
    assert 0 <= low <= numbers["classes"][0]["ap"] <= high <= 1


@needs_browser
def test_long_names_do_not_widen_the_page(tmp_path, class_folders):
    labels = class_folders(4)
    (labels / "low").rename(labels / ("<b>" + "q" * 200))
    out = tmp_path / "model.safetensors"
    assert main(["fit", str(labels), "--out", str(out), *TINY_WORDS]) == 0
    with Browser(tmp_path, 500, 900) as browser:
        browser.open(out.with_suffix(".html"))
        assert browser.run("document.documentElement.scrollWidth == document.documentElement.clientWidth")
        assert browser.run("document.querySelector('td b') === null")
