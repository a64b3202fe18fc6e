"""A wheel fits every Python, carries the compiled kernel and the weights, and needs no compiler to be used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "setup.py").is_file(), reason="wheels are built from a checkout"),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    # What an earlier build of another version left there.
    stale = (
        source
        / "build"
        / f"lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
        / "hear_audiomamba"
    )
    (stale / "bundled" / "weights").mkdir(parents=True)
    for name in ("gone.py", "bundled/weights/gone.safetensors"):
        (stale / name).touch()
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_the_name_says_any_python_and_this_platform(wheel):
    _, _, python, abi, platform = wheel.stem.split("-")
    assert (python, abi) == ("py3", "none")
    assert platform != "any"


def test_what_is_inside(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "hear_audiomamba/ops/_kernels.so" in names
    assert "hear_audiomamba/bundled/weights/manifest.json" in names
    assert "hear_audiomamba/bundled/tasks.txt" in names
    assert not [name for name in names if "gone" in name]
    assert not [name for name in names if name.startswith(("tests/", "recipes/", "benchmarks/"))]


@pytest.mark.skipif(shutil.which("g++") is None, reason="the wheel was built without a compiler")
def test_installed_without_a_compiler_it_uses_the_compiled_kernel(wheel, tmp_path):
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    program = (
        "import shutil, torch, hear_audiomamba\n"
        "from hear_audiomamba import get_scene_embeddings, load_model\n"
        "from hear_audiomamba.ops import native\n"
        "assert shutil.which('g++') is None and shutil.which('c++') is None\n"
        "scene = get_scene_embeddings(torch.zeros(1, 16000), load_model(device='cpu'))\n"
        "print(hear_audiomamba.__file__, native.isa(), tuple(scene.shape))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(target), "PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, env=environment, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    file, isa, *shape = done.stdout.split()
    assert Path(file).is_relative_to(target)
    assert isa in ("avx512", "avx2", "portable")
    assert " ".join(shape) == "(1, 960)"
