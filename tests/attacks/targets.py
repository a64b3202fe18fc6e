"""Every reader of files that come from elsewhere, as the fuzzer calls it."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hear_audiomamba.archive.frames import read_frames
from hear_audiomamba.archive.journal import Journal
from hear_audiomamba.archive.read import read_scenes
from hear_audiomamba.archive.sources import find_sources
from hear_audiomamba.evaluate.board.rows import read_results
from hear_audiomamba.evaluate.study.suite import load_suite
from hear_audiomamba.io.audio import iter_audio
from hear_audiomamba.io.labels import read_labels
from hear_audiomamba.io.manifest import read_rows
from hear_audiomamba.models.convert import read_checkpoint
from hear_audiomamba.pretrain.config import DataConfig
from hear_audiomamba.pretrain.data.clips import find_clips
from hear_audiomamba.pretrain.run.runlog import read_log
from hear_audiomamba.pretrain.settings import read_config

from . import seeds


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        name: of the reader and the kind of file.
        file: where the hostile content goes, below the folder that the reader is given.
        seed: well-formed content.
        read: is called with that folder and file; may raise errors of this package's own types only.
        around: further files of the folder, well-formed.
    """

    name: str
    file: str
    seed: bytes
    read: Callable[[Path, Path], object]
    around: dict[str, bytes]


def make_targets(work: Path) -> list[Target]:
    """Return all readers; `work` is a folder for making their seeds."""
    found = [
        Target(
            f"checkpoint.{ending}", f"model.{ending}", seed, lambda folder, file: read_checkpoint(file), {}
        )
        for ending, seed in (("safetensors", seeds.safetensors()), ("pth", seeds.pytorch()))
    ]
    for ending in ("csv", "tsv", "json", "jsonl", "parquet"):
        seed = seeds.table(ending)
        found.append(Target(f"table.{ending}", f"list.{ending}", seed, _rows, {}))
        if ending in ("csv", "jsonl", "parquet"):
            found.append(Target(f"manifest.{ending}", f"list.{ending}", seed, _sources, {}))
        found.append(Target(f"corpus.{ending}", f"list.{ending}", seed, _clips, {}))
    for ending in ("csv", "parquet"):
        sound = {"a.wav": seeds.audio("wav"), "sub/b.wav": seeds.audio("wav")}
        found.append(Target(f"labels.{ending}", f"list.{ending}", seeds.table(ending), _labels, sound))
    beside = {"a.wav": seeds.audio("wav")}
    found.append(Target("labels.raven", "a.selections.txt", seeds.raven(), _labels, beside))
    found.append(Target("labels.audacity", "a.txt", b"0.5\t1.25\tbird\n2\t3\train\n", _labels, beside))
    for kind in (0, 1, 2):
        found.append(Target(f"tar.{kind}", "shard.tar", seeds.tar(kind), _sources, {}))
    found.append(Target("webdataset", "shard.tar", seeds.tar(), _clips, {}))
    for ending in ("wav", "flac", "ogg", "aiff", "w64", "caf"):
        found.append(Target(f"audio.{ending}", f"a.{ending}", seeds.audio(ending), _audio, {}))
    for format in ("npz", "parquet", "npy"):
        files = seeds.archive(format, work / format)
        for name in files:
            if name.endswith((".npz", ".npy", ".jsonl", ".parquet")) and not name.startswith("."):
                rest = {other: content for other, content in files.items() if other != name}
                found.append(Target(f"archive.{format}.{name}", name, files[name], _archive, rest))
    journal = seeds.archive("npz", work / "journal")
    for name in journal:
        if name.startswith(".") and name.endswith((".json", ".jsonl")):
            rest = {other: content for other, content in journal.items() if other != name}
            found.append(Target(f"journal.{Path(name).name}", name, journal[name], _journal, rest))
    results = json.dumps(seeds.RESULTS).encode()
    found.append(Target("results", "m.json", results, lambda folder, file: read_results(file), {}))
    found.append(Target("runlog", "log.jsonl", seeds.LOG, lambda folder, file: read_log(file), {}))
    found.append(Target("suite", "suite.yaml", seeds.SUITE, lambda folder, file: load_suite(file), {}))
    found.append(Target("config", "run.yaml", seeds.CONFIG, lambda folder, file: read_config(file), {}))
    return found


def _rows(folder: Path, file: Path) -> object:
    return list(itertools.islice(read_rows(file, ("path",)), 100_000))


def _sources(folder: Path, file: Path) -> object:
    sources = find_sources([file])
    out = folder / "out"
    for source in sources:  # no result may leave the output folder
        assert (out / source.name).resolve().is_relative_to(out.resolve()), source.name
    return sources


def _clips(folder: Path, file: Path) -> object:
    return find_clips(DataConfig(path=str(file)), None)


def _labels(folder: Path, file: Path) -> object:
    return read_labels(file, rare="keep")


def _audio(folder: Path, file: Path) -> object:
    return sum(len(block) for block in itertools.islice(iter_audio(file, 16000), 100))


def _archive(folder: Path, file: Path) -> object:
    scenes = sum(len(table) for table in read_scenes(folder))
    return scenes, sum(len(piece.times) for piece in itertools.islice(read_frames(folder), 10_000))


def _journal(folder: Path, file: Path) -> object:
    settings = (folder / ".hear-audiomamba" / "run.json").read_bytes()
    with Journal(folder, _settings(settings)) as journal:
        units = journal.plan([], 512)
        return [(journal.records.complete_record(n), journal.records.begun(n)) for n in range(2)], units


def _settings(content: bytes) -> dict[str, object]:
    try:
        held = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return held if isinstance(held, dict) else {}


def fill(folder: Path, target: Target, content: bytes) -> Path:
    """Lay out a target's folder with hostile content; returns the file."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, held in {**target.around, target.file: content}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(held)
    return folder / target.file
