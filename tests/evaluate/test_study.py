"""Studies with the real embeddings runner: done once, resumed, reported, and never from stale numbers."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from hear_audiomamba.cli import main
from hear_audiomamba.errors import ConfigError, VariantError
from hear_audiomamba.evaluate.study import keys, probe
from hear_audiomamba.evaluate.study.cell import Cell
from hear_audiomamba.evaluate.study.keys import weights_identity
from hear_audiomamba.evaluate.study.probe import code_of
from hear_audiomamba.evaluate.study.shard import Shard
from hear_audiomamba.evaluate.study.study import Study
from hear_audiomamba.evaluate.study.suite import Entrant, Suite, load_suite, parse_entrant
from hear_audiomamba.evaluate.tasks.catalogue import hear_tasks
from hear_audiomamba.evaluate.tasks.check import TaskCheck, check_task
from hear_audiomamba.io.files import sha256_of

from .kit import kit_python, run_kit
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
def module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let child processes find the module that is evaluated."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE.parents[1]), str(HERE)]))


@pytest.fixture
def environment(module: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let child processes find the module that is evaluated, and no tools of HEAR's."""
    monkeypatch.setenv("AUDIOMAMBA_HEAREVAL_PYTHON", "/not/there")


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
    assert "absent-v1: no folder of this name: hear-audiomamba tasks get absent-v1" in said
    assert "ignored" in said and "notes.txt" in said
    made = runs(out)
    assert sorted(made) == ["events-v1/seed-42", "events-v1/seed-43", "tones-v1/seed-42", "tones-v1/seed-43"]
    report = json.loads((out / "results" / "stats.json").read_text())
    assert [r["seed"] for r in report["tasks"]["tones-v1"]["runs"]] == [42, 43]
    assert report["tasks"]["fast-v1"]["state"] == report["tasks"]["absent-v1"]["state"] == "failed"
    assert report["tasks"]["tones-v1"]["runs"][0]["value"] > 0.6
    assert report["code"].startswith("logmel_stats sha256:") and report["trained"] is True
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


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX processes")
@pytest.mark.usefixtures("environment")
def test_a_full_disk_ends_a_study_in_one_line_and_loses_nothing(tasks: Path, tmp_path: Path) -> None:
    def limited(size: int, *chosen: str) -> tuple[int, str]:
        """Run a study whose processes can write no file larger than `size`: what they see of a full disk."""
        limit = f"import resource as r, sys; r.setrlimit(r.RLIMIT_FSIZE, ({size}, r.RLIM_INFINITY)); "
        words = [
            "evaluate",
            "--tasks-dir",
            str(tasks),
            "--out",
            str(tmp_path),
            "--seeds",
            "2",
            "--grid",
            "faster",
        ]
        words += ["--variants", "stats=logmel_stats", "--grid-points", "2", "--tasks", *chosen]
        code = f"{limit}from hear_audiomamba.cli import main; sys.exit(main({words}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    assert evaluate(tasks, tmp_path, "--tasks", "tones-v1") == 0
    results = tmp_path / "results" / "stats.json"
    whole, first = results.read_bytes(), runs(tmp_path)
    files = {path: path.read_bytes() for path in first.values()}
    largest = max(map(len, files.values()))
    assert largest < len(whole)

    # No room for the embeddings of the next task.
    code, said = limited(len(whole) + 2000, "tones-v1", "events-v1")
    assert code == 1 and "cannot be written: File too large" in said and said.count("\n") == 1
    assert not list(tmp_path.glob("embeddings/*/events-v1/*/complete.json"))
    assert {path: path.read_bytes() for path in first.values()} == files

    # No room for a run; then for a run but not for the table of all of them.
    for path in files:
        path.unlink()
    code, said = limited(largest - 200, "tones-v1")
    assert code == 1 and "cannot be written: File too large" in said and said.count("\n") == 1
    assert not runs(tmp_path) and results.read_bytes() == whole
    # The table's length differs by the digits of two measured times, 40 characters at most.
    code, said = limited(len(whole) - 100, "tones-v1")
    assert code == 1 and f"{results}: cannot be written: File too large" in said and said.count("\n") == 1
    assert json.loads(results.read_text())["tasks"]["tones-v1"]["state"] != "done"
    kept = runs(tmp_path)
    assert "tones-v1/seed-42" in kept
    modified = {path: path.stat().st_mtime_ns for path in kept.values()}

    assert evaluate(tasks, tmp_path, "--tasks", "tones-v1", "events-v1") == 0
    assert {path: path.stat().st_mtime_ns for path in kept.values()} == modified
    again = json.loads(results.read_text())["tasks"]
    values = [[r["value"] for r in t["tones-v1"]["runs"]] for t in (again, json.loads(whole)["tasks"])]
    assert values[0] == values[1] and again["events-v1"]["state"] == "done"


