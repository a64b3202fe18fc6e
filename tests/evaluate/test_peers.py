"""The peers of the bundled weights keep HEAR's contract, and the quick probe tells what can be told."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return {name: importlib.import_module(name) for name in ("peers", "logistic_probe")}


def test_log_mel_statistics_behind_the_hear_api(benchmarks):
    peers = benchmarks["peers"]
    model = peers.load_model(peer="logmel")
    audio = torch.randn(2, 24000) * 0.1
    scene = peers.get_scene_embeddings(audio, model)
    rows, times = peers.get_timestamp_embeddings(audio, model)
    assert scene.shape == (2, model.scene_embedding_size) and scene.dtype == torch.float32
    assert rows.shape == (2, 30, model.timestamp_embedding_size) and times.shape == (2, 30)
    assert times[0, 0] == 0 and times.max() < 1500 and torch.all(times.diff() == 50)


@pytest.mark.parametrize("several", [False, True])
def test_the_probe_separates_what_differs_and_not_what_does_not(benchmarks, tmp_path, several):
    rng = np.random.default_rng(0)
    folder = tmp_path / "pitch-v1"
    kind = "multilabel" if several else "multiclass"
    for fold in range(3):
        (folder / "16000" / f"fold{fold:02d}").mkdir(parents=True)
        listing = {}
        for index in range(20):
            name, high = f"{index}.wav", index % 2
            tone = np.sin(2 * np.pi * (300 + 1500 * high) * np.arange(8000) / 16000 + rng.uniform(0, 6))
            soundfile.write(folder / "16000" / f"fold{fold:02d}" / name, 0.3 * tone, 16000)
            listing[name] = ["high" if high else "low"]
        (folder / f"fold{fold:02d}.json").write_text(json.dumps(listing))
    (folder / "task_metadata.json").write_text(json.dumps({"prediction_type": kind}))
    probe = benchmarks["logistic_probe"]
    assert probe.score_task(folder, probe.scene_embedder("peers")) == pytest.approx(1.0)
    chance = probe.score_task(folder, lambda audio: torch.randn(len(audio), 4))
    assert 0.2 < chance < 0.8
