"""The verbs embed, search and map as a user runs them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hear_audiomamba.cli import main

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
        (["--threads", "0"], "--threads 0: expected at least 1"),
        (["--option", "depth"], "expected KEY=VALUE"),
        (["--option", "dept=1"], "did you mean 'depth'"),
        (["--model", "ssam_tini"], "did you mean"),
        (["--segments", "0"], "segment_seconds: 0"),
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


def test_an_interrupt_leaves_a_folder_to_go_on_with(folder, tmp_path):
    for index in range(400):
        shutil.copy(folder / "speech_english.wav", folder / f"copy{index}.wav")
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "hear_audiomamba",
        "embed",
        folder,
        "--out",
        out,
        "--shard-size",
        "8",
        *SMALL[:-1],
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    shown = ""
    while not re.search(r"\b[5-9]\d/406", shown):
        piece = process.stderr.read(1)
        assert piece, shown
        shown += piece
    process.send_signal(2)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in rest
    n_done = len(list(out.rglob("*.npz")))
    assert 8 <= n_done < 406
    assert embed(folder, out, "--shard-size", "8") == 0
    assert len(list(out.rglob("*.npz"))) == 406
