"""What a command line names becomes one list with names that never meet; manifests are read or refused."""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_audiomamba.archive.sources import Source, find_sources, unique_names
from hear_audiomamba.errors import DataError
from hear_audiomamba.io.manifest import read_manifest

from .conftest import write_noise


def names(sources):
    return [source.name for source in sources]


def test_folders_are_searched_and_keep_their_shape(make_archive):
    folder = make_archive(4, (0.05, 0.1))
    (folder / "notes.txt").write_text("not audio")
    (folder / ".hidden.wav").write_text("nor this")
    sources = find_sources([folder])
    expected = ["group0/clip0000.wav", "group0/clip0003.wav", "group1/clip0001.wav", "group2/clip0002.wav"]
    assert names(sources) == expected
    assert sources[0].size == os.path.getsize(sources[0].path)


def test_same_names_in_different_folders_never_meet(tmp_path):
    for place in ("a/x", "b/x"):
        (tmp_path / place).mkdir(parents=True)
        write_noise(tmp_path / place / "clip.wav", 0.01)
    two_folders = names(find_sources([tmp_path / "a", tmp_path / "b"]))
    assert two_folders == ["a/x/clip.wav", "b/x/clip.wav"]
    same_folder_names = find_sources([tmp_path / "a" / "x", tmp_path / "b" / "x"])
    files = find_sources([tmp_path / "a/x/clip.wav", tmp_path / "b/x/clip.wav"])
    for sources in (same_folder_names, files):
        assert len(set(names(sources))) == 2
    swapped = find_sources([tmp_path / "b/x/clip.wav", tmp_path / "a/x/clip.wav"])
    assert {s.path: s.name for s in files} == {s.path: s.name for s in swapped}, "names depend on the order"


def test_names_that_some_systems_take_for_one_get_two_outputs():
    twice = [("Case.wav", "case.wav"), ("caf\u00e9.wav", "cafe\u0301.wav"), ("\u00c9.wav", "e\u0301.wav")]
    for pair in twice:
        names = [source.name for source in unique_names([Source(f"in/{name}", name) for name in pair])]
        stems = [unicodedata.normalize("NFC", name.partition("~")[0]).casefold() for name in names]
        assert all("~" in name for name in names) and len(set(names)) == 2, "a Mac keeps only one of them"
        assert len(set(stems)) == 1
        first, second = (Source(f"in/{name}", name) for name in pair)
        assert "~" in unique_names([second], frozenset({first.name}))[0].name


def test_names_stay_inside_the_output_folder(tmp_path):
    (tmp_path / "m.jsonl").write_text(json.dumps({"path": "a.wav", "name": "../../etc/x"}) + "\n")
    assert names(find_sources([tmp_path / "m.jsonl"])) == ["etc/x"]


def test_globs_links_and_repeats(tmp_path, make_archive):
    folder = make_archive(3, (0.05, 0.1))
    (folder / "loop").symlink_to(folder)
    assert len(find_sources([folder])) == 3
    assert len(find_sources([str(folder / "group*" / "*.wav")])) == 3
    assert len(find_sources([folder / "group0/clip0000.wav"] * 2)) == 1
    with pytest.raises(DataError, match=r"\*\.mp3: no file matches"):
        find_sources([str(folder / "*.mp3")])
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="no audio files in"):
        find_sources([tmp_path / "nothing"])
    assert names(find_sources(["missing.wav"])) == ["missing.wav"], "reported when it is read"


def test_tar_archives_are_listed_without_being_unpacked(tmp_path):
    write_noise(tmp_path / "a.flac", 0.1)
    archive = tmp_path / "shard-000.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(tmp_path / "a.flac", "key1.flac")
        tar.addfile(tarfile.TarInfo("key1.json"), io.BytesIO())
    (source,) = find_sources([archive])
    assert (source.name, source.member) == ("shard-000.tar/key1.flac", "key1.flac")
    assert source.label == f"{archive}/key1.flac"
    data = archive.read_bytes()[source.offset : source.offset + source.size]
    assert data == (tmp_path / "a.flac").read_bytes()
    (tmp_path / "bad.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(DataError, match=r"bad\.tar: not a readable uncompressed tar"):
        find_sources([tmp_path / "bad.tar"])


ROWS = [
    {"path": "a.wav", "start": 1.5, "duration": 2.0},
    {"path": "sub/b.wav", "start": None, "duration": None},
    {"path": "a.wav", "start": 0.0, "end": 0.5},
]


@pytest.fixture(params=["csv", "jsonl", "parquet"])
def manifest(tmp_path, request):
    path = tmp_path / f"list.{request.param}"
    columns = ["path", "start", "duration", "end"]
    if request.param == "csv":
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(ROWS)
    elif request.param == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        import pandas

        pandas.DataFrame(ROWS, columns=columns).to_parquet(path)
    return path


def test_manifests_of_all_three_kinds_say_the_same(manifest):
    entries = read_manifest(manifest)
    folder = str(manifest.parent)
    assert [(e.path, e.start, e.duration) for e in entries] == [
        (f"{folder}/a.wav", 1.5, 2.0), (f"{folder}/sub/b.wav", 0.0, None), (f"{folder}/a.wav", 0.0, 0.5)
    ]  # fmt: skip
    assert [e.name for e in entries] == ["a@1.5+2.wav", "sub/b.wav", "a@0+0.5.wav"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file,start\na.wav,0\n", "no column 'path'"),
        ("path,start\na.wav,soon\n", r"line 2: start is 'soon', expected seconds"),
        ("path,start\na.wav,0\nb.wav,-1\n", r"line 3: start is -1 s"),
        ("path,start,end\na.wav,3,2\n", r"a stretch of -1 s"),
        ("path,duration,end\na.wav,3,2\n", "both duration and end"),
        ("path\n\n  \n", r"path is '  '"),
        ("path,start\na.wav,inf\n", "start is inf s"),
    ],
)
def test_manifests_that_make_no_sense(tmp_path, text, reason):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(DataError, match=reason):
        read_manifest(tmp_path / "list.csv")


VALUES = (
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8) | st.lists(st.integers())
)
COLUMNS = st.sampled_from(["path", "start", "duration", "end", "name", "x"])


@settings(max_examples=200)
@given(
    rows=st.lists(st.dictionaries(COLUMNS, VALUES), max_size=4),
    raw=st.binary(max_size=60),
    ending=st.sampled_from(["csv", "jsonl", "parquet"]),
    use_raw=st.booleans(),
)
def test_fuzzed_manifests_are_read_or_raise_our_error(tmp_path, rows, raw, ending, use_raw):
    path = tmp_path / f"fuzz.{ending}"
    if use_raw or ending == "parquet":
        path.write_bytes((b"PAR1" + raw + b"PAR1") if ending == "parquet" else raw)
    elif ending == "csv":
        lines = ["path,start,duration,end,name", *(",".join(str(v) for v in row.values()) for row in rows)]
        path.write_text("\n".join(lines), encoding="utf-8", errors="replace")
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    try:
        sources = find_sources([path])
    except DataError as error:
        assert "fuzz" in str(error)
    else:
        assert len(set(names(sources))) == len(sources)
        assert all(not Path(name).is_absolute() and ".." not in Path(name).parts for name in names(sources))
