"""Other systems and file systems: no fcntl, no fork, no folder fsync, long names, folders that are closed."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from hear_audiomamba.archive import sources as source_module
from hear_audiomamba.archive.journal import Journal, _evenly
from hear_audiomamba.archive.npz import NpzWriter
from hear_audiomamba.archive.options import EmbedOptions
from hear_audiomamba.archive.run import Resources, embed_sources
from hear_audiomamba.archive.sources import Source, find_sources, windows_name
from hear_audiomamba.errors import ConfigError, DataError

from .conftest import TINY, write_noise

HERE = Resources(workers=0)

# What Windows or macOS lack, taken away before anything of ours is imported.
ELSEWHERE = """
import os, subprocess, sys, warnings
import numpy, pyarrow.parquet, soundfile, soxr, safetensors.torch, torch  # built for this system, not for those
warnings.simplefilter("ignore")
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in [name for name in sys.modules if name.partition(".")[0] == "filelock"]:
    del sys.modules[name]
import filelock
for name in ("fork", "sched_getaffinity", "O_DIRECTORY"):
    if hasattr(os, name):
        delattr(os, name)
os_open, popen = os.open, subprocess.Popen
def no_folders(path, *args, **options):
    ours = sys._getframe(1).f_globals["__name__"].startswith("hear_audiomamba")
    if ours and os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return os_open(path, *args, **options)
os.open = no_folders
def spawn(command, *args, **options):
    assert not {"pass_fds", "preexec_fn"} & options.keys(), options
    return popen(command, *args, **options)
