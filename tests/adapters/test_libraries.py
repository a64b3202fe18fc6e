"""Each adapter, driven by its library's own entry points. `pip install -e '.[adapters]'` has the libraries."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hear_audiomamba import load_model

NAME = "ssam_tiny"
SMALL = {"depth": 2, "device": "cpu"}

pytestmark = pytest.mark.slow


def library(name):
    return pytest.importorskip(name, reason=f"{name} is not installed: it is in the extra adapters")


@pytest.fixture(scope="module")
def model():
    return load_model(device="cpu")


@pytest.fixture
def clips():
    generator = np.random.default_rng(0)
    return [generator.uniform(-0.5, 0.5, size).astype(np.float32) for size in (16000, 40000, 16000)]


@pytest.fixture
def expected(model, clips):
    return np.concatenate([model.scene(torch.as_tensor(clip)[None]).numpy() for clip in clips])


def close(found, expected):
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-4, atol=1e-4)


def test_sentence_transformers(model, clips, expected, tmp_path):
    library("sentence_transformers")
    from hear_audiomamba.adapters.sentence_transformers import sentence_transformer

    path = tmp_path / "clip.wav"
    soundfile.write(path, clips[0], 16000, subtype="FLOAT")
    inputs = [str(path), {"array": clips[1], "sampling_rate": 16000}, clips[2]]
    st = sentence_transformer(model)
    close(st.encode(inputs), expected)
    close(st.encode(inputs, batch_size=1), expected)
    assert st.get_embedding_dimension() == model.scene_embedding_size
    assert st.similarity(expected, expected).diagonal() == pytest.approx(np.ones(3), abs=1e-5)
    st.save_pretrained(str(tmp_path / "saved"))
    from sentence_transformers import SentenceTransformer

    loaded = SentenceTransformer(str(tmp_path / "saved"), device="cpu", trust_remote_code=True)
    close(loaded.encode(inputs), expected)


def test_sentence_transformers_take_several_rates(model, clips):
    library("sentence_transformers")
    import soxr

    from hear_audiomamba.adapters.sentence_transformers import sentence_transformer

    loud = {"array": soxr.resample(clips[1], 16000, 44100), "sampling_rate": 44100}
    found = sentence_transformer(model).encode([clips[0], loud])
    there_and_back = model.scene(soxr.resample(loud["array"], 44100, 16000)[None]).numpy()
    close(found[1], there_and_back[0])


def test_transformers(model, clips, expected, tmp_path):
    library("transformers")
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

    from hear_audiomamba.adapters.transformers import AudioMambaFeatureExtractor, AudioMambaModel

    AudioMambaModel.of(model).save_pretrained(tmp_path)
    AudioMambaFeatureExtractor(model.sample_rate).save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).model["variant"] == model.config.variant
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path)
    inputs = extractor(clips, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        found = loaded(**inputs)
    close(found.pooler_output, expected)
    rows, _ = model.timestamps(torch.as_tensor(clips[0])[None])
    close(found.last_hidden_state[0, : rows.shape[1]], rows[0])
    assert loaded.config.hidden_size == rows.shape[2]
    as_tuple = loaded(torch.as_tensor(clips[0])[None], return_dict=False)
    close(as_tuple[1].detach(), expected[:1])
    with pytest.raises(ValueError, match="44100"):
        extractor(clips[0], sampling_rate=44100)
    for given, told in (
        ([], "is empty"),
        ([clips[0], clips[0].astype(np.int16)], "a clip is int16"),
        ([np.stack(clips[::2])], "expected \\(n_samples,\\)"),
    ):
        with pytest.raises(ValueError, match=told):
            extractor(given, sampling_rate=16000)
    with pytest.raises(ValueError, match="embedder.hidden_states"):
        loaded(torch.as_tensor(clips[0])[None], output_hidden_states=True)


def test_transformers_pipeline(model, clips, expected, tmp_path):
    library("transformers")
    from transformers import pipeline

    from hear_audiomamba.adapters.transformers import (
        AudioFeatureExtractionPipeline,
        AudioMambaFeatureExtractor,
        AudioMambaModel,
    )

    AudioMambaModel.of(model).save_pretrained(tmp_path)
    AudioMambaFeatureExtractor(model.sample_rate).save_pretrained(tmp_path)
    soundfile.write(tmp_path / "clip.wav", clips[0], 16000, subtype="FLOAT")
    inputs = [str(tmp_path / "clip.wav"), {"array": clips[1], "sampling_rate": 16000}, clips[2]]
    by_name = pipeline("audio-feature-extraction", model=str(tmp_path), device="cpu")
    close(np.concatenate(by_name(inputs, pool=True)), expected)
    close(np.concatenate(by_name(inputs, pool=True, batch_size=2)), expected)
    rows, _ = model.timestamps(torch.as_tensor(clips[0])[None])
    close(by_name(inputs[0], return_tensors=True), rows)
    usual = pipeline(
        "feature-extraction", model=str(tmp_path), pipeline_class=AudioFeatureExtractionPipeline, device="cpu"
    )
    close(usual(clips[0], pool=True), expected[:1])
    by_name.save_pretrained(tmp_path / "saved")
    # What is asked for at the beginning holds for every call that does not say otherwise.
    again = pipeline("audio-feature-extraction", model=str(tmp_path / "saved"), device="cpu", pool=True)
    close(again(clips[0]), expected[:1])
    close(again(clips[0], pool=False, return_tensors=True), rows)
    with pytest.raises(ValueError, match="poool: not known; this pipeline takes pool, return_tensors"):
        again(clips[0], poool=True)


def test_datasets_columns(model, clips, expected, tmp_path):
    datasets = library("datasets")
    from hear_audiomamba.adapters.datasets import add_embeddings
    from hear_audiomamba.errors import InputError

    paths = [str(tmp_path / f"{index}.wav") for index in range(len(clips))]
    for path, clip in zip(paths, clips, strict=True):
        soundfile.write(path, clip, 16000, subtype="FLOAT")
    plain = datasets.Dataset.from_dict({"audio": paths, "label": [0, 1, 0]})
    of_audio = plain.cast_column("audio", datasets.Audio())
    stored = of_audio.cast_column("audio", datasets.Audio(decode=False)).map(
        lambda row: {"audio": {"bytes": Path(row["audio"]["path"]).read_bytes(), "path": None}}
    )
    for dataset in (plain, of_audio, stored):
        found = add_embeddings(dataset, model, batch_size=2)
        close(found["embedding"][:], expected)
        assert found.features["embedding"].length == model.scene_embedding_size
        assert found.features["audio"] == dataset.features["audio"] and found["label"][:] == [0, 1, 0]
    streamed = add_embeddings(of_audio.to_iterable_dataset(), model, name="scene")
    close([row["scene"] for row in streamed.cast_column("audio", datasets.Audio(decode=False))], expected)
    with pytest.raises(InputError, match="column 'sound' is not in the dataset; known: audio, label"):
        add_embeddings(plain, model, column="sound")
    with pytest.raises(InputError, match="row 1: audio: None is neither a path"):
        add_embeddings(datasets.Dataset.from_dict({"audio": [paths[0], None]}), model)


def test_datasets_read_our_parquet(model, clips, tmp_path):
    datasets = library("datasets")
    from hear_audiomamba.cli import main

    (tmp_path / "audio").mkdir()
    soundfile.write(tmp_path / "audio" / "a.wav", clips[1], 16000, subtype="FLOAT")
    out = tmp_path / "out"
    command = ["embed", str(tmp_path / "audio"), "--out", str(out), "--format", "parquet", "--quiet"]
    assert main([*command, "--workers", "0"]) == 0
    read = datasets.Dataset.from_parquet(str(out / "scene-*.parquet"), cache_dir=str(tmp_path / "cache"))
    close(read["embedding"][0], model.scene(torch.as_tensor(clips[1])[None])[0])
    assert read["end"][0] == 2.5


def test_bacpipe_embeds_a_folder(model, clips, tmp_path, monkeypatch):
    bacpipe = library("bacpipe")
    from hear_audiomamba.adapters.bacpipe import AudioMambaModel

    (tmp_path / "audio").mkdir()
    samples = np.tile(clips[1], 3)[:96000]
    soundfile.write(tmp_path / "audio" / "a.wav", samples, 16000, subtype="FLOAT")
    monkeypatch.chdir(tmp_path)
    loader = bacpipe.run_pipeline_for_single_model(
        "hear_audiomamba", str(tmp_path / "audio"), CustomModel=AudioMambaModel, device="cpu",
        main_results_dir=str(tmp_path / "results"),
    )  # fmt: skip
    found = loader.embeddings(return_type="array")
    expected = model.scene(torch.as_tensor(samples).reshape(3, 32000))
    close(found, expected)
    bacpipe.play(
        models=["hear_audiomamba"], CustomModels=[AudioMambaModel], audio_dir=str(tmp_path / "audio"), device="cpu",
        main_results_dir=str(tmp_path / "played"), dim_reduction_model="None", dashboard=False,
    )  # fmt: skip
    (file,) = (tmp_path / "played").rglob("a_hear_audiomamba.npy")
    close(np.load(file), expected)


def test_mteb_mock_run(model):
    library("mteb")
    library("torchcodec")  # mteb decodes its audio with it, and calls a task that lacks it an error
    from mteb.mocks.mock_run import mock_run
    from mteb.results.task_result import TaskResult

    from hear_audiomamba.adapters.mteb import AudioMambaEncoder

    encoder = AudioMambaEncoder(NAME, device="cpu")
    meta = encoder.mteb_model_meta
    assert meta.embed_dim == model.scene_embedding_size and meta.modalities == ["audio"]
    ran = {name: status for name, status in mock_run(encoder).items() if status is not None}
    assert len(ran) >= 7
    assert {name for name, status in ran.items() if not isinstance(status, TaskResult)} == set()


def test_xares_accepts_the_encoder(model, clips):
    library("xares")
    from xares.audio_encoder_checker import check_audio_encoder

    from hear_audiomamba.adapters.xares import AudioMambaEncoder

    encoder = AudioMambaEncoder(NAME, device="cpu")
    assert check_audio_encoder(encoder)
    assert encoder.hop_size_in_ms == pytest.approx(40.0)
    rows, _ = model.timestamps(torch.as_tensor(clips[0])[None])
    close(encoder(torch.as_tensor(clips[0])[None]).detach(), rows)


def test_hoplite_embeds_a_folder(model, clips, tmp_path):
    library("perch_hoplite")
    from ml_collections import config_dict
    from perch_hoplite.agile import embed, source_info
    from perch_hoplite.db import sqlite_usearch_impl

    from hear_audiomamba.adapters.hoplite import AudioMambaModel

    audio = tmp_path / "audio"
    audio.mkdir()
    soundfile.write(audio / "a.wav", np.tile(clips[1], 4)[:96000], 16000, subtype="FLOAT")
    adapter = AudioMambaModel.of(NAME, window_size_s=2.0, device="cpu")
    recording = np.tile(clips[1], 4)[:96000]
    recording.flags.writeable = False  # as an array over a file is
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outputs = adapter.embed(recording)
    assert outputs.embeddings.shape == (3, 1, model.scene_embedding_size)
    scene = model.scene(torch.as_tensor(clips[1][:32000])[None])[0]
    close(outputs.embeddings[0, 0], scene / scene.norm())
    db = sqlite_usearch_impl.SQLiteUSearchDB.create(
        db_path=str(tmp_path / "db"),
        usearch_cfg=sqlite_usearch_impl.get_default_usearch_config(model.scene_embedding_size),
    )
    glob = source_info.AudioSourceConfig("field", str(audio), "*.wav", 2.0, adapter.sample_rate)
    config = embed.ModelConfig("hear_audiomamba", model.scene_embedding_size, config_dict.ConfigDict())
    worker = embed.EmbedWorker(source_info.AudioSources((glob,)), config, db, embedding_model=adapter)
    worker.process_all()
    assert db.count_embeddings() == 3


def test_sklearn_pipeline(model, clips, expected):
    library("sklearn")
    from sklearn.base import clone
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from hear_audiomamba.adapters.sklearn import AudioMambaTransformer

    transformer = clone(AudioMambaTransformer(device="cpu"))
    close(transformer.transform(clips), expected)
    pipeline = make_pipeline(AudioMambaTransformer(device="cpu"), LogisticRegression())
    assert pipeline.fit(clips, [0, 1, 0]).predict(clips).tolist() == [0, 1, 0]
    again = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(again.predict_proba(clips), pipeline.predict_proba(clips))
    close(AudioMambaTransformer(model).transform(clips), expected)
    assert transformer.transform([]).shape == (0, expected.shape[1])


def test_sklearn_searches_over_models_and_names_columns(clips):
    library("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import Pipeline

    from hear_audiomamba.adapters.sklearn import AudioMambaTransformer

    steps = [("embed", AudioMambaTransformer(device="cpu")), ("fit", LogisticRegression())]
    sounds, labels = [*clips, *(clip / 100 for clip in clips)], [0, 0, 0, 1, 1, 1]
    models = ["ssam_tiny", "hiermamba_nano"]
    search = GridSearchCV(Pipeline(steps), {"embed__model": models}, cv=3).fit(sounds, labels)
    assert search.predict(sounds).tolist() == labels
    transformer = AudioMambaTransformer(device="cpu")
    widths = [transformer.set_params(model=name).transform(clips[:1]).shape[1] for name in models]
    assert widths == [load_model(variant=name, device="cpu").scene_embedding_size for name in models]
    frame = transformer.set_output(transform="pandas").transform(clips)
    assert list(frame.columns[:2]) == ["e0", "e1"] and len(frame) == len(clips)


@pytest.mark.parametrize(
    ("recordings", "told"),
    [
        ("clip.wav", "put it into a list"),
        ([None], "None is neither a path nor an open binary file"),
        ([np.zeros(16000, np.int16)], "int16 is not floating point; scale integer samples"),
        ([{"array": np.zeros(16000, np.float32)}], "give the sample rate of these samples"),
        ([{"samples": np.zeros(16000, np.float32)}], "expected the keys 'array' and 'sampling_rate'"),
        ([np.zeros(0, np.float32)], "is empty"),
    ],
)
def test_what_is_no_recording_is_refused_in_one_line(recordings, told):
    library("sklearn")
    from hear_audiomamba.adapters.sklearn import AudioMambaTransformer
    from hear_audiomamba.errors import InputError

    with pytest.raises(InputError, match=told) as caught:
        AudioMambaTransformer(device="cpu").transform(recordings)
    assert "\n" not in str(caught.value)


def test_a_clip_does_not_depend_on_its_neighbours(model, clips):
    from hear_audiomamba.adapters.clips import embed_clips

    with torch.no_grad():
        alone = torch.cat([embed_clips(model, [clip]) for clip in clips])
        together = embed_clips(model, clips, batch_size=2)
        assert embed_clips(model, []).shape == (0, model.scene_embedding_size)
    assert (alone - together).abs().max() < 1e-5