@pytest.mark.slow
@pytest.mark.usefixtures("module")
def test_the_real_kit_killed_and_resumed(
    tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIOMAMBA_HEAREVAL_PYTHON", kit_python())
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


def parts(folder: Path) -> dict[str, object]:
    """All files of an embeddings folder; places of rows without the folder they were made in."""
    found: dict[str, object] = {}
    for path in sorted(folder.iterdir()):
        if path.name.endswith(".filename-timestamps.json"):
            found[path.name] = [(Path(file).name, time) for file, time in json.loads(path.read_text())]
        elif path.suffix == ".pkl":
            found[path.name] = [sorted(labels) for labels in pickle.loads(path.read_bytes())]
        elif path.suffix in (".json", ".npy", ".csv") and not path.name.startswith("profile"):
            found[path.name] = json.loads(path.read_text()) if path.suffix == ".json" else path.read_bytes()
    return found


@pytest.mark.parametrize("task", ["tones-v1", "events-v1"])
def test_our_embeddings_runner_writes_what_the_kits_writes(tasks: Path, tmp_path: Path, task: str) -> None:
    arguments = ("logmel_stats", "--tasks-dir", tasks, "--task", task, "--embeddings-dir", tmp_path / "kit")
    done = run_kit("-m", "hear_audiomamba.evaluate.heartools", "embeddings", *arguments, cwd=HERE)
    assert done.returncode == 0, done.stderr
    ours = ("-m", "hear_audiomamba.evaluate.study.embed", "logmel_stats", tasks / task)
    done = run_kit(*ours, "--out", tmp_path / "ours", cwd=HERE)
    assert done.returncode == 0, done.stderr
    kit, own = parts(tmp_path / "kit" / "logmel_stats" / task), parts(tmp_path / "ours")
    assert kit.keys() == own.keys() and len(kit) >= 11
    for name in kit:
        assert kit[name] == own[name], name


def test_the_key_of_the_default_model_changes_with_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    by_name, bare = parse_entrant("ssam_tiny_200_16x4"), parse_entrant("bare=hear_audiomamba")
    assert weights_identity(bare, True) == weights_identity(by_name, True)
    assert weights_identity(bare, True).startswith("sha256:")
    other = Path(__file__)
    monkeypatch.setattr(keys, "known_weights", lambda variant, tag=None: other)
    assert weights_identity(bare, True) == f"sha256:{sha256_of(other)}"
    # Options of their own make the default weights unusable, and the model then says that it is random.
    assert weights_identity(bare, False).startswith("none")


def test_the_code_that_computes_is_known_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hear_audiomamba

    said = code_of(hear_audiomamba)
    assert re.fullmatch(
        rf"hear_audiomamba {re.escape(hear_audiomamba.__version__)} sha256:[0-9a-f]{{64}}", said
    )
    names = {p.relative_to(probe.PACKAGE).as_posix() for p in probe.model_sources()}
    assert {"hear.py", "encoders/ssam.py", "frontends/logmel.py", "embedding/embedder.py"} <= names
    assert any(name.startswith("ops/csrc/") for name in names)
    assert not any(name.startswith(("cli/", "evaluate/", "archive/")) for name in names)
    package = tmp_path / "some_module"
    package.mkdir()
    for text in ("__version__ = '1'\n", "__version__ = '1'  # changed\n"):
        (package / "__init__.py").write_text(text)
        (package / "model.py").write_text("x = 1\n")
        monkeypatch.syspath_prepend(tmp_path)
        sys.modules.pop("some_module", None)
        importlib.invalidate_caches()
        said = (said, code_of(importlib.import_module("some_module")))
    assert said[0][1] != said[1] and said[1].startswith("some_module 1 sha256:")


@pytest.mark.usefixtures("environment")
def test_an_untrained_model_is_refused_and_else_marked(
    tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--tasks", "tones-v1", "--seeds", "1")
    assert evaluate(tasks, tmp_path / "out", *words, model="ssast_tiny_200_16x4") == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "not evaluated ssast_tiny_200_16x4: untrained" in said and "--allow-untrained" in said
    assert not runs(tmp_path / "out")
    more = (*words, "--allow-untrained")
    assert evaluate(tasks, tmp_path / "out", *more, model="ssast_tiny_200_16x4") == 0
    report = json.loads((tmp_path / "out" / "results" / "ssast_tiny_200_16x4.json").read_text())
    assert report["trained"] is False
    board = tmp_path / "board"
    assert main(["leaderboard", "--results", str(tmp_path / "out"), "--out", str(board)]) == 0
    for name in ("leaderboard.md", "leaderboard.tex", "index.html"):
        text = (board / name).read_text()
        assert "untrained" in text, name
    assert ",untrained" in (board / "leaderboard.csv").read_text()


@pytest.mark.usefixtures("environment")
def test_shards_share_a_folder_and_lose_nothing(tasks: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    words = ("--tasks", "tones-v1", "events-v1", "--seeds", "3")
    assert evaluate(tasks, whole, *words) == 0
    # Six runs in four parts: some cells lie in two shards, which share their embeddings.
    for index in (2, 0, 3, 1):
        assert evaluate(tasks, parts, *words, "--shard", f"{index}/4") == 0
    assert runs(whole).keys() == runs(parts).keys()
    first, second = (json.loads((out / "results" / "stats.json").read_text()) for out in (whole, parts))
    for task in ("tones-v1", "events-v1"):
        assert second["tasks"][task]["state"] == "done"
        values = [[run["value"] for run in report["tasks"][task]["runs"]] for report in (first, second)]
        assert values[0] == values[1]
    assert len(list(parts.glob("embeddings/*/*/*/complete.json"))) == 2


def test_shards_take_every_run_once() -> None:
    for count in (1, 3, 7, 40):
        taken = []
        for index in range(count):
            study = Study.__new__(Study)
            study.shard, study.suite = Shard(index, count), Suite(seeds=3)
            study.cells = [Cell(Entrant("m"), TaskCheck(f"t{i}")) for i in range(4)]
            study._share_out()
            taken += [(cell.check.task, seed) for cell in study.cells for seed in cell.mine]
        assert sorted(taken) == [(f"t{i}", seed) for i in range(4) for seed in (42, 43, 44)]
    for text in ("4/4", "1", "a/b", "-1/4", "1/0"):
        with pytest.raises(ConfigError, match="shard"):
            Shard.parse(text)


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
    for name in ("hear10", "hear10_fast", "hear19"):
        suite = load_suite(name)
        assert set(suite.tasks) >= set(hear_tasks()) and suite.seed_list == list(range(42, 52))
        assert len(suite.tasks) == (20 if name == "hear19" else 10)
        assert all(parse_entrant(v).module == "hear_audiomamba" for v in suite.variants)
    with pytest.raises(ConfigError, match=r"no suite 'hear9'.*did you mean 'hear19'"):
        load_suite("hear9")
    with pytest.raises(ConfigError, match="fast"):
        Suite(engine="faster")
    with pytest.raises(ConfigError, match="seeds"):
        Suite(seeds=0)
    with pytest.raises(ConfigError, match="float32, bfloat16"):
        Suite(precision="float16")
    with pytest.raises(ConfigError, match="float32 only"):
        Suite(engine="heareval", precision="bfloat16")


def test_what_is_wrong_with_a_task_is_said(tmp_path: Path) -> None:
    folder = write_scene_task(tmp_path / "tones-v1", clips=3)
    assert check_task(folder, 16000).problems == []
    assert check_task(folder, 16000).clips == 9
    fingerprint = check_task(folder, 16000).fingerprint
    clip = folder / "16000" / "fold00" / "fold00-0.wav"
    soundfile.write(clip, np.zeros(800), 8000)
    assert check_task(folder, 16000).problems == ["fold00/fold00-0.wav has 8000 Hz, not 16000"]
    clip.unlink()
    assert check_task(folder, 16000).problems == ["1 of 3 clips of fold00 missing: fold00-0.wav"]
    labels = json.loads((folder / "fold01.json").read_text())
    labels["fold01-0.wav"] = ["high"]
    (folder / "fold01.json").write_text(json.dumps(labels))
    assert check_task(folder, 16000).fingerprint != fingerprint
    (folder / "fold02.json").write_text("{")
    assert any("fold02.json cannot be used" in p for p in check_task(folder, 16000).problems)
    (folder / "task_metadata.json").write_text("{}")
    assert "task_metadata.json cannot be used" in check_task(folder, 16000).problems[0]
    (folder / "task_metadata.json").unlink()
    assert "not a whole one" in check_task(folder, 16000).problems[0]
    assert "tasks get nothing-v1" in check_task(tmp_path / "nothing-v1", 16000).problems[0]


@pytest.mark.slow
@pytest.mark.usefixtures("environment")
def test_a_study_on_ray_is_the_local_one_though_a_worker_is_killed(tasks: Path, tmp_path: Path) -> None:
    """Two workers; the first process that trains on the cluster is killed once."""
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'hear_audiomamba[scale]'")
    words = ("--tasks", "tones-v1", "events-v1", "--seeds", "2")
    assert evaluate(tasks, tmp_path / "local", *words) == 0
    cluster = tmp_path / "cluster"
    killed: list[int] = []
    stop = threading.Event()

    def kill_one() -> None:
        while not stop.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    if not killed and process.name().startswith("ray::_predict"):
                        process.kill()
                        killed.append(process.pid)

    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    try:
        assert evaluate(tasks, cluster, *words, "--ray", "local") == 0
    finally:
        stop.set()
        killer.join()
        ray.shutdown()
    assert killed
    first, second = (
        json.loads((o / "results" / "stats.json").read_text()) for o in (tmp_path / "local", cluster)
    )
    for task in ("tones-v1", "events-v1"):
        assert second["tasks"][task]["state"] == "done"
        values = [[run["value"] for run in report["tasks"][task]["runs"]] for report in (first, second)]
        assert values[0] == pytest.approx(values[1], abs=1e-6)


def test_a_tasks_folder_that_is_not_there_is_said_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["evaluate", "--tasks-dir", str(tmp_path / "none"), "--out", str(out)]) == 1
    told = capsys.readouterr()
    assert "no tasks folder" in told.err and told.out == "" and not out.exists()
