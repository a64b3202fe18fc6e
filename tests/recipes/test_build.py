"""The corpus builder on a package made here with dpkg-deb: no network, no package index."""

import csv
import shutil
import subprocess
import zipfile

import numpy as np
import pytest
import soundfile

from hear_audiomamba.errors import ConfigError, DataError
from hear_audiomamba.io.files import sha256_of
from recipes.corpus import build, build_corpus, packages, read_manifest
from recipes.corpus.build import fair_shares
from recipes.corpus.game_archives import unpack_queen
from recipes.corpus.recipe import CorpusRecipe, load_recipe

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")

COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: someone
License: GPL-2+

Files: sounds/free.wav
Copyright: someone else
License: CC-BY-3.0

Files: sounds/paid.wav
Copyright: a third
License: CC-BY-NC-3.0
"""


def tone(path, seconds, hertz=440.0, rate=22050, channels=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)
    soundfile.write(path, np.repeat(wave[:, None], channels, 1), rate)


@pytest.fixture
def cache(tmp_path):
    """A cache folder with one package: sounds, a song in a zip, files the rules must leave out."""
    root = tmp_path / "tinysound"
    share = root / "usr/share/tinysound"
    tone(share / "sounds/free.wav", 0.5)
    tone(share / "sounds/paid.wav", 0.5)
    tone(share / "sounds/engine_small.wav", 0.5)
    tone(share / "sounds/long.wav", 16.0)
    tone(share / "music/voice/monologue.wav", 30.0, rate=8000)
    (share / "sounds/broken.wav").write_bytes(b"RIFF no wave at all")
    soundfile.write(share / "sounds/silent.wav", np.zeros(8000), 8000)
    tone(tmp_path / "song.wav", 40.0, rate=16000, channels=1)
    with zipfile.ZipFile(share / "data.pk3", "w") as archive:
        archive.write(tmp_path / "song.wav", "music/song.wav")
        archive.writestr("../../escape.wav", "not outside")
    (root / "usr/share/doc/tinysound").mkdir(parents=True)
    (root / "usr/share/doc/tinysound/copyright").write_text(COPYRIGHT)
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN/control").write_text(
        "Package: tinysound\nVersion: 1.2-3\nArchitecture: all\n"
        "Maintainer: nobody <nobody@example.org>\nDescription: test\n"
    )
    folder = tmp_path / "cache"
    folder.mkdir()
    subprocess.run(
        ["dpkg-deb", "--build", str(root), str(folder / "tinysound_1.2-3_all.deb")],
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture
def gone(monkeypatch):
    """Make every package that is not in the cache one that no index names."""
    real = packages._run

    def run(command, cwd=None):
        if command[0] in ("apt-get", "apt-cache"):
            return subprocess.CompletedProcess(command, 100, "", "E: Unable to locate package no-such-sounds")
        return real(command, cwd)

    monkeypatch.setattr(packages, "_run", run)


def recipe(**changes):
    values = {
        "name": "tiny",
        "exclude": ["^tinysound/.*engine_small"],
        "packages": [
            {"package": "tinysound", "kind": "music"},
            {"package": "tinysound", "kind": "effect", "pattern": "/sounds/", "licence": "GPL-2"},
        ],
        "synthesis": [
            {"name": "tones", "engine": "tones", "count": 8, "split": "valid", "licence": "CC0-1.0"}
        ],
    }
    return CorpusRecipe.from_dict({**values, **changes})


def test_takes_what_the_rules_say_and_names_source_and_licence(tmp_path, cache):
    reports = {r.source: r for r in build_corpus(recipe(), tmp_path / "out", cache=cache)}
    assert {name: (r.status, r.files) for name, r in reports.items()} == {
        "music-tinysound": ("ok", 1),
        "effect-tinysound": ("ok", 1),
        "tones": ("ok", 8),
    }
    assert reports["music-tinysound"].version == "1.2-3"
    clips = {clip.source: clip for clip in read_manifest(tmp_path / "out")}
    effect, song = clips["effect-tinysound"], clips["music-tinysound"]
    assert effect.path.startswith("audio/effect/tinysound/free-") and effect.licence == "CC-BY-3.0"
    assert song.licence == "GPL-2+" and song.seconds == pytest.approx(40.0, abs=0.01)
    assert {clip.split for clip in read_manifest(tmp_path / "out") if clip.source == "tones"} == {"valid"}
    for clip in (effect, song):
        samples, rate = soundfile.read(tmp_path / "out" / clip.path)
        assert rate == 16000 and samples.ndim == 1
        assert sha256_of(tmp_path / "out" / clip.path) == clip.sha256
    # 440 Hz is still 440 Hz after resampling from 22.05 kHz.
    samples, _ = soundfile.read(tmp_path / "out" / effect.path)
    peak = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax() * 16000 / len(samples)
    assert peak == pytest.approx(440, abs=2)
    assert not list(tmp_path.rglob("escape.wav"))
    assert not (tmp_path / "out/.work").exists()


def test_a_package_that_is_gone_is_named_and_skipped(tmp_path, cache, gone):
    wanted = recipe(
        packages=[{"package": "no-such-sounds", "kind": "speech"}, {"package": "tinysound", "kind": "music"}]
    )
    reports = {r.source: r for r in build_corpus(wanted, tmp_path / "out", cache=cache)}
    assert reports["speech-no-such-sounds"].status == "gone"
    assert reports["music-tinysound"].files == 1
    with (tmp_path / "out/sources.csv").open(newline="") as stream:
        rows = {row["source"]: row for row in csv.DictReader(stream)}
    assert rows["speech-no-such-sounds"]["status"] == "gone"
    assert "no-such-sounds" in rows["speech-no-such-sounds"]["note"]


def test_a_missing_synthesiser_is_named_and_skipped(tmp_path):
    wanted = recipe(
        packages=[],
        synthesis=[
            {"name": "notes", "engine": "notes", "count": 2, "voices": ["/no/such/font.sf2"]},
            {"name": "tones", "engine": "tones", "count": 2},
        ],
    )
    reports = {r.source: r for r in build_corpus(wanted, tmp_path / "out")}
    assert reports["notes"].status == "failed" and "font.sf2" in reports["notes"].note
    assert reports["tones"].status == "ok"


def test_goes_on_where_it_stopped_and_gives_the_same_manifest(tmp_path, cache, monkeypatch):
    build_corpus(recipe(), tmp_path / "whole", cache=cache)
    real, calls = build.decode.write_flac, []

    def fails_at_third(path, samples, rate):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(path)
        real(path, samples, rate)

    monkeypatch.setattr(build.decode, "write_flac", fails_at_third)
    with pytest.raises(KeyboardInterrupt):
        build_corpus(recipe(), tmp_path / "out", cache=cache)
    written = []
    monkeypatch.setattr(build.decode, "write_flac", lambda *a: (written.append(a[0]), real(*a)))
    build_corpus(recipe(), tmp_path / "out", cache=cache)
    assert not {p.name for p in written} & {p.name for p in calls}
    for name in ("manifest.csv", "sources.csv", "labels.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_says_before_the_download_that_the_disk_is_too_small(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "download_size", lambda package, cache: 3_000_000_000)
    monkeypatch.setattr(
        build.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1_000_000_000)
    )
    monkeypatch.setattr(packages, "fetch_package", lambda *a: pytest.fail("downloaded"))
    with pytest.raises(DataError, match=r"needs about 9\..* GB .*1\.0 GB are free"):
        build_corpus(recipe(), tmp_path / "out")


def test_limits_hours_by_shortening_music_and_dropping_effects(tmp_path, cache):
    build_corpus(recipe(synthesis=[]), tmp_path / "out", cache=cache, max_hours_per_source=10 / 3600)
    seconds = {clip.source: clip.seconds for clip in read_manifest(tmp_path / "out")}
    assert seconds["music-tinysound"] == pytest.approx(10, abs=0.01)
    assert seconds["effect-tinysound"] == pytest.approx(0.5, abs=0.01)


def test_shares_are_fair():
    assert fair_shares([10, 100, 100], 110) == [10, 50, 50]
    assert fair_shares([10, 20], 50) == [10, 20]
    assert fair_shares([10, 20], None) == [10, 20]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"packages": [{"package": "a", "kind": "sing"}]}, "sing"),
        ({"packges": []}, "packges"),
        ({"packages": [{"package": "aa", "kind": "music"}] * 2}, "more than once"),
        ({"packages": [{"package": "aa", "kind": "music", "pattern": "("}]}, "bad pattern"),
        ({"synthesis": [{"name": "x", "engine": "tonez", "count": 1}]}, "tones"),
    ],
)
def test_a_bad_recipe_is_refused(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        build_corpus(recipe(**change), tmp_path / "out")


def test_the_shipped_recipe_is_sound():
    from recipes.corpus.cli import OPEN_CORPUS

    shipped = load_recipe(OPEN_CORPUS)
    assert {source.split for source in shipped.packages} == {"train", "valid"}
    named = {source.package for source in shipped.packages}
    assert "singularity-music" not in named
    assert not any("espeak" in voice or "flite" in voice for s in shipped.synthesis for voice in s.voices)


def test_a_recipe_takes_from_its_base_what_it_lacks(tmp_path):
    (tmp_path / "base.yaml").write_text(
        "name: base\nexclude: ['x']\npackages: [{package: tinysound, kind: effect}]\n"
        "synthesis: [{name: tones, engine: tones, count: 1}]\n"
    )
    (tmp_path / "own.yaml").write_text(
        "name: own\nbase: base.yaml\nsynthesis: [{name: more, engine: tones, count: 2}]\n"
    )
    recipe = load_recipe(tmp_path / "own.yaml")
    assert recipe.name == "own" and recipe.exclude == ("x",)
    assert [source.name for source in (*recipe.packages, *recipe.synthesis)] == ["effect-tinysound", "more"]


def test_the_queens_archive_is_opened_and_a_damaged_one_refused(tmp_path):
    sound, other = b"\xff\xe3sound", b"picture"
    table = b"".join(
        name.ljust(12, b"\0") + b"\x01" + offset.to_bytes(4, "big") + size.to_bytes(4, "big")
        for name, offset, size in ((b"020001P2.SB", 57, len(sound)), (b"A.PCX", 57 + len(sound), len(other)))
    )
    archive = tmp_path / "queen.1c"
    archive.write_bytes(b"QTBLCEM10\0\0\0\x01" + (2).to_bytes(2, "big") + table + sound + other)
    assert unpack_queen(archive, tmp_path / "out") == 1
    assert (tmp_path / "out/020001P2.mp3").read_bytes() == sound
    archive.write_bytes(archive.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"queen\.1c: the entry '020001P2.SB' lies outside"):
        unpack_queen(archive, tmp_path / "again")
    archive.write_bytes(b"RIFF")
    with pytest.raises(DataError, match="not an archive"):
        unpack_queen(archive, tmp_path / "again")
