"""`fit` and `predict`, ended by Ctrl-C or a batch system, and given again."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from hear_audiomamba.cli import main
from tests.interrupted import run_until

from .conftest import SOUNDS, TINY_WORDS

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@SIGNALS
def test_a_fit_that_was_ended_goes_on(class_folders, tmp_path, number):
    labels = class_folders(6)
    for name in ("whole", "ended"):
        (tmp_path / name).mkdir()
    out, whole = (tmp_path / name / "model.safetensors" for name in ("ended", "whole"))
    told = run_until(number, "scene-00000.npy", 1, "fit", labels, "--out", out, *TINY_WORDS)
    assert "of 18 done; the same command continues" in told and not out.exists()
    for file in (out, whole):
        assert main(["fit", str(labels), "--out", str(file), *TINY_WORDS]) == 0
    for ending in (".safetensors", ".html", ".json", ".embeddings/scene-00000.npy"):
        first, second = (Path(f"{file.with_suffix('')}{ending}") for file in (out, whole))
        assert first.read_bytes() == second.read_bytes()


@SIGNALS
def test_a_search_that_was_ended_goes_on(class_folders, recording, tmp_path, number):
    classifier = tmp_path / "model.safetensors"
    assert main(["fit", str(class_folders(4)), "--out", str(classifier), *TINY_WORDS]) == 0
    for index in range(40):  # three units
        recording(f"field/{index}.wav", *((kind, 1.0) for kind in SOUNDS), seed=index)
    words = ["predict", str(tmp_path / "field"), "--model", str(classifier), "--workers", "0", "--quiet"]
    tables = [tmp_path / name for name in ("ended.csv", "whole.csv")]
    told = run_until(number, "units/00001.json", 1, *words, "--out", tables[0])
    assert "of 40 done; the same command continues" in told and not tables[0].exists()
    (first,) = (tmp_path / "ended.csv.scores").glob("scores-00000.bin")
    before = first.stat().st_mtime_ns
    for table in tables:
        more = ["--probabilities", str(table.with_suffix(".parquet"))]
        assert main([*words, "--out", str(table), *more]) == 0
    assert first.stat().st_mtime_ns == before  # nothing that was done was done again
    for ending in (".csv", ".parquet"):
        assert len({table.with_suffix(ending).read_bytes() for table in tables}) == 1
