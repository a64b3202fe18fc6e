"""One reader for tables of every kind: the same rows, or the line that makes no sense."""

from __future__ import annotations

import json

import pytest

from hear_audiomamba.errors import DataError
from hear_audiomamba.io.manifest import read_manifest, read_rows

ROWS = [{"path": "ä.wav", "label": "a;b"}, {"path": "b, c.wav", "label": ""}]


def write(path, kind):
    if kind in ("csv", "semicolons", "tsv"):
        mark = {"csv": ",", "semicolons": ";", "tsv": "\t"}[kind]
        lines = [["path", "label"], *([row["path"], row["label"]] for row in ROWS)]
        text = "".join(mark.join(f'"{cell}"' for cell in line) + "\r\n" for line in lines)
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())  # as Excel writes it
    elif kind == "jsonl":
        path.write_text("\n\n".join(json.dumps(row) for row in ROWS))
    elif kind == "json":
        path.write_text(json.dumps({"about": "x", "data": ROWS}))
    else:
        import pandas

        pandas.DataFrame(ROWS).to_parquet(path)
    return path


@pytest.mark.parametrize("kind", ["csv", "semicolons", "tsv", "jsonl", "json", "parquet"])
def test_every_kind_of_table_gives_the_same_rows(tmp_path, kind):
    path = write(tmp_path / f"a.{'csv' if kind == 'semicolons' else kind}", kind)
    assert [row.values for row in read_rows(path, ("path",))] == ROWS
    assert all(str(path) in row.where for row in read_rows(path))
    with pytest.raises(DataError, match="no column 'start'"):
        list(read_rows(path, ("start",)))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b"path,label\na.wav,x,y\n", "line 2: more cells than columns"),
        ("a.csv", "path\nä.wav\n".encode("latin-1"), "is not UTF-8 text"),
        ("a.csv", "path\na.wav\n".encode("utf-16-le"), "no column .path.|is not UTF-8 text"),
        ("a.csv", b'path\n"' + b"x" * 200_000, "field larger than field limit"),
        ("a.csv", b"", "no column 'path'; it has none"),
        ("a.csv", b"path,path\na.wav,b.wav\n", "column 'path' is there 2 times"),
        ("a.json", b"[" * 100_000, "cannot be read|not JSON"),
        ("a.json", b"3", "expected a list of objects"),
        ("a.json", b"[[]]", "row 1: expected an object, got list"),
        ("a.jsonl", b'{"path": 1}\n{"path"', "line 2: not JSON"),
        ("a.parquet", b"PAR1garbagePAR1", "cannot be read"),
        ("a.txt", b"path\n", "not a table that can be read"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        list(read_rows(tmp_path / name, ("path",)))
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_numbers_with_underscores_are_no_seconds(tmp_path):
    (tmp_path / "m.csv").write_text("path,start\na.wav,1_0\n", encoding="utf-8")
    with pytest.raises(DataError, match="start is '1_0', expected seconds"):
        read_manifest(tmp_path / "m.csv")


def test_an_endless_line_is_not_read_whole(tmp_path):
    path = tmp_path / "a.jsonl"
    with open(path, "wb") as file:
        file.truncate(1 << 28)
    with pytest.raises(DataError, match="line 1: longer than 16 MiB"):
        list(read_rows(path))
