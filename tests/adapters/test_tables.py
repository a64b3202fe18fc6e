"""Archives in the files and databases of other programs, read back by these programs."""

from __future__ import annotations

import csv
import sqlite3

import numpy as np
import pytest
import soundfile
import torch

from hear_audiomamba import load_model
from hear_audiomamba.archive.options import EmbedOptions
from hear_audiomamba.archive.read import read_all_scenes
from hear_audiomamba.archive.run import Resources, embed_sources
from hear_audiomamba.archive.sources import find_sources
from hear_audiomamba.cli import main
from hear_audiomamba.errors import ConfigError
from hear_audiomamba.io.audio import load_audio
from hear_audiomamba.io.labels import read_labels

TINY = {"variant": "ssam_tiny", "embed_dim": 16, "depth": 1, "d_state": 2, "expand": 1, "device": "cpu"}
LENGTHS = {"site1/a.wav": 3.3, "site1/b.wav": 1.0, "site2/a.wav": 5.0}
CLIPS = [("site1/a.wav", 0, 2), ("site1/a.wav", 2, 3.3), ("site1/b.wav", 0, 1), ("site2/a.wav", 0, 2),
         ("site2/a.wav", 2, 4), ("site2/a.wav", 4, 5)]  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return load_model(**TINY)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    for seed, (name, seconds) in enumerate(LENGTHS.items()):
        (folder / name).parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * 16000))
        soundfile.write(folder / name, noise.astype(np.float32), 16000, subtype="FLOAT")
    return folder


@pytest.fixture
def embedded(model, recordings, tmp_path):
    """Return a function that embeds the recordings in stretches of two seconds, with some options."""

    def embed(folder="out", **options):
        out = tmp_path / folder
        options = EmbedOptions(segment_seconds=2.0, **options)
        embed_sources(find_sources([recordings]), model, out, options, Resources(workers=0))
        return out

    return embed


@pytest.fixture(scope="module")
def expected(model, recordings):
    """The embeddings of `CLIPS`, one by one."""
    found = []
    for name, start, end in CLIPS:
        audio = load_audio(recordings / name, 16000, start=start, duration=end - start)
        found.append(model.scene(torch.as_tensor(audio)[None])[0].numpy())
    return np.stack(found)


def cells(file, separator=","):
    with open(file, encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text, delimiter=separator))


def check_places(rows, recordings, path, start, end):
    found = [(row[path], float(row[start]), float(row[end])) for row in rows]
    assert found == [(f"{recordings.as_posix()}/{name}", s, e) for name, s, e in CLIPS]


@pytest.mark.parametrize(
    ("columns", "names"),
    [("default", ("path", "start", "end")), ("opensoundscape", ("file", "start_time", "end_time"))],
)
def test_csv_with_a_column_for_each_number(embedded, expected, recordings, columns, names):
    rows = cells(embedded(format="csv", columns=columns) / "scene-00000.csv")
    check_places(rows, recordings, *names)
    numbers = [list(row.values())[3:] for row in rows]
    np.testing.assert_allclose(np.array(numbers, np.float32), expected, atol=1e-5)
    assert list(rows[0])[3:5] == (["e0", "e1"] if columns == "default" else ["0", "1"])


def test_opensoundscape_reads_the_table_as_its_own(embedded, expected, recordings):
    """`embed()` of OpenSoundscape returns a frame with this index, and numbers as columns."""
    pandas = pytest.importorskip("pandas", reason="pandas is in the extra test")
    file = embedded(format="csv", columns="opensoundscape") / "scene-00000.csv"
    frame = pandas.read_csv(file, index_col=["file", "start_time", "end_time"])
    assert frame.index.names == ["file", "start_time", "end_time"]
    one = frame.loc[(f"{recordings.as_posix()}/site2/a.wav", 2.0, 4.0)]
    np.testing.assert_allclose(one.to_numpy(), expected[4], atol=1e-5)


