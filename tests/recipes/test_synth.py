"""Synthesis: MIDI files byte by byte, sounds that hold what their labels say, and the verb's exit status."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from scipy.signal import lfilter

from hear_audiomamba.cli import main as audiomamba
from hear_audiomamba.errors import DataError
from recipes.corpus.cli import main
from recipes.corpus.manifest import Clip, Label, write_table
from recipes.corpus.recipe import SynthSource
from recipes.corpus.synth import midi, sounds_of, speech
from recipes.corpus.synth.textures import KINDS

FONT = Path("/usr/share/sounds/sf2/TimGM6mb.sf2")
needs_fluidsynth = pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not FONT.is_file(), reason="needs fluidsynth and timgm6mb-soundfont"
)


def made(work, engine, count, **more):
    source = SynthSource.from_dict({"name": "t", "engine": engine, "count": count, **more})
    return list(sounds_of(source, work, work))


def test_a_midi_file_byte_by_byte():
    events = [midi.program(0, 24, 0.0), *midi.note(0, 60, 100, 0.5, 0.25)]
    track = bytes.fromhex("00c018 8360903c64 8170803c00 00ff2f00".replace(" ", ""))
    header = b"MThd\x00\x00\x00\x06\x00\x00\x00\x01\x01\xe0"
    assert midi.midi_bytes(events) == header + b"MTrk" + len(track).to_bytes(4, "big") + track


@needs_fluidsynth
def test_notes_sound_at_the_pitch_of_their_label(tmp_path):
    right = 0
    sounds = made(tmp_path, "notes", 24, voices=[str(FONT)], seed=5)
    for sound in sounds:
        key = next(int(label[5:]) for label in sound.labels if label.startswith("note:"))
        spectrum = np.abs(np.fft.rfft(sound.samples * np.hanning(len(sound.samples)), 1 << 16))
        hertz = np.fft.rfftfreq(1 << 16, 1 / 16000)
        # A note's strongest partials lie at multiples of its pitch.
        ratio = hertz[spectrum.argmax()] / (440 * 2 ** ((key - 69) / 12))
        right += ratio > 0.45 and abs(ratio * 2 - round(ratio * 2)) < 0.08 * ratio
    assert len(sounds) >= 20 and right >= 0.7 * len(sounds)


@needs_fluidsynth
def test_chords_drums_and_phrases_are_labelled_and_repeatable(tmp_path):
    for engine, label in (("chords", "chord:"), ("drums", "drum:"), ("phrases", "parts:")):
        runs = [made(tmp_path, engine, 2, voices=[str(FONT)]) for _ in "ab"]
        assert runs[0] and all(any(name.startswith(label) for name in sound.labels) for sound in runs[0])
        for first, second in zip(*runs):
            assert first.labels == second.labels and np.array_equal(first.samples, second.samples)
        assert not list(tmp_path.iterdir())


@pytest.mark.skipif(importlib.util.find_spec("py_nanotts") is None, reason="needs py-nanotts")
def test_words_syllables_and_crowds(tmp_path):
    voices = ["pico:en-GB", "pico:it-IT"]
    words = made(tmp_path, "words", 6, voices=voices)
    assert len(words) == 6 and {"language:en", "language:it"} == {w.labels[0] for w in words}
    assert all(0.1 < len(w.samples) / 16000 < 3 for w in words)
    syllables = made(tmp_path, "syllables", 4, voices=voices)
    assert all(sum(label.startswith(("syllable:", "initial:")) for label in s.labels) == 2 for s in syllables)
    for sound in made(tmp_path, "crowds", 3, voices=voices):
        assert len(sound.samples) == 5 * 16000 and sound.labels[0] in ("speakers:1", "speakers:2")


def test_the_verb_builds_measures_and_says_what_failed(tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    tones = {"name": "tones", "engine": "tones", "count": 8, "licence": "CC0-1.0"}
    recipe.write_text(yaml.safe_dump({"name": "r", "synthesis": [tones]}))
    assert main(["build", str(tmp_path / "out"), "--recipe", str(recipe)]) == 0
    assert audiomamba(["pretrain", "stats", str(tmp_path / "out"), "--no-features"]) == 0
    assert "CC0-1.0" in capsys.readouterr().out
    broken = {"name": "notes", "engine": "notes", "count": 2, "voices": ["/no/font.sf2"]}
    recipe.write_text(yaml.safe_dump({"name": "r", "synthesis": [tones, broken]}))
    assert main(["build", str(tmp_path / "out"), "--recipe", str(recipe)]) == 1
    assert "skipped: notes" in capsys.readouterr().err
    assert audiomamba(["pretrain", "stats", str(tmp_path / "nothing"), "--no-features"]) == 1
    assert main(["build", str(tmp_path / "out"), "--recipe", str(tmp_path / "no.yaml")]) == 1


@pytest.mark.skipif(importlib.util.find_spec("py_nanotts") is None, reason="needs py-nanotts")
def test_babble_and_toned_syllables(tmp_path):
    voices = ["pico:en-GB", "pico:it-IT", "pico:de-DE"]
    crowd = made(tmp_path, "babble", 8, voices=voices)
    assert len(crowd) == 8 and all(len(sound.samples) == 40000 for sound in crowd)
    assert {sound.labels[0] for sound in crowd} <= {f"speakers:{n}" for n in (1, 2, 3)}
    toned = made(tmp_path, "toned", 10, voices=voices)
    assert [sound.labels[-1] for sound in toned[:2]] == ["tone:level", "tone:rising"]


@pytest.mark.parametrize("semitones", [-4.0, 0.0, 4.0])
def test_repitched_speech_has_the_pitch_asked_for(semitones):
    # A buzz of 120 Hz through two formants stands for a voice.
    samples = np.zeros(16000)
    samples[::133] = 1.0
    for hertz in (600, 1700):
        pole = 0.97 * np.exp(2j * np.pi * hertz / 16000)
        samples = lfilter([1.0], [1, -2 * pole.real, abs(pole) ** 2], samples)
    ratio = 2 ** (semitones / 12)
    result = speech.repitched(samples, np.full(len(samples), ratio))
    middle = result[4000:10000] - result[4000:10000].mean()
    correlation = np.correlate(middle, middle, "full")[len(middle) - 1 :]
    period = 60 + correlation[60:250].argmax()
    assert period == pytest.approx(133 / ratio, abs=2)


def test_variants_of_recordings_keep_only_the_labels_that_stay_true(tmp_path):
    rng = np.random.default_rng(0)
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(24000) / 16000)
    for name, samples in (("a", tone), ("b", 0.1 * rng.standard_normal(48000))):
        soundfile.write(tmp_path / f"{name}.flac", samples, 16000)
    rows = [
        Clip(f"{n}.flac", "train", f"notes-{n}", "CC0", s, "", "synth") for n, s in (("a", 1.5), ("b", 3.0))
    ]
    write_table(tmp_path / "manifest.csv", Clip, rows)
    labels = [Label("a.flac", text) for text in ("note:69", "chroma:9", "program:3", "voice:x")]
    write_table(tmp_path / "labels.csv", Label, labels)
    sounds = made(tmp_path, "variants", 60, voices=["notes:1"])
    assert len(sounds) == 60 and all(100 < len(sound.samples) <= 32000 for sound in sounds)
    kept = [dict(label.split(":") for label in sound.labels) for sound in sounds if sound.labels]
    assert 10 < len(kept) < 60 and len({row["note"] for row in kept}) > 5
    for row in kept:
        assert row["program"] == "3" and int(row["chroma"]) == int(row["note"]) % 12 and "voice" not in row
    again = made(tmp_path, "variants", 5, voices=["notes:1"])
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(again, sounds))
    with pytest.raises(DataError, match="no clips of harps"):
        made(tmp_path, "variants", 1, voices=["harps:1"])


def test_everyday_sounds_are_repeatable_and_their_kinds_differ(tmp_path):
    def textures(count, seed):
        return made(tmp_path, "textures", count, seed=seed)

    first, again, other = textures(len(KINDS), 1), textures(len(KINDS), 1), textures(len(KINDS), 2)
    assert [sound.labels for sound in first] == [(f"texture:{kind}",) for kind in KINDS]
    for one, same, varied in zip(first, again, other):
        assert one.samples.shape == (32000,) and np.isfinite(one.samples).all()
        assert np.abs(one.samples).max() == pytest.approx(0.7)
        assert np.array_equal(one.samples, same.samples) and not np.array_equal(one.samples, varied.samples)

    def described(sound):
        spectra = np.abs(np.fft.rfft(sound.samples.reshape(50, 640), axis=1))[:, :320]
        bands = np.log(spectra.reshape(50, 32, 10).sum(2) + 1e-2)
        return np.concatenate([bands.mean(0), bands.std(0), np.abs(np.diff(bands, axis=0)).mean(0)])

    known = np.stack([described(sound) for sound in textures(len(KINDS) * 12, 3)]).reshape(12, len(KINDS), -1)
    new = np.stack([described(sound) for sound in textures(len(KINDS) * 6, 4)]).reshape(6, len(KINDS), -1)
    distance = (((new[:, :, None] - known.mean(0)) / known.std((0, 1))) ** 2).sum(-1)
    # By the nearest mean of a kind half are found; by chance 0.04.
    assert (distance.argmin(-1) == np.arange(len(KINDS))).mean() > 0.4
