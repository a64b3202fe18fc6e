"""A scene task's clips in sequences make an event task that is whole and tells the truth."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_audiomamba.evaluate.tasks.check import check_task

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def scene_task(tmp_path):
    """Five folds of clips, the pitch of a class its own, with silence before the onset."""
    folder = tmp_path / "tones-v1.0.0"
    time = np.arange(6400) / 16000
    for fold in range(5):
        listing = {}
        for number in range(10):
            clip = 0.2 * np.sin(2 * np.pi * 300 * (number + 1) * time) * (time > 0.05)
            path = folder / f"16000/fold{fold:02d}/{fold}_{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, clip, 16000)
            if number < 8 or fold:  # two classes have fewer clips
                listing[path.name] = [f"tone{number}"]
        (folder / f"fold{fold:02d}.json").write_text(json.dumps(listing))
    return folder


def test_events_are_where_and_what_they_are_said_to_be(scene_task, tmp_path):
    out = tmp_path / "melodies-v1.0.0"
    script = ROOT / "benchmarks/sequence_task.py"
    subprocess.run([sys.executable, script, scene_task, out], check=True)
    check = check_task(out, 16000)
    assert not check.problems, check.problems
    events = json.loads((out / "test.json").read_text())
    assert len(events) == 30
    heard_alone = 0
    for name, rows in events.items():
        samples, rate = soundfile.read(out / "16000/test" / name)
        assert (len(samples), rate) == (160_000, 16_000)
        gaps = np.diff([row["start"] for row in rows])
        assert (gaps > 199).all() and (gaps < 801).all()
        for before, row, after in zip(rows, rows[1:], rows[2:]):
            if before["end"] + 30 > row["start"] or after["start"] < row["end"]:
                continue
            heard_alone += 1
            start, end = round(16 * row["start"]), round(16 * row["end"])
            assert np.abs(samples[start - 320 : start - 1]).max() < 0.01
            spectrum = np.abs(np.fft.rfft(samples[start:end]))
            pitch = 300 * (int(row["label"].removeprefix("tone")) + 1)
            assert abs(spectrum.argmax() * rate / (end - start) - pitch) < 5 and pitch <= 2400
    assert heard_alone > 100


@pytest.fixture
def sequence_task(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("sequence_task")


def test_a_clip_is_taken_from_its_onset(sequence_task):
    samples = np.zeros(16_000, np.float32)
    samples[4000:] = 0.5
    clip = sequence_task.from_onset(samples)
    assert len(clip) == 8000 and clip[0] == 0.5 and clip[-1] == 0.0
