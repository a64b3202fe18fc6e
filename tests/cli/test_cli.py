"""The command line: exit statuses, one-line errors, and the small verbs."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import hear_audiomamba
from hear_audiomamba import __version__, load_model
from hear_audiomamba.cli import main, options
from hear_audiomamba.cli.program import VERBS
from hear_audiomamba.errors import UntrainedWeightsWarning
from hear_audiomamba.io.process import end_signals, ending_as_interrupted
from hear_audiomamba.models.weights import save_weights
from hear_audiomamba.modules import compute
from hear_audiomamba.pretrain.run.stopping import StopRequest


def test_without_a_verb_it_says_how(capsys):
    assert main([]) == 2 and "embed" in capsys.readouterr().out
    assert main(["--help"]) == 0
    assert main(["--version"]) == 0 and __version__ in capsys.readouterr().out


def test_unknown_verb(capsys):
    assert main(["emved"]) == 2
    assert "did you mean 'embed'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["info", "ssam_tny"],
        ["check", "no_such_module"],
        ["convert", "none.pth", "out.safetensors"],
        ["bench", "--device", "foo"],
        ["evaluate", "--tasks-dir", "demo", "--out", "/dev/null/results"],
    ],
)
def test_errors_are_one_line_on_standard_error(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    captured = capsys.readouterr()
    assert (
        captured.out == ""
        and captured.err.count("\n") == 1
        and captured.err.startswith("hear-audiomamba: error:")
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "required: .*--out"),
        (["x.wav", "--out", "o", "--formt", "npy"], "unknown option '--formt'; did you mean '--format'"),
        (["x.wav", "--out", "o", "--format", "nyp"], "invalid choice: 'nyp'"),
        (["x.wav", "--out", "o", "--batch-windows", "many"], "invalid int value: 'many'"),
    ],
)
def test_wrong_usage_is_one_line_too(words, said, capsys):
    with pytest.raises(SystemExit) as left:
        main(["embed", *words])
    error = capsys.readouterr().err
    assert left.value.code == 2 and re.search(said, error)
    assert error.count("\n") == 1 and "`hear-audiomamba embed --help` shows all" in error


def test_help_is_a_word_too(capsys):
    assert main(["help"]) == 0 and "leaderboard" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        main(["help", "embed"])
    assert left.value.code == 0 and "--segments" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "status"), [(["tasks"], 2), (["tasks", "--help"], 0), (["help", "tasks"], 0)]
)
def test_the_first_word_of_several_verbs_shows_them(words, status, capsys):
    assert main(words) == status
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in VERBS if verb.startswith("tasks ")) and "embed" not in shown
    assert main(["tasks", "gte"]) == 2 and "did you mean 'tasks get'" in capsys.readouterr().err


def test_help_of_every_verb_needs_no_torch():
    program = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from hear_audiomamba.cli.program import VERBS, make_parser\n"
        "for verb in VERBS:\n"
        "    make_parser(verb).format_help()\n"
        "print(len(VERBS))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == f"{len(VERBS)}\n", done.stderr


def test_the_command_line_knows_all_precisions():
    assert tuple(compute.PRECISIONS) == options.PRECISIONS


def test_list_of_weights(capsys):
    assert main(["list", "--pretrained", "--json", "dass_*"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"].partition(".")[0] for row in rows} == {"dass_small", "dass_medium"}
    assert main(["list", "--pretrained"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("ssamba_base.400" in line and "download" in line for line in lines)
    assert any("ssam_tiny_200_16x4.as2m" in line and "by hand" in line for line in lines)
    assert main(["list", "--json", "ssam_tiny"]) == 0  # short names too
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["ssam_tiny_200_16x4"]
    assert main(["list", "sam*"]) == 1
    assert "no name is like 'sam*'" in capsys.readouterr().err


def test_list(capsys):
    assert main(["list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["ssam_tiny_200_16x4"]["scene_embedding_size"] == 960
    assert main(["list"]) == 0 and "ssamba_base" in capsys.readouterr().out


@pytest.fixture
def weights_file(tmp_path):
    model = load_model(variant="ssam_tiny", depth=2, device="cpu")
    return save_weights(tmp_path / "two.safetensors", model.encoder.state_dict(), model.config)


def test_info(capsys, weights_file):
    assert main(["info", "ssam_base", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["embed_dim"] == 768
    assert main(["info", str(weights_file)]) == 0
    assert "depth: 2" in capsys.readouterr().out


def test_convert_does_not_replace_unasked(capsys, weights_file, tmp_path):
    target = str(tmp_path / "half.safetensors")
    assert main(["convert", str(weights_file), target, "--dtype", "float16"]) == 0
    assert main(["convert", str(weights_file), target]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main(["convert", str(weights_file), target, "--overwrite"]) == 0
    assert main(["convert", str(weights_file), str(tmp_path / "x.pth")]) == 1


def test_check_a_model_and_a_module(capsys, weights_file, tmp_path, monkeypatch):
    assert main(["check", str(weights_file)]) == 0
    assert "0 warnings, 0 errors" in capsys.readouterr().out
    (tmp_path / "lame_module.py").write_text("def load_model(path=''):\n    return object()\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["check", "lame_module"]) == 1
    assert "missing get_scene_embeddings" in capsys.readouterr().out


def test_check_sees_what_the_validator_would(capsys, tmp_path, monkeypatch):
    """A module with times 60 ms apart that end too early: warnings, no error."""
    (tmp_path / "slow_module.py").write_text(
        "import torch\n"
        "class Model(torch.nn.Module):\n"
        "    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 3, 3\n"
        "def load_model(path=''):\n    return Model()\n"
        "def get_scene_embeddings(audio, model):\n    return audio[:, :3] * 0\n"
        "def get_timestamp_embeddings(audio, model):\n"
        "    times = torch.arange(30, audio.shape[1] / 16 - 200, 60.0).expand(len(audio), -1)\n"
        "    return torch.zeros(*times.shape, 3), times\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["check", "slow_module"]) == 0
    out = capsys.readouterr().out
    assert "60.0 ms apart" in out and "before the clip does" in out


def test_the_installed_program_and_the_module_are_the_same():
    done = subprocess.run(
        [sys.executable, "-m", "hear_audiomamba", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0 and __version__ in done.stdout


@pytest.mark.parametrize("words", [["list"], []])
def test_output_whose_encoding_lacks_a_character(words):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "hear_audiomamba", *words], env=environment, capture_output=True, text=True
    )
    assert done.returncode == (0 if words else 2)
    assert done.stdout and not done.stderr


def test_it_runs_where_every_warning_is_an_error(tmp_path):
    (tmp_path / "in").mkdir()
    zeros = np.zeros(16000, np.float32)
    zeros[::100] = 0.5
    soundfile.write(tmp_path / "in" / "a.wav", zeros, 16000)
    command = [
        sys.executable,
        "-X",
        "dev",
        "-W",
        "error",
        "-m",
        "hear_audiomamba",
        "embed",
        "in",
        "--out",
        "out",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONWARNDEFAULTENCODING": "1"}, capture_output=True
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "out" / "a.wav.npz").is_file()


def test_problems_of_labels_are_shown_one_a_line(tmp_path, capsys):
    """All of them have the line's number; of many, the rest is counted."""
    table = tmp_path / "labels.csv"
    table.write_text("path,label\n" + "".join(f"gone{i}.wav,x\n" for i in range(60)))
    assert main(["fit", str(table), "--out", str(tmp_path / "x.safetensors")]) == 1
    first, *lines = capsys.readouterr().err.splitlines()
    assert first == f"hear-audiomamba: error: {table}: 60 problems in these labels"
    assert lines[0].startswith(f"  {table}, line 2: no such file: ") and lines[-1] == "  and 35 more"
    assert len(lines) == 26


