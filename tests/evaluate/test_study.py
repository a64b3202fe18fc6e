"""Studies with the real embeddings runner: done once, resumed, reported, and never from stale numbers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_audiomamba.cli import main
from hear_audiomamba.errors import ConfigError, VariantError
from hear_audiomamba.evaluate.study.suite import Suite, hear_tasks, load_suite, parse_entrant
from hear_audiomamba.evaluate.tasks import check_task

from .kit import kit_python
from .tiny_task import write_event_task, write_scene_task

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tasks folder with a scene task, an event task, and things that are no usable task."""
    folder = tmp_path_factory.mktemp("tasks")
    write_scene_task(folder / "tones-v1", clips=9)
    write_event_task(folder / "events-v1", clips=2)
    write_scene_task(folder / "fast-v1", clips=3)
    (folder / "fast-v1" / "16000").rename(folder / "fast-v1" / "48000")
    (folder / "notes.txt").write_text("stray")
    return folder


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let child processes find the tools and the module that is evaluated."""
    monkeypatch.setenv("AUDIOMAMBA_HEAREVAL_PYTHON", kit_python())
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE.parents[1]), str(HERE)]))


def evaluate(tasks: Path, out: Path, *more: str, model: str = "stats=logmel_stats") -> int:
    words = ["evaluate", "--tasks-dir", str(tasks), "--out", str(out), "--variants", model, "--seeds", "2"]
    return main([*words, "--grid", "faster", "--grid-points", "2", *more])


def runs(out: Path) -> dict[str, Path]:
    return {f"{p.parts[-3]}/{p.stem}": p for p in out.glob("runs/*/*/*/seed-*.json")}


@pytest.mark.usefixtures("environment")
def test_a_study_runs_resumes_and_never_reuses_stale_numbers(
    tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    chosen = ("--engine", "fast", "--tasks", "tones-v1", "events-v1", "fast-v1", "absent-v1")
    assert evaluate(tasks, out, *chosen) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "fast-v1: no audio at 16000 Hz, only at 48000" in said
    assert "absent-v1: no folder of this name; download it from https://hearbenchmark.com" in said
    assert "ignored" in said and "notes.txt" in said
    made = runs(out)
    assert sorted(made) == ["events-v1/seed-42", "events-v1/seed-43", "tones-v1/seed-42", "tones-v1/seed-43"]
    report = json.loads((out / "results" / "stats.json").read_text())
    assert [r["seed"] for r in report["tasks"]["tones-v1"]["runs"]] == [42, 43]
    assert report["tasks"]["fast-v1"]["state"] == report["tasks"]["absent-v1"]["state"] == "failed"
    assert report["tasks"]["tones-v1"]["runs"][0]["value"] > 0.6
    assert report["versions"]["embeddings"]["heareval"] and report["code"].startswith("logmel_stats sha256:")
    assert not (out / "tmp").exists()

    # One file lost, one half-written: only these two are run again.
    before = {name: path.read_bytes() for name, path in made.items()}
    made["tones-v1/seed-43"].unlink()
    made["events-v1/seed-42"].write_bytes(before["events-v1/seed-42"][:50])
    kept = made["tones-v1/seed-42"].stat().st_mtime_ns
    assert evaluate(tasks, out, "--engine", "fast", "--tasks", "tones-v1", "events-v1") == 0
    assert "cannot be read" in capsys.readouterr().out
    assert made["tones-v1/seed-42"].stat().st_mtime_ns == kept
    for name, path in made.items():
        again, first = json.loads(path.read_text()), json.loads(before[name])
        assert again["value"] == first["value"], name

    # Other options are another model: nothing of the old one is used, and infinite embeddings are refused.
    assert (
        evaluate(
            tasks, out, "--engine", "fast", "--tasks", "tones-v1", model='stats=logmel_stats{"scale": 1e39}'
        )
        == 1
    )
    assert "embeddings of split fold00 are NaN or infinite" in " ".join(capsys.readouterr().out.split())
    assert json.loads((out / "results" / "stats.json").read_text())["tasks"]["tones-v1"]["runs"] == []


@pytest.mark.usefixtures("environment")
def test_tasks_of_an_earlier_call_stay_in_the_results(tasks: Path, tmp_path: Path) -> None:
    def reported() -> dict:
        return json.loads((tmp_path / "results" / "stats.json").read_text())["tasks"]

    assert evaluate(tasks, tmp_path, "--engine", "fast", "--tasks", "tones-v1") == 0
    first = reported()["tones-v1"]
    assert evaluate(tasks, tmp_path, "--engine", "fast", "--tasks", "events-v1", "--seeds", "1") == 0
    assert reported()["tones-v1"] == first and set(reported()) == {"tones-v1", "events-v1"}
    # Another protocol begins anew: numbers that cannot be compared do not share a file.
    more = ("--engine", "fast", "--tasks", "events-v1", "--grid-points", "1")
    assert evaluate(tasks, tmp_path, *more) == 0
    assert set(reported()) == {"events-v1"}


@pytest.mark.slow
@pytest.mark.usefixtures("environment")
def test_the_real_kit_killed_and_resumed(tasks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["evaluate", "--tasks-dir", str(tasks), "--out", str(out), "--variants", "stats=logmel_stats"]
    words += ["other=logmel_stats" + json.dumps({"scale": 0.5}), "--seeds", "2", "--grid", "faster"]
    words += ["--grid-points", "2", "--engine", "heareval", "--tasks", "tones-v1", "events-v1"]
    process = subprocess.Popen([sys.executable, "-m", "hear_audiomamba", *words], cwd=HERE.parents[1])
    deadline = time.monotonic() + 500
    while not runs(out) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in runs(out).values()}
    assert 1 <= len(done) < 8
    assert main(words) == 0
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in done.items())
    for name in ("stats", "other"):
        report = json.loads((out / "results" / f"{name}.json").read_text())
        assert [len(t["runs"]) for t in report["tasks"].values()] == [2, 2]
    assert main(["leaderboard", "--results", str(out), "--out", str(tmp_path / "board")]) == 0
    assert (tmp_path / "board" / "index.html").is_file()


@pytest.mark.usefixtures("environment")
def test_a_model_that_does_not_load_is_reported(
    tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(tasks, tmp_path / "out", "--tasks", "tones-v1", model="gone=no_such_module") == 1
    assert "gone: cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'" in " ".join(
        capsys.readouterr().out.split()
    )


def test_names_on_the_command_line() -> None:
    assert parse_entrant("ssam_tiny_200_16x4").options == {"variant": "ssam_tiny_200_16x4"}
    entrant = parse_entrant(f'mine=some.module@{HERE / "kit.py"}{{"a": 1}}')
    assert (entrant.name, entrant.module, entrant.options) == ("mine", "some.module", {"a": 1})
    assert entrant.weights == str(HERE / "kit.py")
    assert parse_entrant(f"mine=@{HERE / 'kit.py'}").module == "hear_audiomamba"
    with pytest.raises(VariantError, match="ssam_tiny"):
        parse_entrant("ssam_tyni_200_16x4")
    with pytest.raises(ConfigError, match="no weights file"):
        parse_entrant("mine=@/not/there.pth")
    with pytest.raises(ConfigError, match="no JSON"):
        parse_entrant("mine=module{oops")
    with pytest.raises(ConfigError, match="letters"):
        parse_entrant("../mine=module")


def test_suites_and_the_list_of_tasks() -> None:
    assert len(hear_tasks()) == 10
    for name in ("hear10", "hear10_fast"):
        suite = load_suite(name)
        assert suite.tasks == tuple(hear_tasks()) and suite.seed_list == list(range(42, 52))
        assert all(parse_entrant(v).module == "hear_audiomamba" for v in suite.variants)
    with pytest.raises(ConfigError, match="fast"):
        Suite(engine="faster")
    with pytest.raises(ConfigError, match="seeds"):
        Suite(seeds=0)


def test_what_is_wrong_with_a_task_is_said(tmp_path: Path) -> None:
    folder = write_scene_task(tmp_path / "tones-v1", clips=3)
    assert check_task(folder, 16000).problems == []
    assert check_task(folder, 16000).clips == 9
    fingerprint = check_task(folder, 16000).fingerprint
    clip = folder / "16000" / "fold00" / "fold00-0.wav"
    soundfile.write(clip, np.zeros(800), 8000)
    assert check_task(folder, 16000).problems == ["fold00/fold00-0.wav has 8000 Hz, not 16000"]
    clip.unlink()
    assert check_task(folder, 16000).problems == ["1 of 3 clips of fold00 are missing: fold00-0.wav…"]
    labels = json.loads((folder / "fold01.json").read_text())
    labels["fold01-0.wav"] = ["high"]
    (folder / "fold01.json").write_text(json.dumps(labels))
    assert check_task(folder, 16000).fingerprint != fingerprint
    (folder / "fold02.json").write_text("{")
    assert any("fold02.json cannot be used" in p for p in check_task(folder, 16000).problems)
    (folder / "task_metadata.json").write_text("{}")
    assert "task_metadata.json cannot be used" in check_task(folder, 16000).problems[0]
