"""Decoding processes: in order, without torch, and with nothing but its own file lost in a crash."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import threading

import numpy as np
import pytest

from hear_audiomamba.archive import workers
from hear_audiomamba.archive.decode import Block, DecodeSettings, decode_source
from hear_audiomamba.archive.sources import Source, find_sources
from hear_audiomamba.archive.workers import Failure, decode_all
from hear_audiomamba.io.audio import load_audio

from .conftest import write_noise

SETTINGS = DecodeSettings(16000)


def collect(sources, n_workers, settings=SETTINGS):
    """Return name and samples, or the failure, of every source."""
    results = []
    for source, blocks in decode_all(sources, settings, n_workers):
        blocks = list(blocks)
        failed = [block for block in blocks if isinstance(block, Failure)]
        samples = failed[0] if failed else np.concatenate([block.samples for block in blocks])
        results.append((source.name, samples))
    return results


def test_processes_give_what_decoding_here_gives(make_archive):
    folder = make_archive(40, (0.05, 0.5))
    (folder / "group1" / "broken.wav").write_bytes(b"RIFF, or not")
    sources = find_sources([folder])
    here, there = collect(sources, 0), collect(sources, 3)
    assert [name for name, _ in here] == [name for name, _ in there] == [s.name for s in sources]
    for (_, a), (_, b) in zip(here, there):
        assert type(a) is type(b)
        assert a == b if isinstance(a, Failure) else np.array_equal(a, b)
    assert sum(isinstance(samples, Failure) for _, samples in there) == 1


def test_a_decoder_that_dies_costs_one_file(make_archive, monkeypatch):
    sources = find_sources([make_archive(12, (0.05, 0.1))])
    # Stands in for a file that crashes the decoding library: the process ends at it without a word.
    killer = Source("", "killer", member="x", size=-1)
    source = (
        "import os, hear_audiomamba.archive.decode as d\n"
        "inner = d.decode_source\n"
        "def decode(source, settings):\n"
        "    if source.name == 'killer': os.kill(os.getpid(), 9)\n"
        "    return inner(source, settings)\n"
        "d.decode_source = decode\n"
        "import runpy; runpy.run_module('hear_audiomamba.archive.workers', run_name='__main__')\n"
    )
    popen = subprocess.Popen

    def start(command, **options):
        return popen([sys.executable, "-c", source], **options)

    monkeypatch.setattr(workers.subprocess, "Popen", start)
    results = collect([*sources[:5], killer, *sources[5:]], 2)
    assert [name for name, samples in results if isinstance(samples, Failure)] == ["killer"]
    assert "the decoder died on it (signal 9)" in results[5][1]
    assert len(results) == 13


@pytest.mark.parametrize(
    ("start", "said"),
    [("import os, signal; os.kill(os.getpid(), signal.SIGINT)", "signal 2"), ("raise SystemExit(3)", "exit status 3"),
     (OSError(11, "Resource temporarily unavailable"), "Resource temporarily unavailable")],
)  # fmt: skip
def test_where_no_decoder_can_start_no_file_is_lost(make_archive, monkeypatch, start, said):
    """Too few processes or memory for another Python, or one without our libraries: OpenBLAS sends itself a SIGINT."""
    sources = find_sources([make_archive(40, (0.05, 0.1))])
    popen = subprocess.Popen

    def refuse(command, **options):
        if isinstance(start, OSError):
            raise start
        return popen([sys.executable, "-c", start], **options)

    monkeypatch.setattr(workers.subprocess, "Popen", refuse)
    with pytest.warns(UserWarning, match=f"no decoding process can start.*{said}"):
        results = collect(sources, 2)
    for (name, there), (_, here) in zip(results, collect(sources, 0), strict=True):
        np.testing.assert_array_equal(there, here, err_msg=name)


def test_decoders_need_no_torch():
    code = "import sys, hear_audiomamba.archive.workers; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=900)


def test_no_process_and_no_thread_is_left_behind(make_archive, monkeypatch):
    failed = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    before = children()
    decoded = decode_all(find_sources([make_archive(30, (0.05, 0.1))]), SETTINGS, 2)
    next(decoded)
    processes, threads = children() - before, readers()
    decoded.close()
    assert len(processes) >= 2 and not (processes & children())
    assert len(threads) == 2 and not readers() and not failed


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "decoded blocks"]


def children() -> set[str]:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="utf-8") as file:
        return set(file.read().split())


def test_segments_are_the_stretches_of_the_file(tmp_path):
    path = write_noise(tmp_path / "long.wav", 3.3)
    whole = load_audio(path, 16000)
    (source,) = find_sources([path])
    blocks = list(decode_source(source, DecodeSettings(16000, segment_seconds=1.0)))
    assert [(block.start, len(block.samples), block.last) for block in blocks] == [
        (0, 16000, True), (16000, 16000, True), (32000, 16000, True), (48000, 4800, True)
    ]  # fmt: skip
    np.testing.assert_array_equal(np.concatenate([block.samples for block in blocks]), whole)


def test_long_sources_come_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("hear_audiomamba.archive.decode.BLOCK_SECONDS", 0.5)
    (source,) = find_sources([write_noise(tmp_path / "long.wav", 2.2)])
    blocks = list(decode_source(source, SETTINGS))
    assert [(len(block.samples), block.last) for block in blocks] == [(8000, False)] * 4 + [(3200, True)]


def test_tar_members_decode_in_place(tmp_path):
    path = write_noise(tmp_path / "a.ogg", 0.5)
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        tar.add(path, "1.ogg")
        tar.add(path, "2.ogg")
    for source in find_sources([tmp_path / "shard.tar"]):
        (block,) = decode_source(source, SETTINGS)
        assert isinstance(block, Block)
        np.testing.assert_array_equal(block.samples, load_audio(path, 16000))


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_few_files_start_no_process(kind):
    assert workers.default_workers(kind, 3) == 0 and workers.default_workers(kind, 1000) >= 1
