"""The verbs embed, search and map as a user runs them."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_audiomamba.cli import main
from hear_audiomamba.io.process import end_signals
from tests.interrupted import run_until

RECORDINGS = Path(__file__).parents[2] / "examples" / "audio"
SMALL = ["--option", "depth=1", "--option", "embed_dim=24", "--device", "cpu", "--quiet"]


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(RECORDINGS, tmp_path / "audio")
    return tmp_path / "audio"


def embed(folder, out, *words):
    return main(["embed", str(folder), "--out", str(out), *SMALL, *words])


def test_recordings_become_embeddings(folder, tmp_path, capsys):
    assert embed(folder, tmp_path / "out") == 0
    assert "6 of 6 files (15 s) embedded in" in capsys.readouterr().out
    with np.load(tmp_path / "out" / "music_raincat.ogg.npz") as held:
        assert held["scene"].shape == (120,) and held["embeddings"].shape == (150, 120)
        assert (
            held["timestamps"].shape == (150,) and json.loads(str(held["config"]))["precision"] == "float32"
        )
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["embedded"] == 6 and summary["errors"] == []
    assert embed(folder, tmp_path / "out") == 0
    assert "6 of them in earlier runs" in capsys.readouterr().out


def test_a_line_break_in_a_name_breaks_no_line_of_the_errors(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a\nb\u2028c.wav").write_bytes(b"")
    assert embed(tmp_path / "in", tmp_path / "out") == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_unreadable_files_are_told_and_the_others_done(folder, tmp_path, capsys):
    (folder / "broken.wav").write_bytes(b"")
    assert embed(folder, tmp_path / "out") == 1
    shown = capsys.readouterr()
    assert "broken.wav: the file is empty (0 bytes)" in shown.err and "1 failed" in shown.out
    assert len(list((tmp_path / "out").glob("*.npz"))) == 6
    assert embed(folder, tmp_path / "out2", "--skip-errors") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shard", "4/4"], "expected I/N with 0 ≤ I < N"),
        (["--threads", "0"], "--threads 0: expected 1 to 1024"),
        (["--threads", "9999"], "--threads 9999: expected 1 to 1024"),
        (["--option", "depth"], "expected KEY=VALUE"),
        (["--option", "dept=1"], "did you mean 'depth'"),
        (["--model", "ssam_tini"], "did you mean"),
        (["--segments", "0"], "segment_seconds: 0"),
        (["--segments", "0.0001"], "segment_seconds: 0.0001, expected 0.05 to 300"),
        (["--segments", "1", "--timestamps"], "segments have scene embeddings only"),
        (["--window-seconds", "-1"], "window_seconds"),
    ],
)
def test_wrong_options_end_in_one_line(folder, tmp_path, capsys, words, message):
    assert embed(folder, tmp_path / "out", *words) == 1
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1 + shown.count("warning:")


def test_nothing_to_embed(tmp_path, capsys):
    (tmp_path / "none").mkdir()
    assert embed(tmp_path / "none", tmp_path / "out") == 1
    assert "no audio files in" in capsys.readouterr().err


def test_shards_segments_search_and_map(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert embed(folder, out, "--format", "parquet", "--segments", "0.5", "--dtype", "float16") == 0
    capsys.readouterr()
    query = str(folder / "music_koto.flac")
    assert main(["search", query, str(out), "--count", "2", "--json", "--device", "cpu"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 2 and lines[0]["score"] >= lines[1]["score"]
    assert main(["map", str(out), "--out", str(tmp_path / "map.png"), "--method", "none"]) == 0
    assert (tmp_path / "map.png").stat().st_size > 5000


def test_two_shares_on_the_command_line(folder, tmp_path, capsys):
    for index in range(2):
        assert embed(folder, tmp_path / "out", "--shard", f"{index}/2", "--shard-size", "1") == 0
    assert len(list((tmp_path / "out").glob("*.npz"))) == 6
    assert (tmp_path / "out" / "summary-1-of-2.json").exists()


N_FILES = 206  # 6 recordings and copies of one that has two windows


@pytest.fixture
def many(folder):
    for index in range(N_FILES - 6):
        shutil.copy(folder / "speech_english.wav", folder / f"copy{index}.wav")
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, *end_signals()])
def test_an_interrupt_leaves_every_finished_file(many, tmp_path, number, capsys):
    out = tmp_path / "out"
    shown = run_until(number, ".npz", 50, "embed", many, "--out", out, *SMALL)  # all files are in one unit
    said = re.search(rf"interrupted: (\d+) of {N_FILES} done; the same command continues", shown)
    assert said, shown
    # On disk at least: a file may have been put in its place just before it was counted.
    assert 50 <= int(said[1]) <= len(list(out.rglob("*.npz"))) < N_FILES
    for path in out.rglob("*.npz"):
        with np.load(path) as held:
            assert np.isfinite(held["scene"]).all()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")}
    assert embed(many, out) == 0
    kept = re.search(
        rf"{N_FILES} of {N_FILES} files .* (\d+) of them in earlier runs", capsys.readouterr().out
    )
    unchanged = sum(path.stat().st_mtime_ns == time for path, time in before.items())
    assert kept and 0 < int(kept[1]) <= unchanged
    # What is done again are the files of the batches that were open: four of 16 windows, a window each.
    assert int(said[1]) - int(kept[1]) <= 2 * 64
    assert len(list(out.rglob("*.npz"))) == N_FILES


@pytest.mark.parametrize("format", ["npy", "parquet"])
def test_interrupted_shards_go_on_where_they_were(many, tmp_path, format, capsys):
    out, whole = tmp_path / "out", tmp_path / "whole"
    words = ("--format", format, "--timestamps")
    shown = run_until(signal.SIGINT, "progress.json", 2, "embed", many, "--out", out, *words, *SMALL)
    assert "the same command continues" in shown
    assert not list(out.glob(f"*.{format}"))
    assert embed(many, out, *words) == 0
    kept = re.search(
        rf"{N_FILES} of {N_FILES} files .* (\d+) of them in earlier runs", capsys.readouterr().out
    )
    assert kept and 0 < int(kept[1]) < N_FILES
    assert embed(many, whole, *words) == 0
    for path in whole.glob(f"*.{format}"):
        assert (out / path.name).read_bytes() == path.read_bytes()


def test_timestamps_in_shards_keep_the_scenes_for_search_and_map(folder, tmp_path, capsys):
    for format in ("parquet", "npy"):
        out = tmp_path / format
        assert embed(folder, out, "--format", format, "--timestamps") == 0
        assert {path.name for path in out.glob(f"*.{format}")} == {
            f"scene-00000.{format}", f"timestamps-00000.{format}"
        }  # fmt: skip
        query = str(folder / "music_koto.flac")
        assert main(["search", query, str(out), "--json", "--device", "cpu"]) == 0
        assert main(["map", str(out), "--method", "none"]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert shown[0]["path"].endswith("music_koto.flac") and shown[0]["score"] > 0.999


def test_search_in_files_prints_json_and_no_nan(folder, tmp_path, capsys):
    assert embed(folder, tmp_path / "out") == 0
    capsys.readouterr()
    query = str(folder / "music_koto.flac")
    assert main(["search", query, str(tmp_path / "out"), "--json", "--device", "cpu"]) == 0
    for line in capsys.readouterr().out.splitlines():
        hit = json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
        assert hit["start"] == 0.0 and hit["duration"] > 0


def test_a_missing_library_is_found_before_the_work(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert embed(folder, tmp_path / "out", "--format", "parquet") == 1
    assert "pip install 'hear_audiomamba[parquet]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "-1"], "workers: -1, expected 0 to 1024"),
        (["--device", "cuda:77"], "device: 'cuda:77' does not exist on this machine; use one of 'cpu'"),
        (["--device", "cpu,gpu"], "device: 'gpu' is not the name of a device; did you mean 'cuda'?"),
        (["--device", "meta"], "device: 'meta' does not exist"),
        (["--device", "hpu"], "device: 'hpu' does not exist"),
        (["--device", "cpu,"], "device: '' is not the name of a device"),
    ],
)
def test_bad_wishes_leave_a_folder_that_takes_others(folder, tmp_path, capsys, words, message):
    assert main(["embed", str(folder), "--out", str(tmp_path / "out"), *SMALL[:4], "--quiet", *words]) == 1
    assert message in capsys.readouterr().err
    assert embed(folder, tmp_path / "out", "--dtype", "float16") == 0


def test_a_log_gets_a_line_now_and_then_and_no_bar(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("hear_audiomamba.cli.progress._SECONDS_A_LINE", 0.0)
    assert main(["embed", str(folder), "--out", str(tmp_path / "out"), *SMALL[:-1]]) == 0
    shown = capsys.readouterr().err
    assert "\r" not in shown and re.search(r"hear-audiomamba: \d+/6 files, .* of audio", shown)


def test_names_that_begin_with_a_dash_stand_behind_two(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("-dash.wav", "--out.wav"):
        soundfile.write(name, np.zeros(16_000), 16_000)
    assert main(["embed", "--out", "out", *SMALL, "--", "-dash.wav", "--out.wav"]) == 0
    assert {file.name for file in Path("out").glob("*.npz")} == {"-dash.wav.npz", "--out.wav.npz"}


@pytest.mark.parametrize(
    "words",
    [
        ["--out", ""],
        ["--out="],
        ["--out", "made", "--model", ""],
        ["--out", "made", "--device", ""],
        ["--out", "made", ""],
    ],
)
def test_an_empty_word_is_an_unset_variable(folder, tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["embed", str(folder), *words]) == 2
    assert "an empty value after" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
