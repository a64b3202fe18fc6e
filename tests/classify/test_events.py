"""Events in time: from labels with start and end to tables that Raven and Audacity open."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hear_audiomamba.classify.event_choice import LabelledRecording, choose_events, count_events
from hear_audiomamba.classify.events import EventSettings, find_events, frame_targets, match_onsets
from hear_audiomamba.classify.model_file import load_classifier
from hear_audiomamba.cli import main
from hear_audiomamba.errors import ConfigError
from hear_audiomamba.evaluate.predictions.events import Events, event_based_f_measure
from hear_audiomamba.io.labels import read_labels

from .conftest import TINY_WORDS

STEP = 0.04


def rows(values: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    starts = np.arange(len(values)) * STEP
    return np.array(values, np.float32), starts, starts + STEP


def test_hysteresis_gaps_and_lengths():
    values = [0.1, 0.5, 0.9, 0.5, 0.5, 0.1, 0.5, 0.5, 0.1, 0.9, 0.1]
    plain = EventSettings(smooth_seconds=0.0, keep_share=1.0)
    assert [(e.start, e.end) for e in find_events(*rows(values), 0.8, plain)] == [
        pytest.approx((0.08, 0.12)), pytest.approx((0.36, 0.40)),
    ]  # fmt: skip
    # 0.5 keeps an event going, and begins none.
    held = find_events(*rows(values), 0.8, plain.replace(keep_share=0.6))
    assert [(e.start, e.end) for e in held] == [pytest.approx((0.04, 0.20)), pytest.approx((0.36, 0.40))]
    assert len(find_events(*rows(values), 0.8, plain.replace(keep_share=0.6, min_length=0.1))) == 1
    (joined,) = find_events(*rows(values), 0.8, plain.replace(keep_share=0.6, merge_gap=0.2))
    assert (joined.start, joined.end) == pytest.approx((0.04, 0.40)) and joined.score == pytest.approx(0.9)


def test_a_median_filter_drops_what_is_alone():
    values = [0.0, 0.0, 0.9, 0.0, 0.0, 0.9, 0.9, 0.9, 0.0, 0.0]
    (event,) = find_events(*rows(values), 0.5, EventSettings(smooth_seconds=3 * STEP, keep_share=1.0))
    assert (event.start, event.end) == pytest.approx((0.2, 0.32))


@pytest.mark.parametrize("bad", [{"keep_share": 0.0}, {"min_length": -1.0}, {"smooth_seconds": float("nan")}])
def test_settings_that_make_no_sense(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        EventSettings(**bad)


# None are just 0.2 s apart, where rounding would decide.
times = st.lists(st.integers(0, 300).map(lambda n: n * 0.07), max_size=12).map(sorted)


@given(found=times, labelled=times)
def test_onsets_are_counted_as_sed_eval_counts_them(found, labelled):
    """The benchmark's score is held to sed_eval by tests of its own."""

    def events(onsets: list[float]) -> Events:
        onset = 1000 * np.array(onsets)
        return Events(np.zeros(len(onsets), np.int64), onset, onset + 100)

    ours = match_onsets(found, labelled, 0.2)
    theirs = event_based_f_measure({"a": events(found)}, {"a": events(labelled)}, 1, collar=0.2)
    if found and labelled:
        assert theirs["precision"] == pytest.approx(ours / len(found))
        assert theirs["recall"] == pytest.approx(ours / len(labelled))


def test_times_get_the_class_that_sounds_then():
    grid = np.arange(25) * STEP + STEP / 2
    targets = frame_targets([(0.2, 0.4, 0), (0.5, 0.501, 1)], grid, 2)
    assert np.flatnonzero(targets[:, 0]).tolist() == [5, 6, 7, 8, 9]
    assert targets[:, 1].sum() == 1  # an event between two times is heard at the nearest