def test_closed_output(monkeypatch):
    """As `>&-` of a shell leaves it, or a program without a window on Windows."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["--version"]) == 0
    assert main(["nonsense"]) == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full: /dev/full")
def test_full_output_is_one_line():
    command = [sys.executable, "-m", "hear_audiomamba", "--version"]
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "hear-audiomamba: error: No space left on device\n")


@pytest.mark.parametrize(("package", "words"), (("torch", ["tag", "x.wav"]), ("rich", ["list"])))
def test_a_package_that_is_missing_is_one_line(package, words):
    """As in the small environments that run exported models."""
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from hear_audiomamba.cli import main\n"
        f"sys.exit(main({words!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(
        f"hear-audiomamba: error: {package} is not installed, and this command needs it"
    )
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize("module", ["soundfile", "soxr"])
def test_a_library_that_cannot_be_loaded_is_one_line_and_blames_no_file(module, workers, tmp_path):
    """As where a system lacks libsndfile, or a package was built for another one."""
    (tmp_path / f"{module}.py").write_text("raise OSError('library not found')\n")
    soundfile.write(tmp_path / "a.wav", np.ones(8000) / 2, 8000)
    environment = with_package()
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
    words = ["embed", "a.wav", "--out", "out", "--workers", workers]
    command = [sys.executable, "-m", "hear_audiomamba", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    *warned, line = done.stderr.splitlines()
    assert line == f"hear-audiomamba: error: {module} cannot be loaded: library not found"
    assert all("no decoding process can start" in w for w in warned) and len(warned) == int(workers)
    assert not (tmp_path / "out" / "errors.jsonl").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process reliably")
def test_too_little_memory_for_the_libraries_is_one_line(tmp_path):
    """As under `ulimit -v`."""
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (300 << 20, 300 << 20))\n"
        "from hear_audiomamba.cli import main\n"
        "sys.exit(main(['search', 'x.wav', '.']))\n"
    )
    environment = {**with_package(), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "memory" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="only POSIX deletes a folder that a process works in")
@pytest.mark.parametrize("verb", ["list", "embed /x --out /y", "tag /x", "evaluate --tasks-dir demo --check"])
def test_a_working_folder_that_was_deleted_is_one_line(tmp_path, verb):
    gone = tmp_path / "gone"
    gone.mkdir()
    code = (
        "import os, sys\nfrom hear_audiomamba.cli import main\nos.rmdir(os.getcwd())\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", code, *verb.split()]
    done = subprocess.run(words, cwd=gone, env=with_package(), capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "the working folder was deleted" in done.stderr


@pytest.mark.parametrize("number", end_signals())
def test_every_verb_ends_at_a_signal_as_at_ctrl_c(number, monkeypatch, capsys):
    def ended(args):
        os.kill(os.getpid(), number)
        pytest.fail("the signal was taken by no one")

    before = signal.getsignal(number)
    for verb in VERBS:
        module = importlib.import_module(f"hear_audiomamba.cli.{verb.replace(' ', '_')}")
        monkeypatch.setattr(module, "run", ended)
        monkeypatch.setattr(module, "add_arguments", lambda parser: None)
        assert main(verb.split()) == 130
        assert "interrupted" in capsys.readouterr().err
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", end_signals())
def test_a_signal_that_nohup_ignores_stays_ignored(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with ending_as_interrupted():
            os.kill(os.getpid(), number)
        with StopRequest(None).on_signals():
            os.kill(os.getpid(), number)
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("can't start new thread"), "can't start new thread"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
        (RuntimeError("unable to mmap 9 bytes from file <x>: Cannot allocate memory (12)"), "out of memory"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "ulimit -v"),
        (OSError("libgomp.so.1: cannot open shared object file"), "libgomp.so.1"),
        (UntrainedWeightsWarning("the model is random"), "the model is random"),
    ],
)
def test_what_the_machine_refuses_is_one_line(error, said, monkeypatch, capsys):
    def refused(args):
        raise error

    monkeypatch.setattr(importlib.import_module("hear_audiomamba.cli.list"), "run", refused)
    assert main(["list"]) == 1
    shown = capsys.readouterr().err
    assert said in shown and shown.count("\n") == 1


def with_package() -> dict[str, str]:
    """Return an environment in which any working folder finds this package."""
    return {**os.environ, "PYTHONPATH": str(Path(hear_audiomamba.__file__).parents[1])}
