"""Files that are not whole: refused by every way in, or taken as far as they go and noted."""

from __future__ import annotations

import json
import tarfile

import numpy as np
import pytest
import soundfile
import torch

from hear_audiomamba.archive.decode import DecodeSettings, decode_source
from hear_audiomamba.archive.options import EmbedOptions
from hear_audiomamba.archive.run import Resources, embed_sources
from hear_audiomamba.archive.sources import find_sources
from hear_audiomamba.errors import TruncatedAudioError
from hear_audiomamba.pretrain.data.reading import read_crop

from .conftest import write_noise

SCENES = EmbedOptions(format="npy")


@pytest.fixture
def folder(tmp_path):
    """Two whole files, two cut ones, and a tar with a cut one in it."""
    folder = tmp_path / "audio"
    folder.mkdir()
    for index, name in enumerate(("a.wav", "b.flac", "c.wav", "d.mp3")):
        write_noise(folder / name, 2.0, seed=index)
    for name in ("c.wav", "d.mp3"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])
    with tarfile.open(folder / "e.tar", "w") as tar:
        tar.add(folder / "c.wav", "inside.wav")
    return folder


@pytest.mark.parametrize("workers", [0, 1])
def test_the_readable_part_is_embedded_and_noted(folder, tiny_model, tmp_path, workers):
    sources, out = find_sources([folder, folder / "e.tar"]), tmp_path / "out"
    refused = embed_sources(sources, tiny_model, out, SCENES, Resources(workers=workers))
    assert (refused.embedded, refused.failed, refused.truncated) == (2, 3, [])
    assert all("truncated" in error["reason"] for error in refused.errors)
    again = Resources(workers=workers, keep_truncated=True, retry_errors=True)
    kept = embed_sources(sources, tiny_model, out, SCENES, again)
    assert (kept.embedded, kept.failed) == (5, 0)
    assert [note["path"].rsplit("/", 1)[1] for note in kept.truncated] == ["c.wav", "d.mp3", "inside.wav"]
    assert json.loads((out / "summary.json").read_text())["truncated"] == kept.truncated
    assert kept.truncated[0]["missing"] == "the header says 64000 bytes of audio, 31978 are there"
    part, _ = soundfile.read(folder / "c.wav", dtype="float32")
    scene = tiny_model.scene(torch.from_numpy(part)[None])[0].numpy()
    rows = [json.loads(line) for line in (out / "scene-00000.jsonl").read_text().splitlines()]
    paths = [row["path"] for row in rows if "path" in row]
    index = next(i for i, path in enumerate(paths) if path.endswith("c.wav"))
    np.testing.assert_allclose(np.load(out / "scene-00000.npy")[index], scene, atol=1e-5)


def test_the_note_is_on_the_last_block(folder):
    (source,) = find_sources([folder / "c.wav"])
    for seconds in (None, 0.25, 15989 / 16000):
        settings = DecodeSettings(16000, segment_seconds=seconds, keep_truncated=True)
        notes = [block.missing for block in decode_source(source, settings)]
        assert all(not note for note in notes[:-1]) and "31978 are there" in notes[-1]


def test_crops_and_stretches_of_a_cut_file_are_refused(folder):
    for source in (folder / "c.wav", (folder / "d.mp3").read_bytes()):
        with pytest.raises(TruncatedAudioError):
            read_crop(source, 1000, 16000, start_seconds=0.1, name="cut")
    manifest = folder / "list.csv"
    manifest.write_text("path,start,duration\nc.wav,0.1,0.2\n")
    (source,) = find_sources([manifest])
    with pytest.raises(TruncatedAudioError, match=r"c\.wav"):
        list(decode_source(source, DecodeSettings(16000)))
