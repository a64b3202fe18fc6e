"""Names of files in texts and the other way round, in locales that cannot decode them."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from hear_audiomamba.archive.sources import find_sources
from hear_audiomamba.errors import InputError
from hear_audiomamba.io.labels import read_labels
from hear_audiomamba.io.manifest import read_manifest
from hear_audiomamba.io.names import path_of, valid_text

NOT_UTF8 = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
# A name as the system lists it, through a text file, a table, and back to the file.
THERE_AND_BACK = """
import csv, os, sys
from pathlib import Path
from hear_audiomamba.classify.tables import write_csv
from hear_audiomamba.io.files import write_text
from hear_audiomamba.io.names import path_of
(name,) = [name for name in os.listdir() if name.startswith("nuit")]
write_text("text.txt", name)
write_csv(Path("table.csv"), [name], [[name]])
(cell,) = list(csv.reader(open("table.csv", encoding="utf-8")))[1]
assert os.path.isfile(path_of(cell))
write_text(cell + ".txt", "beside it")
"""


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("plain", "plain"),
        ("é", "é"),
        ("caf\udcc3\udca9", "café"),
        ("a\udce9b", "a\\xe9b"),
        ("\ud800 \udcc3\udca9", "\ufffd é"),
    ],
)
def test_texts_become_valid(text, valid):
    assert valid_text(text) == valid
    valid_text(text).encode("utf-8")


def test_a_path_that_the_locale_can_encode_stays():
    assert path_of("été.wav") == "été.wav" or os.fsencode(path_of("été.wav")) == "été.wav".encode()


def test_names_with_accents_are_the_same_utf8_in_a_locale_that_has_none(tmp_path):
    (tmp_path / "nuit d'été.wav").write_bytes(b"")
    done = subprocess.run(
        [sys.executable, "-c", THERE_AND_BACK],
        cwd=tmp_path,
        env={**os.environ, **NOT_UTF8},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "text.txt").read_bytes() == "nuit d'été.wav".encode()
    assert (tmp_path / "table.csv").read_bytes() == "nuit d'été.wav\nnuit d'été.wav\n".encode()
    assert (tmp_path / "nuit d'été.wav.txt").read_text(encoding="utf-8") == "beside it"


@pytest.mark.parametrize("read", [read_labels, find_sources])
@pytest.mark.parametrize(
    "given",
    [
        None,
        3,
        b"a.csv",
        [],
        ["a.csv", None],
        {"path": ["a.wav"]},
        np.zeros((2, 2)),
        [("a.wav", "x")],
        "a\0.csv",
    ],
)
def test_what_is_no_path_is_refused_with_its_kind(read, given):
    with pytest.raises(InputError, match="labels: |paths: "):
        read(given)


def test_tables_in_memory_are_no_paths(tmp_path):
    """Going through a data frame gives the names of its columns."""
    pandas, arrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"path": ["a.wav"], "label": ["x"]})
    for table in (frame, arrow.table({"path": ["a.wav"], "label": ["x"]})):
        for read in (read_labels, read_manifest, find_sources):
            with pytest.raises(InputError, match="expected a path, got (DataFrame|Table); write a table to"):
                read(table)
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 8000)
    paths = pandas.Series([str(tmp_path / "a.wav")])
    assert [s.name for s in find_sources(paths)] == [s.name for s in find_sources(tmp_path)] == ["a.wav"]
