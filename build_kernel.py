"""Build of the optional compiled CPU kernel: a plain shared library, one C++ source per instruction set.

`setup.py` uses `BuildKernel` and `KERNEL`; `python build_kernel.py` builds in place for development.
A build that fails is reported in one line and never fails the install: the package then runs in PyTorch.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Extension
from setuptools.command.build_ext import build_ext

SOURCES = Path("hear_audiomamba/ops/csrc")
LIBRARY = Path("hear_audiomamba/ops/_kernels.so")
KERNEL = Extension("hear_audiomamba.ops._kernels", sources=[], optional=True)

COMMON = ["-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi"]
POSIX = ["-fPIC", "-pthread"]
X86 = {
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma"],
    "avx2": ["-mavx2", "-mfma"],
}


class BuildKernel(build_ext):
    """setuptools' build_ext, with one compiler call per instruction set and no Python headers."""

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extension(self, ext: Extension) -> None:
        try:
            compile_library(Path(__file__).resolve().parent / SOURCES, Path(self.get_ext_fullpath(ext.name)))
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", None) or str(error)
            first_line = reason.strip().splitlines()[0] if reason.strip() else type(error).__name__
            sys.stderr.write(f"hear_audiomamba: no compiled kernel ({first_line}); PyTorch will be used\n")

    def copy_extensions_to_source(self) -> None:
        if Path(self.build_lib, self.get_ext_filename(KERNEL.name)).is_file():
            super().copy_extensions_to_source()


def compile_library(sources: Path, target: Path, extra_flags: tuple[str, ...] = ()) -> None:
    """Compile and link the kernels.

    Args:
        sources: folder with the C++ files.
        target: shared library to write; replaced only once the link has succeeded.
        extra_flags: for every compiler call, such as "-fsanitize=address".

    Environment:
        CXX: the compiler, g++ or clang++; by default the first one found.
        AUDIOMAMBA_TARGET_MACHINE: the processor to build for, as `platform.machine()` names it, when the
            compiler is one for another machine than this.
        AUDIOMAMBA_TARGET_SYSTEM: likewise the system, as `platform.system()` names it.

    Raises:
        OSError: there is no C++ compiler.
        subprocess.CalledProcessError: the compiler failed; its stderr says why.
    """
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("g++", "c++", "clang++")), None)
    if compiler is None:
        raise OSError("no C++ compiler found; install g++")
    machine = os.environ.get("AUDIOMAMBA_TARGET_MACHINE", platform.machine())
    windows = os.environ.get("AUDIOMAMBA_TARGET_SYSTEM", platform.system()) == "Windows"
    common = COMMON if windows else [*COMMON, *POSIX]
    builds = {"portable": []}
    defines = []
    if machine.lower() in ("x86_64", "amd64"):
        builds |= X86
        defines = ["-DAUDIOMAMBA_X86"]
    with tempfile.TemporaryDirectory() as folder:
        jobs = [("kernels.cpp", name, [f"-DAUDIOMAMBA_ISA={name}", *flags]) for name, flags in builds.items()]
        jobs.append(("library.cpp", "library", defines))
        objects = []
        for source, name, flags in jobs:
            objects.append(os.path.join(folder, f"{name}.o"))
            files = ["-c", str(sources / source), "-o", objects[-1]]
            _run([*compiler.split(), *common, *flags, *extra_flags, *files])
        linked = os.path.join(folder, target.name)
        # On Windows the compiler's own libraries may be missing.
        system = ["-static"] if windows else ["-pthread"]
        _run([*compiler.split(), "-shared", *system, *extra_flags, *objects, "-o", linked])
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_suffix(f".{os.getpid()}.tmp")
        shutil.copyfile(linked, beside)
        os.replace(beside, target)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


if __name__ == "__main__":
    root = Path(__file__).resolve().parent
    compile_library(root / SOURCES, root / LIBRARY, tuple(sys.argv[1:]))
