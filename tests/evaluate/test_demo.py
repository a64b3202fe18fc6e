"""The two tasks that ship: whole, small, as their generator makes them, and evaluated in one command."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_audiomamba.cli import main
from hear_audiomamba.evaluate.tasks.check import check_task, tasks_in
from hear_audiomamba.evaluate.tasks.demo import DEMO_TASKS, tasks_folder

ROOT = Path(__file__).resolve().parents[2]


def test_they_are_whole_and_small() -> None:
    assert tasks_in(DEMO_TASKS) == ["demo_events-v1.0", "demo_notes-v1.0"]
    for task in tasks_in(DEMO_TASKS):
        check = check_task(DEMO_TASKS / task, 16000)
        assert check.problems == [] and check.clips >= 20
    assert sum(p.stat().st_size for p in DEMO_TASKS.rglob("*")) < 10**6


def test_they_are_what_their_generator_makes(tmp_path: Path) -> None:
    runpy.run_path(str(ROOT / "tools" / "make_demo_tasks.py"))["main"](tmp_path)
    made = {p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()}
    assert made == {p.relative_to(DEMO_TASKS) for p in DEMO_TASKS.rglob("*") if p.is_file()}
    for name in made:
        if name.suffix == ".flac":
            ours, again = (
                soundfile.read(folder / name, dtype="int16")[0] for folder in (DEMO_TASKS, tmp_path)
            )
            # One step of the nine bits: a sine may round to the other side on another processor.
            assert np.abs(ours.astype(int) - again).max() <= 2 ** (16 - 9), name
        else:
            assert (DEMO_TASKS / name).read_text() == (tmp_path / name).read_text(), name


def test_a_folder_named_demo_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert tasks_folder(Path("demo")) == DEMO_TASKS
    (tmp_path / "demo").mkdir()
    assert tasks_folder(Path("demo")) == Path("demo")


def test_one_command_evaluates_and_one_makes_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("AUDIOMAMBA_HEAREVAL_PYTHON", "/not/there")
    assert main(["evaluate", "--tasks-dir", "demo", "--seeds", "1", "--grid-points", "4"]) == 0
    (report,) = (tmp_path / "evaluation" / "results").glob("*.json")
    tasks = json.loads(report.read_text())["tasks"]
    assert all(task["state"] == "done" and task["runs"][0]["value"] > 0.5 for task in tasks.values())
    assert main(["leaderboard", "--results", "evaluation", "--out", "board"]) == 0
    assert (tmp_path / "board" / "index.html").is_file()
