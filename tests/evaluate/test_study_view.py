"""What a study says while it runs: never silent for long, how far each step is, the log of a failure by name."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import pytest
from rich.console import Console

from hear_audiomamba.cli import main
from hear_audiomamba.cli.study_view import StudyView
from hear_audiomamba.evaluate.child import log_tail, read_progress, tell_progress
from hear_audiomamba.evaluate.study.cell import Cell, Step
from hear_audiomamba.evaluate.study.suite import Entrant
from hear_audiomamba.evaluate.tasks.check import TaskCheck

from .tiny_task import write_scene_task

ROOT = Path(__file__).resolve().parents[2]


def running(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Cell:
    """A cell that has embedded 30 of 120 clips in 60 seconds."""
    monkeypatch.setenv("AUDIOMAMBA_PROGRESS_FILE", str(folder / "p.json"))
    tell_progress(30, 30, "clips")  # the last one is always told
    monkeypatch.setattr("hear_audiomamba.evaluate.child._told", 0.0)
    tell_progress(30, 120, "clips")
    cell = Cell(Entrant("mine"), TaskCheck("tones-v1"))
    cell.steps["embeddings"] = Step(folder / "log", folder / "p.json", time.monotonic() - 60)
    return cell


def test_a_step_says_what_is_done_and_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = running(tmp_path, monkeypatch)
    assert read_progress(tmp_path / "p.json") == (30, 120, "clips")
    said = cell.steps["embeddings"].describe()
    assert re.fullmatch(r"30 of 120 clips, 1 min 0\d s, about 3 min 0\d s left", said), said
    assert Step(tmp_path / "log", tmp_path / "none", time.monotonic() - 7300).describe() == "2 h 01 min"


def test_without_a_terminal_there_is_a_line_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    view = StudyView(Console(force_terminal=False), every=0.05)
    view.cells = [running(tmp_path, monkeypatch)]
    shown, deadline = "", time.monotonic() + 60
    with view:
        view.changed(view.cells[0], "embedding")
        while "mine, tones-v1: embeddings: 30 of 120 clips" not in shown:
            assert time.monotonic() < deadline, shown
            time.sleep(0.05)
            shown += capsys.readouterr().out
    assert "mine, tones-v1: embedding" in shown.splitlines()[0]


def test_a_failed_step_names_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = tmp_path / "modules" / "broken_model.py"
    module.parent.mkdir()
    module.write_text(
        "import torch\n"
        "class M(torch.nn.Module):\n"
        "    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 4, 4\n"
        "def load_model(path=''):\n    return M()\n"
        "def get_scene_embeddings(audio, model):\n    raise ValueError('the reason is here')\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{module.parent}")
    write_scene_task(tmp_path / "tasks" / "tones-v1", clips=1)
    words = [
        "evaluate",
        "--tasks-dir",
        str(tmp_path / "tasks"),
        "--tasks",
        "all",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*words, "--variants", "broken=broken_model"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    log = tmp_path / "out" / "logs" / "broken" / "tones-v1" / "embeddings.log"
    assert f"ValueError: the reason is here (log: {log})" in said
    assert "the reason is here" in log.read_text()


def test_a_step_that_a_full_disk_ended_says_so_though_its_log_took_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "embeddings.log"
    log.touch()
    assert log_tail(log) == "the log is empty"
    of_disk = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: of_disk._replace(free=4095))
    assert log_tail(log) == f"no space left on the disk of {tmp_path}"
    log.write_text("error: a.wav: not audio\n")
    assert log_tail(log) == "error: a.wav: not audio"
