"""Probabilities come from the archive engine: also on a cluster's workers, and for long recordings."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from hear_audiomamba.archive.clips import SPILL_BYTES
from hear_audiomamba.archive.cluster import _Actor
from hear_audiomamba.archive.journal import Journal
from hear_audiomamba.archive.options import EmbedOptions
from hear_audiomamba.archive.run import Resources, describe
from hear_audiomamba.archive.sources import find_sources
from hear_audiomamba.classify.model_file import load_classifier
from hear_audiomamba.classify.scores import SHARD, read_scores, score_product, score_sources
from hear_audiomamba.cli import main

from .conftest import RATE, TINY, TINY_WORDS, sound


def test_a_worker_of_a_cluster_writes_the_same_scores(class_folders, recording, tiny_model, tmp_path):
    model = tmp_path / "model.safetensors"
    assert main(["fit", str(class_folders(4)), "--out", str(model), *TINY_WORDS]) == 0
    classifier = load_classifier(model)
    for number in range(3):
        recording(f"field/{number}.wav", ("low", 2.0), ("high", 1.0), seed=number)
    sources = find_sources([tmp_path / "field"])
    score_sources(sources, classifier, tiny_model, tmp_path / "here", resources=Resources(workers=0))

    options = EmbedOptions(segment_seconds=classifier.clip_seconds, format="npy", shard_sources=SHARD)
    product = pickle.loads(pickle.dumps(score_product(classifier.head)))  # as it travels to a worker
    settings = json.loads(describe(tiny_model, options, product).to_json())
    with Journal(tmp_path / "there", settings) as journal:
        units = journal.plan(sources, options.shard_sources)
        worker = _Actor(
            {**TINY, "device": "cpu"},
            str(tmp_path / "there"),
            options,
            Resources(workers=0),
            settings,
            product,
        )
        worker(
            {
                "unit": [
                    json.dumps({"unit": u.number, "sources": [s.to_dict() for s in u.sources]}) for u in units
                ]
            }
        )
    here, there = (list(read_scores(tmp_path / name, classifier, sources)) for name in ("here", "there"))
    assert len(here) == 3
    for one, other in zip(here, there):
        assert one.path == other.path
        np.testing.assert_array_equal(one.probabilities, other.probabilities)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["single", "events"])
def test_memory_does_not_grow_with_the_recording(class_folders, tmp_path, kind):
    model = tmp_path / "model.safetensors"
    labels = class_folders(4)
    if kind == "events":
        lines = [f"{path},{path.parent.name},0.2,0.8" for path in sorted(labels.rglob("*.wav"))]
        labels = tmp_path / "labels.csv"
        labels.write_text("path,label,start,end\n" + "\n".join(lines) + "\n")
    assert main(["fit", str(labels), "--out", str(model), *TINY_WORDS]) == 0
    block = np.concatenate([sound(name, 20.0, 1) for name in ("low", "high", "silence")]).astype(np.float32)
    peaks = []
    for minutes in (10, 60):
        path = tmp_path / f"{minutes}.flac"
        with soundfile.SoundFile(path, "w", RATE, 1) as file:
            for _ in range(minutes):
                file.write(block)
        peaks.append(
            _peak_of(["predict", str(path), "--model", str(model), "--out", str(tmp_path / f"{minutes}.csv")])
        )
        path.unlink()
    # 50 minutes more are 192 MB as samples. Rows are in memory up to SPILL_BYTES, twice while they are joined.
    assert peaks[1] < peaks[0] + 2 * SPILL_BYTES + 30e6, peaks


def _peak_of(words: list[str]) -> float:
    """Return the most memory that a command uses, bytes."""
    program = (
        "import resource, sys; from hear_audiomamba.cli import main; assert main(sys.argv[1:]) == 0; "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    line = [sys.executable, "-c", program, *words, "--workers", "0", "--threads", "1", "--quiet"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024
    return int(done.stdout.split()[-1]) * unit
