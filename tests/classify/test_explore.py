"""The page over an archive: all in one file, and usable with mouse, keyboard and finger."""

from __future__ import annotations

import base64
import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from hear_audiomamba.classify.explore.build import write_page
from hear_audiomamba.cli import main
from hear_audiomamba.errors import ConfigError
from hear_audiomamba.io.labels import read_labels

from .browser import Browser, needs_browser
from .conftest import RATE, SOUNDS, TINY_WORDS, write_sound


def data_of(page: Path) -> dict:
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.S)[1])


def paths_of(data: dict) -> list[str]:
    """The audio files, as the page puts them together."""
    return [data["root"] + name for name in data["shown"]]


def unpacked(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype)


@pytest.fixture
def field(recording, tmp_path) -> Path:
    """Four recordings of a low tone, a high one and noise, one folder for two of them."""
    for number in range(4):
        parts = [(kind, 4.0) for kind in np.roll(SOUNDS, number)]
        recording(f"field/site{number // 2}/rec {number}.wav", *parts, seed=number)
    return tmp_path / "field"


@pytest.fixture
def archive(field, tmp_path) -> Path:
    out = tmp_path / "archive"
    assert main(["embed", str(field), "--out", str(out), "--segments", "1", *TINY_WORDS]) == 0
    return out


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_the_page_holds_everything(archive, field, tmp_path, method):
    made = write_page(archive, tmp_path / "page.html", method=method)
    assert (made.shown, made.total, made.pictures) == (48, 48, 48)
    text, data = (tmp_path / "page.html").read_text(), data_of(tmp_path / "page.html")
    assert "{{" not in text.replace("{{count}}", "") and not re.search(r'(src|href)="http', text)
    assert all(Path(path).is_file() for path in paths_of(data)) and len(data["shown"]) == 4
    assert all((tmp_path / data["link"] / name).is_file() for name in data["shown"])
    starts, ends = unpacked(data["start"], "<f4"), unpacked(data["end"], "<f4")
    assert sorted(set(starts.tolist())) == list(range(12)) and np.allclose(ends - starts, 1)
    assert data["groups"] == ["site0", "site1"]
    x, y = unpacked(data["x"], "<u2"), unpacked(data["y"], "<u2")
    assert len(x) == len(y) == 48 and max(np.ptp(x), np.ptp(y)) > 60000


def test_whole_files_have_no_times_and_labels_come_back(class_folders, tmp_path):
    sounds = class_folders(3)
    archive = tmp_path / "archive"
    assert main(["embed", str(sounds), "--out", str(archive), "--scene", "--format", "npy", *TINY_WORDS]) == 0
    table = tmp_path / "labels.csv"
    table.write_text("path,label\nsounds/low/0.wav,deep\nsounds/high/1.wav,bright\n")
    words = ["explore", str(archive), "--out", str(tmp_path / "page.html"), "--labels", str(table)]
    assert main([*words, "--method", "pca", "--limit", "8"]) == 0
    data = data_of(tmp_path / "page.html")
    assert np.isnan(unpacked(data["start"], "<f4")).all() and len(unpacked(data["x"], "<u2")) == 8
    file = unpacked(data["file"], "<u4")
    given = {
        Path(paths_of(data)[file[i]]).parent.name: data["known"]["labels"][k]
        for i, k in data["known"]["given"]
    }
    assert given.items() <= {"low": "deep", "high": "bright"}.items() and given


def test_a_path_cannot_leave_its_place_in_the_page(recording, tmp_path):
    for number in range(3):
        recording(f"field/<b>{{{{script}}}} & ' {number}.wav", ("low", 1.0), seed=number)
    assert main(["embed", str(tmp_path / "field"), "--out", str(tmp_path / "archive"), *TINY_WORDS]) == 0
    write_page(tmp_path / "archive", tmp_path / "page.html", method="pca")
    assert "<b>{{script}} & ' 0.wav" in data_of(tmp_path / "page.html")["shown"]
    assert "<b>{{" not in (tmp_path / "page.html").read_text()


def test_what_cannot_be_drawn(archive, tmp_path):
    with pytest.raises(ConfigError, match="method: 'som'"):
        write_page(archive, tmp_path / "page.html", method="som")  # type: ignore[arg-type]
    assert main(["explore", str(archive), "--out", str(tmp_path / "page.txt")]) == 1


def fit(labels: Path, archive: Path) -> None:
    """Run the command that the page shows."""
    words = ["fit", str(labels), "--kind", "single", "--embeddings", str(archive)]
    assert main([*words, "--out", str(labels.with_name("model.safetensors")), *TINY_WORDS]) == 0


