"""The build of the compiled kernel: it works where there is a compiler, and never fails an install."""

from __future__ import annotations

import ctypes
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def build_kernel(monkeypatch):
    if not (ROOT / "build_kernel.py").is_file():
        pytest.skip("build_kernel.py is part of a checkout, not of an installed package")
    monkeypatch.syspath_prepend(str(ROOT))
    import build_kernel

    yield build_kernel
    sys.modules.pop("build_kernel", None)


def command(build_kernel, folder):
    from setuptools import Distribution

    command = build_kernel.BuildKernel(Distribution({"ext_modules": [build_kernel.KERNEL]}))
    command.build_lib, command.build_temp = str(folder), str(folder / "temp")
    command.ensure_finalized()
    return command


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_a_build_gives_a_library_with_the_c_interface(build_kernel, tmp_path):
    command(build_kernel, tmp_path).run()
    library = ctypes.CDLL(str(tmp_path / "hear_audiomamba/ops/_kernels.so"))
    library.audiomamba_choose.restype = ctypes.c_char_p
    assert library.audiomamba_choose(b"portable") == b"portable"
    assert library.audiomamba_choose(b"nonsense") is None


@pytest.mark.parametrize("compiler", ("/nowhere/g++", "false"))
def test_a_failed_build_is_one_line_and_no_error(build_kernel, tmp_path, monkeypatch, capfd, compiler):
    monkeypatch.setenv("CXX", compiler)
    command(build_kernel, tmp_path).run()
    assert not list(tmp_path.rglob("*.so"))
    lines = [line for line in capfd.readouterr().err.splitlines() if "hear_audiomamba" in line]
    assert len(lines) == 1 and "PyTorch will be used" in lines[0]
