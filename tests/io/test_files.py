"""Files appear when they are complete or not at all; refusals name the file."""

from __future__ import annotations

import ast
import errno
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import hear_audiomamba
from hear_audiomamba.errors import AudioMambaError, DataError, OutputError
from hear_audiomamba.io import files
from hear_audiomamba.io.locks import locked

LONGEST_NAME = "é" * 125 + ".json"  # 255 bytes, the most that common file systems take


def test_a_file_is_seen_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.json"
    files.write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), files.replacing(path) as partial:
        partial.write_text("half of the n")
        assert path.read_text() == "old"
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["a.json"], "something was left behind"
    with files.replacing(path) as partial:
        assert partial.suffix == ".json", "libraries choose the format by it"
        partial.write_text("new")
    assert path.read_text() == "new"


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077, 0o027])
def test_the_umask_decides_who_may_read(tmp_path, umask):
    before = os.umask(umask)
    try:
        files.write_text(tmp_path / "file", "x")
        with files.replacing(tmp_path / "private") as partial:  # as newer versions of safetensors write
            partial.unlink()
            os.close(os.open(partial, os.O_CREAT | os.O_WRONLY, 0o600))
        with files.replacing_folder(tmp_path / "folder") as partial:
            (partial / "a").write_text("x")
            os.close(os.open(partial / "private", os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(before)
    for name in ("file", "private", "folder/a", "folder/private"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~umask, name
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~umask


def test_threads_write_at_once_without_touching_the_umask(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask is the whole process's"))
    threads = [
        threading.Thread(target=files.write_text, args=(tmp_path / "same", str(i) * 9999)) for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set((tmp_path / "same").read_text())) == 1, "two writers were mixed"
    assert len(list(tmp_path.iterdir())) == 1


def test_names_as_long_as_the_file_system_allows(tmp_path):
    files.write_json(tmp_path / LONGEST_NAME, {"a": 1})
    assert files.read_json(tmp_path / LONGEST_NAME) == {"a": 1}
    ending = "a." + "m" * 253
    files.write_text(tmp_path / ending, "x")
    assert (tmp_path / ending).read_text() == "x"


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "step"
    for content in ("one", "two"):
        with files.replacing_folder(target) as partial:
            (partial / "sub").mkdir()
            (partial / "sub" / content).write_text(content)
    assert [p.name for p in (target / "sub").iterdir()] == ["two"]
    with pytest.raises(RuntimeError), files.replacing_folder(target) as partial:
        (partial / "three").write_text("x")
        raise RuntimeError
    assert (target / "sub" / "two").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["step"]


def test_what_a_kill_left_is_found_and_removed(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from hear_audiomamba.io import files\n"
        "out = Path(sys.argv[1])\n"
        "with files.replacing(out / 'a.txt') as partial, files.replacing_folder(out / 'f') as folder:\n"
        "    partial.write_text('half'); (folder / 'x').write_text('half'); os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert done.returncode == 9
    assert not (tmp_path / "a.txt").exists() and not (tmp_path / "f").exists()
    assert len(list(tmp_path.iterdir())) == 2
    files.remove_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_refusals_are_typed_and_name_the_file(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "below", tmp_path / "folder"):
        with pytest.raises(OutputError) as caught:
            files.write_text(path, "x")
        assert str(caught.value).startswith(f"{path}: cannot be written: ")
        assert files.UNFINISHED not in str(caught.value)
        assert isinstance(caught.value, OSError) and caught.value.errno
    assert isinstance(caught.value, AudioMambaError)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a device that is always full")
def test_a_full_disk_is_an_error_of_the_file_and_a_device_is_no_file(tmp_path):
    with pytest.raises(OutputError, match=r"^/dev/full: cannot be written: No space left"):
        files.write_text("/dev/full", "x")
    assert not Path("/dev/full").is_file(), "the device was replaced by a file"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_file_systems_that_cannot_sync_are_written_to_all_the_same(tmp_path, monkeypatch, number):
    def refuse(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    files.write_text(tmp_path / "a", "x")
    with files.replacing_folder(tmp_path / "f") as partial:
        (partial / "b").write_text("y")
    assert (tmp_path / "a").read_text() == "x" and (tmp_path / "f" / "b").read_text() == "y"


def test_a_disk_that_fails_while_syncing_is_not_passed_over(tmp_path, monkeypatch):
    def fail(handle):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        files.write_text(tmp_path / "a", "x")
    assert list(tmp_path.iterdir()) == []


def test_json_is_strict_and_comes_back_or_is_refused(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": float("nan"), "b": [float("-inf"), 1.5], "c": {"d": float("inf")}})
    json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert files.read_json(path) == {"a": "nan", "b": ["-inf", 1.5], "c": {"d": "inf"}}
    for text, reason in (
        ("[1]", "expected a JSON object, got list"),
        ('{"a": ', "cannot be read"),
        ("[" * 100_000, "cannot be read"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=reason):
            files.read_json(path)
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(DataError, match="cannot be read"):
        files.read_json(path)
    with pytest.raises(DataError, match="no such file"):
        files.read_json(tmp_path / "none.json")


def test_hashes_are_those_of_the_content(tmp_path):
    content = os.urandom((1 << 20) + 17)
    (tmp_path / "a").write_bytes(content)
    assert files.sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("below", [".", "a", "a/b"])
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path, below):
    (tmp_path / "notes.txt").write_text("x")
    place = tmp_path / "notes.txt" / below
    said = f"{tmp_path / 'notes.txt'} is not a folder"
    for make in (
        lambda: files.make_folder(place),
        lambda: files.write_text(place / "x", "x"),
        lambda: files.replacing_folder(place / "x").__enter__(),
        lambda: locked(place / "lock", "busy").__enter__(),
    ):
        with pytest.raises(OutputError, match=re.escape(said)):
            make()
    assert (tmp_path / "notes.txt").read_text() == "x"


def test_files_are_synced_where_no_thread_can_start(tmp_path, monkeypatch):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(b"x")
    synced = []
    monkeypatch.setattr(files, "sync", synced.append)

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    files.sync_all(iter(paths))
    assert synced == paths


def test_texts_are_read_and_written_with_an_encoding():
    """The locale's own, on Windows, is not UTF-8."""
    package, found = Path(hear_audiomamba.__file__).parent, []
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                n_before = {"read_text": 0, "write_text": 1}.get(node.func.attr)
                if n_before == len(node.args) and "encoding" not in {word.arg for word in node.keywords}:
                    found.append(f"{path.name}:{node.lineno}")
    assert found == []
