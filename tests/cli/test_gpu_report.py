"""The GPU report, rehearsed on the CPU: every step runs, is kept, and is taken up again."""

from __future__ import annotations

import json

import pytest

from hear_audiomamba.cli import gpu_report, gpu_steps, main


def test_the_report_asks_for_a_gpu(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["bench", "--gpu", "--report", str(tmp_path)]) == 1
    assert "--cpu-rehearsal" in capsys.readouterr().err


def test_every_step_has_a_title():
    assert list(gpu_report.TITLES) == list(gpu_steps.STEPS)


@pytest.mark.parametrize(
    "steps", [["operators", "out-of-memory"], pytest.param([], marks=pytest.mark.slow, id="all")]
)
def test_the_rehearsal_walks_its_steps(tmp_path, steps):
    command = ["bench", "--gpu", "--cpu-rehearsal", "--report", str(tmp_path)]
    assert main(command + ["--steps", *steps] * bool(steps)) == 0, (tmp_path / "report.md").read_text()
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report["steps"]) == (steps or list(gpu_steps.STEPS))
    assert all(step["rows"] for step in report["steps"].values())
    page = (tmp_path / "report.md").read_text()
    assert "rehearsal" in page and all(gpu_report.TITLES[step] in page for step in report["steps"])


def test_a_step_that_failed_runs_again_and_the_others_stay(tmp_path, monkeypatch):
    runs: list[str] = []

    def run(name, file, rehearsal, task):
        runs.append(name)
        failed = name == "values" and runs.count(name) == 1
        return {"error": "RuntimeError: broken"} if failed else {"rows": [{"n": 1}]}

    monkeypatch.setattr(gpu_report, "_run", run)
    steps = ["kernel-tests", "values", "operators"]
    assert gpu_report.write_report(tmp_path, True, None, steps) == 1
    assert "Failed: RuntimeError: broken" in (tmp_path / "report.md").read_text()
    assert gpu_report.write_report(tmp_path, True, None, steps) == 0
    assert runs == [*steps, "values"]