def test_the_threshold_keeps_the_precision_asked_for():
    random = np.random.default_rng(0)
    recordings = []
    for _ in range(20):
        starts = np.arange(250) * STEP
        events = [(float(at), float(at) + 0.5, 0) for at in random.uniform(0, 9, 2)]
        centres = starts + STEP / 2
        chance = 0.5 * frame_targets(events, centres, 1) + random.uniform(0, 0.2, (250, 1))
        for at in random.integers(0, 230, 3):  # what sounds like it, and is not
            chance[at : at + 12] += random.uniform(0.1, 0.45)
        recordings.append(LabelledRecording(starts, starts + STEP, chance.astype(np.float32), tuple(events)))
    settings, thresholds = choose_events(recordings, 1, 0.9, 0.2)
    counts = count_events(recordings, thresholds, settings, 0.2)
    assert counts.right.sum() / counts.found.sum() >= 0.9 and counts.found.sum() > 5


@pytest.fixture
def night(recording, tmp_path) -> Path:
    """A folder of recordings with Audacity labels of the tones in them."""
    for number in range(4):
        parts = [("silence", 0.8), ("low", 1.0), ("silence", 0.8), ("high", 1.0), ("silence", 0.8)]
        if number % 2:
            parts.reverse()
        recording(f"night/r{number}.wav", *parts, seed=number + 1)
        text, at = "", 0.0
        for kind, seconds in parts:
            if kind != "silence":
                text += f"{at:.6f}\t{at + seconds:.6f}\t{kind}\n\\\t100.0\t3000.0\n"
            at += seconds
        (tmp_path / f"night/r{number}.txt").write_text(text)
    return tmp_path / "night"


def test_from_audacity_to_raven_and_back(night, tmp_path):
    model = tmp_path / "tones.safetensors"
    assert main(["fit", str(night), "--out", str(model), *TINY_WORDS]) == 0
    classifier = load_classifier(model)
    assert classifier.head.kind == "events" and classifier.clip_seconds is None
    numbers = json.loads(model.with_suffix(".json").read_text())
    assert numbers["summary"]["event_f1"] > 0.6
    words = ["predict", str(night), "--model", str(model), "--workers", "0", "--quiet"]

    assert main([*words, "--out", str(tmp_path / "raven"), "--format", "raven"]) == 0
    table = (tmp_path / "raven/r0.selections.txt").read_text()
    read = list(csv.DictReader(io.StringIO(table), delimiter="\t"))
    assert [row["Annotation"] for row in read] == ["low", "high"]
    assert [float(row["Begin Time (s)"]) for row in read] == pytest.approx([0.8, 2.6], abs=0.2)
    assert all(float(row["High Freq (Hz)"]) == 8000 and row["View"] == "Spectrogram 1" for row in read)
    back = read_labels(tmp_path / "raven")
    assert back.format == "raven" and len(back.rows) == 8 and set(back.paths) == set(read_labels(night).paths)

    assert main([*words, "--out", str(tmp_path / "audacity"), "--format", "audacity"]) == 0
    back = read_labels(tmp_path / "audacity", audio=night)
    assert back.format == "audacity" and back.classes == ("high", "low") and len(back.rows) == 8


def test_an_archive_of_timestamps_gives_what_its_audio_gives(night, tmp_path):
    model = tmp_path / "tones.safetensors"
    assert main(["fit", str(night), "--out", str(model), *TINY_WORDS]) == 0
    words = ["predict", str(night), "--model", str(model), "--out", str(tmp_path / "audio.csv")]
    assert main([*words, "--workers", "0", "--quiet"]) == 0
    for format in ("npz", "npy", "parquet"):
        made = ["embed", str(night), "--out", str(tmp_path / format), "--timestamps", "--format", format]
        assert main([*made, *TINY_WORDS]) == 0
        out = tmp_path / f"{format}.csv"
        assert main(["predict", str(tmp_path / format), "--model", str(model), "--out", str(out)]) == 0
        assert out.read_text() == (tmp_path / "audio.csv").read_text()


def test_pieces_of_a_recording_give_the_targets_of_the_whole():
    grid = np.arange(200) * STEP + STEP / 2
    random = np.random.default_rng(0)
    events = [
        (at, at + length, 0) for at, length in zip(random.uniform(0, 7, 9), random.uniform(0.001, 0.3, 9))
    ]
    whole = frame_targets(events, grid, 1)
    pieces = [frame_targets(events, grid[at : at + 37], 1) for at in range(0, 200, 37)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
