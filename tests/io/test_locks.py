"""A lock has one holder, on file systems that have locks and on those that have none."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from hear_audiomamba.errors import DataError, OutputError
from hear_audiomamba.io.locks import locked

HOLD = """
import sys
from hear_audiomamba.io.locks import locked
from hear_audiomamba.errors import DataError
try:
    with locked(sys.argv[1], "somebody works here"):
        print("held", flush=True)
        sys.stdin.readline()
except DataError as error:
    print(error, flush=True)
"""


def hold(path, environment=None):
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip


def test_a_lock_has_one_holder_and_ends_with_its_process(tmp_path):
    first = hold(tmp_path / "lock")
    assert first.stdout.readline() == "held\n"
    second = hold(tmp_path / "lock")
    assert second.stdout.readline() == "somebody works here\n"
    first.kill()
    first.communicate()
    third = hold(tmp_path / "lock")
    assert third.stdout.readline() == "held\n"
    third.communicate("\n")
    second.communicate()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_still_has_one_holder(tmp_path, monkeypatch, number):
    fcntl = pytest.importorskip("fcntl", reason="POSIX's locks")

    def refuse(handle, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        locked(tmp_path / "lock", "somebody works here"),
        pytest.raises(DataError, match="somebody works here"),
        locked(tmp_path / "lock", "somebody works here"),
    ):
        pytest.fail("two hold the lock")
    with locked(tmp_path / "lock", "somebody works here"):
        pass


def test_a_lock_in_a_folder_that_cannot_be_written_names_it(tmp_path):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(OutputError, match=r"file/lock.*: cannot be written"),
        locked(tmp_path / "file" / "lock", "busy"),
    ):
        pass
