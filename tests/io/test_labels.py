"""Labels are read from every format alike, and all that is wrong with them is listed at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_audiomamba.errors import ConfigError, DataError
from hear_audiomamba.io.labels import Columns, LabelError, read_labels

RATE = 8000


@pytest.fixture
def clip(tmp_path) -> Callable[..., Path]:
    """Return a function that writes an audio file of some seconds: `clip("a.wav", 2.0)`."""

    def write(name: str, seconds: float = 2.0) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(round(seconds * RATE), np.float32), RATE)
        return path

    return write


@pytest.fixture
def table(tmp_path, clip) -> Callable[..., Path]:
    """Return a function that writes a CSV beside clips a.wav to f.wav of 2 s."""
    for letter in "abcdef":
        clip(f"{letter}.wav")

    def write(text: str, name: str = "labels.csv") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def facts(labels) -> list[tuple]:
    return [(Path(row.path).name, row.labels, row.start, row.end) for row in labels.rows]


def test_a_folder_a_class(tmp_path, clip):
    for name in ("cat/1.wav", "cat/2.wav", "dog/north/1.wav", "dog/2.flac", ".cache/x.wav"):
        clip(f"set/{name}")
    labels = read_labels(tmp_path / "set")
    assert labels.classes == ("cat", "dog") and labels.kind == "single" and labels.format == "folders"
    assert [row.labels[0] for row in labels.rows] == ["cat", "cat", "dog", "dog"]


def test_folders_below_the_class_are_groups(tmp_path, clip):
    for name in ("cat/r1/1.wav", "cat/r2/1.wav", "dog/r1/1.wav", "dog/r2/1.wav"):
        clip(f"set/{name}")
    labels = read_labels(tmp_path / "set", columns=Columns(group="folder"))
    assert [row.group for row in labels.rows] == ["r1", "r2", "r1", "r2"]
    clip("set/dog/3.wav")
    with pytest.raises(LabelError, match=r"dog/3\.wav: cannot be grouped by folder: no folder below"):
        read_labels(tmp_path / "set", columns=Columns(group="folder"))


def test_a_table_of_clips(table):
    labels = read_labels(table("path,label\na.wav,x\nb.wav,y\nc.wav,x\nd.wav,y\ne.wav,\n"))
    assert labels.kind == "single" and labels.classes == ("x", "y") and labels.unlabelled == 1
    assert [Path(path).name for path in labels.paths] == ["a.wav", "b.wav", "c.wav", "d.wav"]


def test_several_labels_and_none(table):
    labels = read_labels(table("path,label\na.wav,x;y\nb.wav,x\nc.wav,;\nd.wav,y; z\ne.wav,z\n"))
    assert labels.kind == "multi" and labels.classes == ("x", "y", "z")
    assert [row.labels for row in labels.rows] == [("x", "y"), ("x",), (), ("y", "z"), ("z",)]


def test_events_splits_and_groups(table):
    text = "path,label,start,end,split,site\n"
    text += "a.wav,x,0.5,1,train,n\na.wav,y,0.7,2.02,train,n\nb.wav,x,0,1,validation,s\nb.wav,y,1,2,val,s\n"
    text += "c.wav,;,,,train,n\n"
    labels = read_labels(table(text), columns=Columns(group="site"))
    assert labels.kind == "events" and labels.splits == ("train", "valid")
    assert facts(labels)[:2] == [("a.wav", ("x",), 0.5, 1.0), ("a.wav", ("y",), 0.7, 2.0)]  # cut at the end
    assert facts(labels)[-1] == ("c.wav", (), None, None)
    assert {row.group for row in labels.rows} == {"n", "s"}


def test_other_names_of_columns(table):
    text = "filename,fold,target,category\na.wav,1,0,x\nb.wav,2,0,x\nc.wav,1,1,y\nd.wav,2,1,y\n"
    labels = read_labels(table(text), columns=Columns("filename", "category", "fold"))
    assert labels.splits == ("1", "2") and labels.classes == ("x", "y")
    with pytest.raises(DataError, match="no column 'label'; known: .*category"):
        read_labels(table(text))
    with pytest.raises(DataError, match="no column 'path'; known: .*sound"):
        read_labels(table(text.replace("filename", "sound")))


def test_parquet_is_read_as_csv_is(table, tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {
        "path": ["a.wav", "b.wav", "c.wav"],
        "label": [["x", "y"], ["x"], ["y"]],
        "start": [0.5, None, None],
    }
    columns["end"] = [1.0, None, None]
    parquet.write_table(arrow.table(columns), tmp_path / "labels.parquet")
    labels = read_labels(tmp_path / "labels.parquet", kind="multi")
    assert facts(labels)[0] == ("a.wav", ("x", "y"), 0.5, 1.0)


RAVEN = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies\n"
    "1\tWaveform 1\t1\t0.25\t0.75\t0\t4000\twren\n"
    "1\tSpectrogram 1\t1\t0.25\t0.75\t0\t4000\twren\n"
    "2\tSpectrogram 1\t1\t1\t1.5\t0\t4000\trobin\n"
    "3\tSpectrogram 1\t1\t1\t1.25\t0\t4000\twren\n"
    "4\tSpectrogram 1\t1\t1.6\t2\t0\t4000\trobin\n"
)


def test_raven_selections(clip, tmp_path):
    clip("night.wav")
    file = tmp_path / "night.Table.1.selections.txt"
    file.write_text(RAVEN)
    labels = read_labels(file)
    assert labels.format == "raven" and labels.kind == "events" and labels.classes == ("robin", "wren")
    assert facts(labels)[0] == ("night.wav", ("wren",), 0.25, 0.75) and len(labels.rows) == 4
    with pytest.raises(DataError, match=r"no column 'Kind' .*--label-column"):
        read_labels(file, columns=Columns(label="Kind"))


def test_raven_over_several_files_counts_from_each_file(clip, tmp_path):
    clip("one.wav"), clip("two.wav")
    names = (
        "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tBegin File\tFile Offset (s)\tAnnotation\n"
    )
    file = tmp_path / "all.txt"
    file.write_text(
        names
        + "1\tSpectrogram 1\t1\t0.5\t1\tone.wav\t0.5\tx\n2\tSpectrogram 1\t1\t2.5\t3.25\ttwo.wav\t0.5\tx\n"
    )
    assert facts(read_labels(file)) == [("one.wav", ("x",), 0.5, 1.0), ("two.wav", ("x",), 0.5, 1.25)]


def test_audacity_labels(clip, tmp_path):
    clip("night.wav"), clip("day.wav")
    (tmp_path / "night.txt").write_text(
        "0.250000\t0.750000\twren\n\\\t100.0\t4000.0\n1.000000\t1.500000\twren\n"
    )
    (tmp_path / "day.txt").write_text("")
    labels = read_labels(tmp_path)
    assert labels.format == "audacity"
    assert facts(labels) == [
        ("day.wav", (), None, None), ("night.wav", ("wren",), 0.25, 0.75), ("night.wav", ("wren",), 1.0, 1.5),
    ]  # fmt: skip


def test_hear_tasks(clip, tmp_path):
    metadata = {"embedding_type": "scene", "prediction_type": "multiclass", "splits": ["train", "test"]}
    for split in metadata["splits"]:
        clip(f"16000/{split}/a{split}.wav"), clip(f"16000/{split}/b{split}.wav")
        (tmp_path / f"{split}.json").write_text(json.dumps({f"a{split}.wav": ["x"], f"b{split}.wav": ["y"]}))
    (tmp_path / "task_metadata.json").write_text(json.dumps(metadata))
    labels = read_labels(tmp_path)
    assert labels.format == "hear" and labels.splits == ("test", "train") and labels.classes == ("x", "y")
    (tmp_path / "task_metadata.json").write_text(json.dumps({**metadata, "embedding_type": "event"}))
    event = {"label": "x", "start": 250.0, "end": 750.0}
    for split in metadata["splits"]:
        (tmp_path / f"{split}.json").write_text(json.dumps({f"a{split}.wav": [event], f"b{split}.wav": []}))
    assert facts(read_labels(tmp_path))[:2] == [
        ("atrain.wav", ("x",), 0.25, 0.75), ("btrain.wav", (), None, None),
    ]  # fmt: skip


def test_everything_wrong_is_listed_at_once_with_its_line(table):
    text = "path,label,start,end,split\n"
    text += "a.wav,x,0,1,train\n"  # 2
    text += "gone.wav,x,0,1,train\n"  # 3
    text += "a.wav,x,0.5,1.5,train\n"  # 4: overlaps line 2
    text += "b.wav,y,1,9,train\n"  # 5: beyond the file
    text += "b.wav,y,1,0.5,train\n"  # 6: backwards
    text += "c.wav,y,0,1,trian\n"  # 7: unknown split
    text += "d.wav,rare,0,1,train\n"  # 8: once
    text += "e.wav,y,soon,1,train\n"  # 9
    text += "f.wav,y,1,,train\n"  # 10
    text += "a.wav,y,1.5,1.75,test\n"  # 11: in two splits
    with pytest.raises(LabelError) as caught:
        read_labels(table(text))
    expected = {
        3: "no such file",
        4: "overlaps line 2, both x",
        5: "beyond the file's end, 2 s",
        6: "end 0.5 s is not after start 1 s",
        7: "unknown split 'trian'; did you mean 'train'",
        8: "'rare' occurs once",
        9: "start is 'soon'",
        10: "start and end belong together",
        11: "in split test, but line 2 has the file in train",
    }
    problems = caught.value.problems
    assert len(problems) == len(expected), problems
    for line, words in expected.items():
        (found,) = [problem for problem in problems if f", line {line}: " in problem]
        assert words in found and found in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("single", "a.wav,x;y\nb.wav,x\nc.wav,y\n", "line 2: x, y: a single-label task has one label a clip"),
        (
            None,
            "a.wav,x\na.wav,y\nb.wav,x\nb.wav,y\n",
            "line 3: two labels for one clip, x in line 2 and y here",
        ),
        (None, "a.wav,x\nb.wav,y\na.wav,x\nc.wav,y\n", "line 4: the same clip and label as line 2"),
        (None, "a.wav,x\nb.wav,y,oops\nc.wav,y\nd.wav,x\n", "line 3: more cells than columns"),
        (None, "a.wav,x\nb.wav,x\n", "1 class with labels"),
        (None, ",x\nb.wav,x\n", "line 2: no path"),
    ],
)
def test_clips_with_the_wrong_number_of_labels(table, kind, text, words):
    with pytest.raises(LabelError) as caught:
        read_labels(table("path,label\n" + text), kind=kind)
    assert any(words in problem for problem in caught.value.problems), caught.value.problems


def test_stretches_of_one_label_must_not_cross(table):
    text = "path,label,start,end\na.wav,x,0,1\na.wav,y,0.5,1.5\nb.wav,x,0,1\nb.wav,y,1,2\n"
    with pytest.raises(LabelError, match="line 3: overlaps line 2; a single-label task has one label"):
        read_labels(table(text), kind="single")
    assert len(read_labels(table(text), kind="events").rows) == 4


def test_rare_classes_are_dropped_and_overlaps_merged_on_request(table):
    text = "path,label,start,end\na.wav,x,0,1\na.wav,x,0.5,1.5\nb.wav,x,0,1\nc.wav,rare,0,1\n"
    labels = read_labels(table(text), rare="drop", overlaps="merge")
    assert facts(labels) == [("a.wav", ("x",), 0.0, 1.5), ("b.wav", ("x",), 0.0, 1.0)]
    assert labels.dropped == ("rare",)


def test_a_class_must_be_in_the_training_split(table):
    text = "path,label,split\na.wav,x,train\nb.wav,y,train\nc.wav,z,test\nd.wav,z,test\n"
    with pytest.raises(LabelError, match="line 4: class 'z' does not occur in split train"):
        read_labels(table(text))


def test_what_is_no_label_file(tmp_path, table):
    with pytest.raises(DataError, match="no such file or folder"):
        read_labels(tmp_path / "gone.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="a folder a class"):
        read_labels(tmp_path / "empty")
    with pytest.raises(DataError, match="line 1: neither a Raven selection table nor Audacity labels"):
        read_labels(table("some words\n", "note.txt"))
    with pytest.raises(DataError, match="holds no labels"):
        read_labels(table("path,label\na.wav,\n"))
    with pytest.raises(ConfigError, match="kind: 'scene' is not one of"):
        read_labels(table("path,label\na.wav,x\n"), kind="scene")  # type: ignore[arg-type]
    (tmp_path / "bad.csv").write_bytes(b"path,label\n\xff\xfe,x\n")
    with pytest.raises(DataError, match=r"bad\.csv: is not UTF-8 text; save it as UTF-8"):
        read_labels(tmp_path / "bad.csv")


ROWS = [("path", "label", "start", "end"), ("a.wav", "höher, kurz", "0,5", "1,25"), ("B.WAV", "🐦 a/b", "1", "2"),
        ("b.wav", "höher, kurz", "0", "0.5"), ("a.wav", "🐦 a/b", "1,5", "2")]  # fmt: skip


@pytest.mark.parametrize("name", ["labels.csv", "LABELS.CSV", "labels.tsv"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize(
    ("encoding", "end", "first"),
    [
        ("utf-8", "\n", ""),
        ("utf-8-sig", "\r\n", ""),
        ("utf-16", "\r\n", ""),  # with a byte order mark, as Excel's "Unicode text"
        ("utf-8-sig", "\r\n", "sep={separator}\r\n"),
        ("utf-8", "\r", ""),
    ],
)
def test_tables_as_spreadsheets_save_them(table, clip, tmp_path, name, separator, encoding, end, first):
    for letter in "ab":
        clip(f"{letter}.wav"), clip(f"{letter.upper()}.WAV")

    def cell(text: str) -> str:
        return f'"{text}"' if separator in text else text

    lines = [separator.join(map(cell, row)) for row in ROWS]
    file = tmp_path / name
    file.write_bytes((first.format(separator=separator) + end.join(lines) + end).encode(encoding))
    labels = read_labels(file)
    assert facts(labels) == [
        ("a.wav", ("höher, kurz",), 0.5, 1.25), ("a.wav", ("🐦 a/b",), 1.5, 2.0),
        ("B.WAV", ("🐦 a/b",), 1.0, 2.0), ("b.wav", ("höher, kurz",), 0.0, 0.5),
    ]  # fmt: skip


def test_columns_in_capitals_and_folders_by_backslash(table, clip, tmp_path):
    clip("north/1.wav"), clip("north/2.wav")
    text = f"Path, Label ,Split\nnorth\\1.wav,x,train\n{tmp_path}/a.wav,y,train\nnorth/2.wav,x,test\nb.wav,y,test\n"
    labels = read_labels(table(text))
    assert labels.classes == ("x", "y") and labels.splits == ("test", "train")
    assert [Path(path).relative_to(tmp_path).as_posix() for path in labels.paths] == [
        "north/1.wav", "a.wav", "north/2.wav", "b.wav",
    ]  # fmt: skip
    # A name that does hold a backslash stays what it is.
    clip("south\\1.wav")
    assert "south\\1.wav" in read_labels(table("path,label\nsouth\\1.wav,x\na.wav,y\n"), rare="keep").paths[0]


def test_lines_are_counted_as_an_editor_counts_them(table):
    text = 'sep=;\npath;label\na.wav;x\n"gone\n.wav";x\nlost.wav;y\nb.wav;y\nc.wav;"one;two\n'
    with pytest.raises(LabelError) as caught:
        read_labels(table(text, "x.csv"))
    assert any("x.csv, line 6: no such file" in problem for problem in caught.value.problems)


def test_json_lines_are_a_table_too(table):
    text = '{"path": "a.wav", "label": ["x", "y"]}\n{"path": "b.wav", "label": "x"}\n{"path": "c.wav", "label": "y"}\n'
    assert [row.labels for row in read_labels(table(text, "labels.jsonl")).rows] == [
        ("x", "y"),
        ("x",),
        ("y",),
    ]


def test_raven_selections_of_several_channels_views_and_files(clip, tmp_path):
    clip("one.wav"), clip("two.wav"), clip("sub/three.wav")
    names = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tBegin Path\tBegin File\tAnnotation\r\n"
    rows = [
        (1, "Waveform 1", 1, "0,5", "1,0", r"C:\rec\one.wav", "one.wav", "x"),
        (1, "Spectrogram 1", 1, "0,5", "1,0", r"C:\rec\one.wav", "one.wav", "x"),
        (1, "Waveform 1", 2, "0,5", "1,0", r"C:\rec\one.wav", "one.wav", "x"),
        (1, "Spectrogram 1", 1, 0.25, 0.75, r"C:\rec\two.wav", "two.wav", "x"),  # from a second table
        (2, "Spectrogram 1", 1, 1, 1.5, "", "sub\\three.wav", "x"),
        (3, "Spectrogram 1", 1, 1, 1.5, "", "two.wav", ""),  # not filled in
    ]
    file = tmp_path / "all.selections.txt"
    file.write_bytes((names + "".join("\t".join(map(str, row)) + "\r\n" for row in rows)).encode("utf-16"))
    labels = read_labels(file)
    assert facts(labels) == [
        ("one.wav", ("x",), 0.5, 1.0), ("two.wav", ("x",), 0.25, 0.75), ("three.wav", ("x",), 1.0, 1.5),
    ]  # fmt: skip
    assert labels.unlabelled == 1


def test_audacity_labels_beside_a_recorder_s_capitals(clip, tmp_path):
    clip("NIGHT_01.WAV")
    file = tmp_path / "night_01.txt"
    file.write_text(
        "0,25\t0,75\twren\n\\\t1000,5\t-1\n1\t1.5\twren\n1.75\t1.75\twren\n", encoding="utf-8-sig"
    )
    with pytest.raises(
        LabelError, match=r"line 4: end 1\.75 s is not after start 1\.75 s; a point has no length"
    ):
        read_labels(file)
    file.write_text(file.read_text(encoding="utf-8-sig").replace("1.75\twren", "2.0\twren"))
    assert facts(read_labels(file))[0] == ("NIGHT_01.WAV", ("wren",), 0.25, 0.75)


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (
            "Start (s),End (s),Scientific name,Common name,Confidence,File",
            "{start},{end},Turdus x,{label},0.9,{path}",
        ),
        ("file,start_time,end_time,annotation", "{path},{start},{end},{label}"),
        ("filename\tonset\toffset\tevent_label", "{path}\t{start}\t{end}\t{label}"),
        ("Path,Label,Start,End", "{path},{label},{start},{end}"),
    ],
    ids=["BirdNET", "OpenSoundscape", "sed_eval", "capitals"],
)
def test_tables_of_other_programs(clip, tmp_path, header, row):
    """Times too: without them, each row would stand for the whole recording."""
    clip("long.wav", 5)
    rows = [row.format(path="long.wav", start=n, end=n + 0.5, label="ab"[n % 2]) for n in range(4)]
    (tmp_path / "t.csv").write_text("\n".join([header, *rows]) + "\n")
    labels = read_labels(tmp_path / "t.csv")
    assert labels.kind == "events" and labels.classes == ("a", "b")
    assert [(r.start, r.end) for r in labels.rows] == [(n, n + 0.5) for n in range(4)]


@pytest.mark.parametrize("at", [1, 3])
def test_a_quotation_mark_that_is_not_closed_loses_no_rows(tmp_path, at):
    lines = ["path,label", "a.wav,x", "b.wav,x", "c.wav,y", "d.wav,y", ""]
    lines[at] = '"' + lines[at]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=f"t.csv, line {at + 1}: a quotation mark is not closed"):
        read_labels(tmp_path / "t.csv")


def test_a_cell_in_quotes_may_hold_lines(clip, tmp_path):
    for name in "abcd":
        clip(f"{name}.wav")
    text = "path,label,note\n" + "".join(
        f'{n}.wav,{label},"two\n""lines"""\n' for n, label in zip("abcd", "xxyy")
    )
    (tmp_path / "t.csv").write_text(text)
    assert len(read_labels(tmp_path / "t.csv").rows) == 4


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_table_with_another_ending_says_what_is_read(tmp_path, encoding):
    (tmp_path / "t.txt").write_text("path\tlabel\na.wav\tx\n", encoding=encoding)
    with pytest.raises(DataError, match=r"line 1: neither a Raven.*need the ending \.csv or \.tsv"):
        read_labels(tmp_path / "t.txt")