subprocess.Popen = spawn
sys.platform = "darwin"
import json
from hear_audiomamba import load_model
from hear_audiomamba.archive.options import EmbedOptions
from hear_audiomamba.archive.run import Resources, embed_sources
from hear_audiomamba.archive.sources import find_sources
model = load_model(**json.loads(sys.argv[3]))
options = EmbedOptions(timestamps=True, format=sys.argv[4])
summary = embed_sources(find_sources([sys.argv[1]]), model, sys.argv[2], options, Resources(workers=2))
assert not summary.failed, summary.errors
print(summary.embedded, summary.resumed)
"""


@pytest.mark.parametrize("format", ["npz", "parquet"])
def test_what_other_systems_lack_is_not_needed(make_archive, tmp_path, format):
    words = [make_archive(8, (0.05, 0.3)), tmp_path / "out", json.dumps(TINY), format]
    for expected in ("8 0", "8 8"):
        done = subprocess.run(
            [sys.executable, "-c", ELSEWHERE, *map(str, words)], capture_output=True, text=True, timeout=900,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == expected.split()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_network_drives_without_locks_still_have_one_writer(
    tiny_model, make_archive, tmp_path, monkeypatch, number
):
    fcntl = pytest.importorskip("fcntl", reason="POSIX's locks")

    def refuse(handle, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    sources, out = find_sources([make_archive(3, (0.1, 0.2))]), tmp_path / "out"
    with Journal(out, {}), pytest.raises(DataError, match="another process is writing there"):
        embed_sources(sources, tiny_model, out, resources=HERE)
    assert embed_sources(sources, tiny_model, out, resources=HERE).embedded == 3


def test_a_folder_that_cannot_be_searched_is_one_item_among_others(
    tiny_model, make_archive, tmp_path, monkeypatch
):
    folder = make_archive(3, (0.1, 0.2))
    (folder / "lost+found").mkdir()
    inner = os.scandir

    def scandir(path):
        if str(path).endswith("lost+found"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return inner(path)

    monkeypatch.setattr(os, "scandir", scandir)  # permissions do not keep root out
    summary = embed_sources(find_sources([folder]), tiny_model, tmp_path / "out", resources=HERE)
    assert (summary.embedded, summary.failed) == (3, 1)
    assert summary.errors[0]["reason"].endswith(
        "lost+found: the folder cannot be searched: Permission denied"
    )
    with pytest.raises(DataError, match=r"lost\+found: the folder cannot be searched"):
        find_sources([folder / "lost+found"])
    monkeypatch.setattr(os, "scandir", inner)
    write_noise(folder / "lost+found" / "found.wav", 0.1)
    again = embed_sources(find_sources([folder]), tiny_model, tmp_path / "out", resources=HERE)
    assert (again.embedded, again.failed) == (4, 1), "the folder stays on record until --retry-errors"


def test_names_as_long_as_file_systems_allow(tiny_model, tmp_path):
    folder = tmp_path / "audio" / ("ö" * 127)
    folder.mkdir(parents=True)
    write_noise(tmp_path / "short.wav", 0.1)
    long = ["m" * 251 + ".wav", "m" * 250 + "n.wav", "é" * 125 + "m.wav", "x." + "w" * 253]
    for name in long[:3]:
        os.link(tmp_path / "short.wav", folder / name)
    os.link(tmp_path / "short.wav", tmp_path / long[3])
    sources = find_sources([tmp_path / "audio", tmp_path / long[3]])
    for _ in range(2):
        summary = embed_sources(sources, tiny_model, tmp_path / "out", resources=HERE)
        assert (summary.embedded, summary.failed) == (4, 0)
    results = [path.name for path in (tmp_path / "out").rglob("*.npz")]
    assert len(set(results)) == 4 and all(len(os.fsencode(name)) <= 255 for name in results)


def test_a_name_that_the_output_cannot_store_costs_one_file(tiny_model, make_archive, tmp_path, monkeypatch):
    inner = NpzWriter.add

    def add(self, source, clips):
        if "0001" in source.name:  # as exFAT answers to a name with a colon
            raise OSError(errno.EINVAL, "Invalid argument")
        inner(self, source, clips)

    monkeypatch.setattr(NpzWriter, "add", add)
    sources = find_sources([make_archive(4, (0.1, 0.2))])
    summary = embed_sources(sources, tiny_model, tmp_path / "out", resources=HERE)
    assert (summary.embedded, summary.failed) == (3, 1)
    assert "its result cannot be written: Invalid argument" in summary.errors[0]["reason"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("..\\..\\up.wav", ".._.._up.wav"),
        ("C:\\Windows\\x.wav", "C__Windows_x.wav"),
        ("a/con.wav", "a/_con.wav"),
        ("what?.wav", "what_.wav"),
        ("dots. . /b.wav", "dots/b.wav"),
        ("Straße 3.wav", "Straße 3.wav"),
    ],
)
def test_names_on_windows_stay_in_the_folder_and_are_no_devices(name, expected, monkeypatch):
    assert windows_name(name) == expected
    monkeypatch.setattr(source_module.os, "name", "nt")
    assert source_module._safe_name(Source("x.tar", name, member=name)) == expected


def test_a_source_that_cannot_be_read_any_more_loses_its_embedding(tiny_model, make_archive, tmp_path):
    folder, out = make_archive(4, (0.1, 0.2)), tmp_path / "out"
    embed_sources(find_sources([folder]), tiny_model, out, resources=HERE)
    damaged, kept = folder / "group1" / "clip0001.wav", folder / "group0" / "clip0000.wav"
    damaged.write_bytes(b"no audio any more")
    summary = embed_sources(find_sources([folder]), tiny_model, out, resources=HERE)
    assert (summary.embedded, summary.failed) == (3, 1)
    assert not (out / "group1" / "clip0001.wav.npz").exists()
    (tmp_path / "list.csv").write_text(f"path\n{kept}\n{tmp_path / 'moved.wav'}\n")
    write_noise(tmp_path / "moved.wav", 0.1)
    other = tmp_path / "other"
    assert embed_sources(find_sources([tmp_path / "list.csv"]), tiny_model, other, resources=HERE).failed == 0
    (tmp_path / "moved.wav").unlink()
    assert embed_sources(find_sources([tmp_path / "list.csv"]), tiny_model, other, resources=HERE).failed == 1
    assert not (other / "moved.wav.npz").exists() and (other / "clip0000.wav.npz").exists()


def test_a_shard_without_any_readable_source_is_deleted(tiny_model, make_archive, tmp_path):
    folder, out = make_archive(2, (0.1, 0.2)), tmp_path / "out"
    options = EmbedOptions(format="npy", shard_sources=1)
    embed_sources(find_sources([folder]), tiny_model, out, options, HERE)
    (folder / "group0" / "clip0000.wav").write_bytes(b"no audio any more")
    embed_sources(find_sources([folder]), tiny_model, out, options, HERE)
    assert sorted(path.name for path in out.glob("scene-*")) == ["scene-00001.jsonl", "scene-00001.npy"]


@pytest.mark.parametrize(("n_files", "n_shares"), [(5, 4), (124, 8), (7, 2)])
def test_small_folders_are_shared_evenly(tiny_model, make_archive, tmp_path, n_files, n_shares):
    sources = find_sources([make_archive(n_files, (0.05, 0.06))])
    counts = []
    for index in range(n_shares):
        share = Resources(workers=0, share=(index, n_shares))
        counts.append(embed_sources(sources, tiny_model, tmp_path / "out", resources=share).embedded)
    assert sum(counts) == n_files
    assert max(counts) <= -(-n_files // n_shares)
    assert len(list((tmp_path / "out").rglob("*.npz"))) == n_files


@pytest.mark.parametrize("n_sources", [1, 5, 512, 513, 2000, 100_000])
@pytest.mark.parametrize("shares", [1, 3, 16])
def test_every_share_gets_as_many_units(n_sources, shares):
    size = _evenly(n_sources, 512, shares)
    units = -(-n_sources // size)
    assert 1 <= size <= 512
    assert shares == 1 or max(0, units - 1) // shares * shares * size <= n_sources
    most = -(-units // shares) * size
    assert most <= n_sources / shares + size


def test_settings_of_a_run_that_made_nothing_do_not_block_the_folder(tiny_model, make_archive, tmp_path):
    sources, out = find_sources([make_archive(2, (0.1, 0.2))]), tmp_path / "out"

    def interrupt(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="interrupted: 0 of 2 done"):
        embed_sources(sources, tiny_model, out, EmbedOptions(dtype="float16"), HERE, interrupt)
    assert embed_sources(sources, tiny_model, out, resources=HERE).embedded == 2
    for bad in ({"workers": -1}, {"workers": 5000}, {"share": (2, 2)}):
        with pytest.raises(ConfigError, match="expected"):
            Resources(**bad)


def test_old_journals_are_gone_on_with(tiny_model, make_archive, tmp_path):
    folder, out = make_archive(3, (0.1, 0.2)), tmp_path / "out"
    embed_sources(find_sources([folder]), tiny_model, out, resources=HERE)
    (out / ".hear-audiomamba" / "lock").write_text("")  # left behind by an earlier version
    scene = np.load(out / "group0" / "clip0000.wav.npz")["scene"]
    assert embed_sources(find_sources([folder]), tiny_model, out, resources=HERE).resumed == 3
    np.testing.assert_array_equal(np.load(out / "group0" / "clip0000.wav.npz")["scene"], scene)