@pytest.mark.parametrize("format", ["npz", "npy"])
def test_labels_of_segments_take_their_embeddings_from_the_archive(field, tmp_path, format):
    archive, table = tmp_path / "archive", tmp_path / "labels.csv"
    made = ["embed", str(field), "--out", str(archive), "--segments", "1", "--format", format]
    assert main([*made, *TINY_WORDS]) == 0
    lines = [f"{field}/site{n // 2}/rec {n}.wav,{np.roll(SOUNDS, n)[s // 4]},{s},{s + 1}"
             for n in range(4) for s in (0, 1, 4, 5, 8, 9)]  # fmt: skip
    table.write_text("path,label,start,end\n" + "\n".join(lines) + "\n")
    before = sorted(path.name for path in archive.rglob("*"))
    fit(table, archive)
    assert json.loads((tmp_path / "model.json").read_text())["summary"]["accuracy"] > 0.7
    assert sorted(path.name for path in archive.rglob("*")) == before  # nothing was embedded again
    table.write_text(table.read_text() + f"{field}/site0/rec 0.wav,high,2.5,3.5\n")
    words = [
        "fit",
        str(table),
        "--kind",
        "single",
        "--embeddings",
        str(archive),
        "--out",
        str(tmp_path / "m.safetensors"),
    ]
    assert main([*words, *TINY_WORDS]) == 1


def spot(browser: Browser, index: int) -> tuple[float, float]:
    """Where a sound lies on the page."""
    x, y = browser.run(
        f"toScreen({index}).map((v, k) => v + canvas.getBoundingClientRect()[k ? 'top' : 'left'])"
    )
    return x, y


def around(browser: Browser, margin: float = 6) -> list[tuple[float, float]]:
    """A way around the whole map."""
    box = browser.run("canvas.getBoundingClientRect().toJSON()")
    left, top = box["left"] + margin, box["top"] + margin
    right, bottom = box["right"] - margin, box["bottom"] - margin
    # Below the buttons, which lie over the map's corner.
    return [(left, top + 70), (right, top + 70), (right, bottom), (left, bottom), (left, top + 80)]


def spread_of_pixels(browser: Browser, canvas: str) -> float:
    """Standard deviation of the red of a picture, 0 where nothing is drawn."""
    pixels = browser.run(f"Array.from(element('{canvas}').getContext('2d').getImageData(0, 0, 40, 32).data)")
    assert browser.run(f"element('{canvas}').getBoundingClientRect().height") > 50
    return float(np.std(pixels[::4]))