def test_csv_of_birdnet(embedded, expected, recordings):
    rows = cells(embedded(format="csv", columns="birdnet") / "scene-00000.csv")
    assert list(rows[0]) == ["file_path", "start", "end", "embedding"]
    check_places(rows, recordings, "file_path", "start", "end")
    numbers = [row["embedding"].split(",") for row in rows]
    np.testing.assert_allclose(np.array(numbers, np.float32), expected, atol=1e-5)


def test_selection_table_of_raven(embedded, expected, recordings, tmp_path):
    file = embedded(format="csv", columns="raven") / "scene-00000.selections.txt"
    rows = cells(file, "\t")
    assert [row["Selection"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    # Raven opens the recordings one after the other; the offset counts in each one's own time.
    assert [float(row["Begin Time (s)"]) for row in rows] == [0.0, 2.0, 3.3, 4.3, 6.3, 8.3]
    assert [float(row["End Time (s)"]) for row in rows] == [2.0, 3.3, 4.3, 6.3, 8.3, 9.3]
    assert {(row["Low Freq (Hz)"], row["High Freq (Hz)"]) for row in rows} == {("0.0", "8000.0")}
    numbers = [row["Embedding"].split(",") for row in rows]
    np.testing.assert_allclose(np.array(numbers, np.float32), expected, atol=1e-5)
    # Our own reader of Raven's tables finds the same stretches.
    lines = [line.rsplit("\t", 1)[0] for line in file.read_text().splitlines()]
    labelled = [f"{lines[0]}\tAnnotation", *(f"{line}\tcall" for line in lines[1:])]
    (tmp_path / "labels.selections.txt").write_text("\n".join(labelled) + "\n")
    read = read_labels(tmp_path / "labels.selections.txt", audio=recordings, rare="keep", overlaps="keep")
    found = sorted((row.path, row.start, row.end) for row in read.rows)
    assert found == [
        (f"{recordings.as_posix()}/{name}", s, pytest.approx(e, abs=1e-6)) for name, s, e in CLIPS
    ]


@pytest.mark.parametrize("format", ["csv", "parquet"])
@pytest.mark.parametrize("columns", ["default", "birdnet", "opensoundscape", "raven"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_table_is_read_back_to_the_bit(embedded, expected, recordings, format, columns, dtype):
    if (format, columns) == ("parquet", "raven"):
        with pytest.raises(ConfigError, match="Raven reads text only"):
            embedded(format=format, columns=columns)
        return
    table = read_all_scenes(embedded(format=format, columns=columns, dtype=dtype))
    assert table.paths == [f"{recordings.as_posix()}/{name}" for name, *_ in CLIPS]
    np.testing.assert_allclose(table.start, [start for _, start, _ in CLIPS])
    np.testing.assert_allclose(table.start + table.duration, [end for *_, end in CLIPS])
    rounding = 1e-5 if dtype == "float32" else 2**-10
    np.testing.assert_allclose(table.embeddings, expected, rtol=rounding, atol=1e-5)
    arrays = read_all_scenes(embedded("arrays", format="npy", dtype=dtype))
    np.testing.assert_array_equal(table.embeddings, arrays.embeddings)


def test_options_that_do_not_go_together():
    with pytest.raises(ConfigError, match="for the formats parquet and csv, not npz"):
        EmbedOptions(columns="birdnet")
    with pytest.raises(ConfigError, match="hold scene embeddings only"):
        EmbedOptions(format="csv", timestamps=True)


def test_archives_from_before_this_option_are_continued(embedded):
    record = embedded(format="parquet") / ".hear-audiomamba" / "run.json"
    assert "columns" not in record.read_text()


def test_search_in_a_folder_of_csv(recordings, tmp_path, capsys):
    out = tmp_path / "out"
    common = ["--workers", "0", "--quiet"]
    assert main(["embed", str(recordings), "--out", str(out), "--format", "csv", *common]) == 0
    assert main(["search", str(recordings / "site1/b.wav"), str(out)]) == 0
    assert "site1/b.wav" in capsys.readouterr().out.splitlines()[1]


@pytest.mark.slow
def test_duckdb_reads_our_parquet(embedded, expected, recordings):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed: it is in the extra adapters")
    files = embedded(format="parquet") / "scene-*.parquet"
    width = expected.shape[1]
    query = "[" + ",".join(map(str, expected[4].tolist())) + f"]::FLOAT[{width}]"
    found = duckdb.sql(
        f'SELECT path, start, "end", array_cosine_similarity(embedding::FLOAT[{width}], {query}) AS score '
        f"FROM '{files}' ORDER BY score DESC"
    ).fetchall()
    assert len(found) == len(CLIPS)
    assert found[0][:3] == (f"{recordings.as_posix()}/site2/a.wav", 2.0, 4.0)
    assert found[0][3] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.slow
def test_lancedb_reads_our_parquet(embedded, expected, recordings, tmp_path):
    lancedb = pytest.importorskip("lancedb", reason="lancedb is not installed: it is in the extra adapters")
    import pyarrow.dataset

    files = sorted(embedded(format="parquet").glob("scene-*.parquet"))
    data = pyarrow.dataset.dataset(files, format="parquet")
    table = lancedb.connect(tmp_path / "lance").create_table("clips", data.to_table())
    nearest = table.search(expected[1], vector_column_name="embedding").metric("cosine").limit(1).to_list()[0]
    assert (nearest["path"], nearest["start"]) == (f"{recordings.as_posix()}/site1/a.wav", 2.0)
    assert nearest["_distance"] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.slow
def test_hoplite_reads_the_database_of_the_command_line(model, expected, recordings, tmp_path):
    pytest.importorskip("perch_hoplite", reason="perch_hoplite is not installed: it is in the extra adapters")
    from perch_hoplite.agile.source_info import AudioSources
    from perch_hoplite.db import sqlite_usearch_impl

    from hear_audiomamba.adapters.hoplite import AudioMambaModel

    weights, out = tmp_path / "tiny.safetensors", tmp_path / "out"
    model.save(weights)
    command = ["embed", str(recordings), "--out", str(out), "--format", "hoplite", "--segments", "2",
               "--model", str(weights), "--workers", "0", "--quiet"]  # fmt: skip
    assert main(command) == main(command) == 0  # the second one makes the database again
    assert main([*command, "--shard", "0/2"]) == 1
    db = sqlite_usearch_impl.SQLiteUSearchDB.create(db_path=str(out))
    assert db.count_embeddings() == len(CLIPS)
    assert {d.name for d in db.get_all_deployments()} == {"site1", "site2"}
    files = {r.id: r.filename for r in db.get_all_recordings()}
    windows = [(files[w.recording_id], *w.offsets) for w in db.get_all_windows()]
    assert windows == [(name, start, pytest.approx(end)) for name, start, end in CLIPS]
    sources = AudioSources.from_config_dict(db.get_metadata("audio_sources"))
    assert all(
        (recordings / name).samefile(sources.audio_globs[0].base_path + "/" + name) for name in LENGTHS
    )
    # Its model, made from what the database says, finds a recording's own window first.
    again = AudioMambaModel.from_config(db.get_metadata("model_config").model_config)
    query = again.embed(load_audio(recordings / "site2/a.wav", 16000)).embeddings[1, 0]
    best = db.search(query, search_list_size=1).search_results[0]
    assert db.get_window(best.window_id).offsets == [2.0, 4.0]
    assert best.sort_score == pytest.approx(1.0, abs=2e-3)  # float16
    db.db.close()
    with sqlite3.connect(out / "hoplite.sqlite") as held:
        assert held.execute("PRAGMA integrity_check").fetchone() == ("ok",)