@pytest.mark.slow
@needs_browser
def test_mouse_and_keyboard(archive, field, tmp_path):
    page = tmp_path / "page.html"
    write_page(archive, page, method="tsne")
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    with Browser(downloads, 1280, 800) as browser:
        browser.open(page)
        browser.wait("context.getImageData(0, 0, canvas.width, canvas.height).data.some((v) => v > 0)")
        browser.drag([spot(browser, 5)], press=False)
        browser.wait("!tip.hidden")
        assert "rec " in browser.run("tip.textContent") and "–" in browser.run("tip.textContent")
        assert spread_of_pixels(browser, "tippicture") > 20

        index = browser.run("current")
        browser.drag([spot(browser, index)])
        begin = browser.run(f"start[{index}]")
        browser.wait(f"audio.currentTime > {begin} + 0.05 && audio.currentTime < {begin} + 1.3")
        browser.wait(f"audio.paused && audio.currentTime >= {begin} + 0.9")  # stops where the sound ends

        before = browser.run("[view.x, view.scale]")
        browser.wheel(400, 400, -400)
        browser.wait(f"view.scale > {before[1]}")
        browser.drag([(500, 500), (600, 500)])
        browser.run("whole()")
        assert browser.run("number") == 0

        browser.click("#lasso")
        browser.drag(around(browser))
        browser.wait("number > 0")
        browser.run("select(Array.from(start.keys()).filter((i) => start[i] < 4), false)")
        browser.picture(tmp_path / "selected.png")
        browser.type("#name", "first sound, of three\n")
        browser.wait("labelOf.filter((one) => one === 0).length === 16")

        browser.type("#map", "\ue00c")  # Esc
        browser.run("canvas.focus()")
        browser.run("show(-1, 0, 0)")
        for key in ("\ue014", "a", "\ue012", "a"):  # right, take, left, take
            browser.type("#map", key)
        browser.wait("number === 2 || number === 1")
        browser.type("#name", "second\n")
        browser.wait("labels.length === 2")
        browser.type("#map", "u")
        browser.wait("!labelOf.includes(1)")
        browser.run("select([47], false)")
        browser.type("#name", "second\n")
        browser.run("select([46], false)")
        browser.type("#map", "2")
        browser.wait("labelOf[46] === 1 && labelOf[47] === 1")
        browser.picture(tmp_path / "labelled.png")

        browser.click("#download")
        for _ in range(100):
            if (downloads / "labels.csv").exists():
                break
            browser.wait("new Promise((done) => setTimeout(() => done(true), 100))")
        browser.open(page)  # closed and opened again: the labels are still there
        browser.wait("labelOf.filter((one) => one >= 0).length === 18")
        assert browser.errors() == []
        loaded = browser.run("performance.getEntriesByType('resource').map((one) => one.name)")
        assert all(name.startswith("file:") for name in loaded)

    with open(downloads / "labels.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18 and {row["label"] for row in rows} == {"first sound, of three", "second"}
    labels = read_labels(downloads / "labels.csv", kind="single")
    assert labels.classes == ("first sound, of three", "second") and len(labels.rows) == 18
    words = [
        "fit",
        str(downloads / "labels.csv"),
        "--kind",
        "single",
        "--out",
        str(tmp_path / "m.safetensors"),
    ]
    assert main([*words, *TINY_WORDS]) == 0


@pytest.mark.slow
@needs_browser
def test_a_phone(archive, tmp_path):
    page = tmp_path / "page.html"
    write_page(archive, page, method="pca")
    with Browser(tmp_path, 390, 844, touch=True) as browser:
        browser.open(page)
        browser.wait("canvas.clientHeight > 300 && canvas.clientWidth === 390")
        assert browser.run("document.documentElement.scrollWidth") <= 390
        browser.drag([spot(browser, 3)])
        browser.wait("audio.getAttribute('src') !== null && current >= 0")
        assert spread_of_pixels(browser, "nowpicture") > 20
        browser.click("#lasso")
        browser.drag(around(browser))
        browser.wait("number > 10")
        browser.type("#name", "all\n")
        browser.wait("labels.length === 1")
        browser.picture(tmp_path / "phone.png")
        assert browser.errors() == []


def large_archive(folder: Path, files: int, segments: int) -> Path:
    """Write an archive by hand: short segments of noise recordings under names that are hard to write."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(files):
        name = f'it\'s "night" <{number}> </script> ünï %41 #{number} 🐦.flac'
        samples = (
            0.1
            * random.standard_normal(segments * RATE // 10)
            * (1 + np.arange(segments * RATE // 10) % 1600 / 200)
        )
        path = write_sound(folder / "field recordings" / f"site {number % 7}" / name, samples / 10)
        rows += [{"path": str(path), "start": k / 10, "duration": 0.1} for k in range(segments)]
    out = folder / "archive"
    out.mkdir()
    config = {"model": "ssam_tiny", "weights_sha256": "0" * 64, "options": {"segment_seconds": 0.1}}
    lines = [json.dumps({"config": config}), *(json.dumps(row) for row in rows)]
    (out / "scene-00000.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    centres = random.standard_normal((files, 16))
    embeddings = centres.repeat(segments, axis=0) + 0.3 * random.standard_normal((files * segments, 16))
    np.save(out / "scene-00000.npy", embeddings.astype(np.float32))
    return out


@pytest.mark.slow
@needs_browser
def test_thirty_thousand_sounds_under_difficult_names(tmp_path):
    archive, page = large_archive(tmp_path, 60, 500), tmp_path / "pages" / "page.html"
    made = write_page(archive, page, method="pca")
    assert (made.shown, made.pictures) == (30_000, 30_000)
    assert page.stat().st_size < 6e6
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    with Browser(downloads, 1280, 800) as browser:
        browser.dark()
        browser.open(page)
        browser.wait("typeof points !== 'undefined' && points.width > 0")
        browser.run("whole()")
        browser.drag([spot(browser, 20_000)], press=False)
        browser.wait("!tip.hidden")
        index = browser.run("current")
        assert spread_of_pixels(browser, "tippicture") > 5
        assert "</script> ünï %41" in browser.run("tip.textContent")
        browser.picture(tmp_path / "many.png")
        browser.drag([spot(browser, index)])
        browser.wait(f"audio.readyState > 0 && audio.duration > 49 && audio.currentTime >= start[{index}]")
        assert "Cannot be played" not in browser.run("element('now').textContent")
        browser.run("select([0, 29999], false)")
        browser.type("#name", 'it\'s </script> "one", 🐦\n')
        browser.wait("labelOf[29999] === 0")
        browser.click("#download")
        for _ in range(100):
            if (downloads / "labels.csv").exists():
                break
            browser.wait("new Promise((done) => setTimeout(() => done(true), 100))")
        assert browser.errors() == []
    labels = read_labels(downloads / "labels.csv", rare="keep", kind="single")
    assert labels.classes == ('it\'s </script> "one", 🐦',)
    assert [(row.start, row.end) for row in labels.rows] == [(0.0, 0.1), (49.9, 50.0)]
