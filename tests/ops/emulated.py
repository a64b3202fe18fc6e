"""The compiled kernels as built for an ARM processor, run by qemu: a stand-in for the library of this machine.

Each call starts a process (emulated.cpp). The memory that the arguments point to is copied into a file, which the
process has in its own memory, and back into the tensors.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
MACHINE = "aarch64"
COMPILER, EMULATOR = f"{MACHINE}-linux-gnu-g++", f"qemu-{MACHINE}"
ADDRESS = 0x20_0000_0000  # of the file, in the memory of the emulated process
ALIGNMENT = 64


class EmulatedLibrary:
    """Has the functions of the shared library, as ctypes gives them."""

    def __init__(self, folder: Path) -> None:
        """Build the library and the program that calls it; OSError where a tool is missing."""
        for tool in (COMPILER, EMULATOR):
            if shutil.which(tool) is None:
                raise OSError(
                    f"no {tool}: Debian's g++-{MACHINE}-linux-gnu (a compiler) and qemu-user have them"
                )
        self._library, self._program, self._memory = (
            folder / name for name in ("kernels.so", "call", "memory")
        )
        build = (
            "import sys, build_kernel; from pathlib import Path; "
            "build_kernel.compile_library(Path(build_kernel.SOURCES), Path(sys.argv[1]))"
        )
        target = {"CXX": COMPILER, "AUDIOMAMBA_TARGET_MACHINE": MACHINE, "AUDIOMAMBA_TARGET_SYSTEM": "Linux"}
        subprocess.run(
            [sys.executable, "-c", build, str(self._library)], check=True, cwd=ROOT, env=os.environ | target
        )
        source = Path(__file__).with_suffix(".cpp")
        flags = ["-std=c++17", "-O1", "-fopenmp"]
        subprocess.run([COMPILER, *flags, str(source), "-o", str(self._program), "-ldl"], check=True)
        self._answers: dict[tuple[str, int], int] = {}

    def __getattr__(self, name: str) -> Callable[..., int]:
        if not name.startswith("audiomamba_"):
            raise AttributeError(name)
        return functools.partial(self._call, name)

    def _call(self, name: str, *arguments: Any) -> int:
        number = arguments[-1].value if arguments else 0
        structs = [bytearray(argument._obj) for argument in arguments[:-1]]
        if not structs:  # a question, whose answer stays the same
            if (name, number) not in self._answers:
                self._memory.write_bytes(b"")
                self._answers[name, number] = self._run(name, number, [])
            return self._answers[name, number]
        with self._memory.open("w+b") as memory:
            blocks = {
                start: (self._append(memory, start, size), size) for start, size in _pointed_at(structs)
            }
            for struct in structs:
                _redirect(struct, blocks)
            places = [self._append(memory, *_address_and_size(struct)) for struct in structs]
            memory.flush()
            status = self._run(name, number, places)
            for start, (place, size) in blocks.items():
                memory.seek(place - ADDRESS)
                ctypes.memmove(start, memory.read(size), size)
        return status

    @staticmethod
    def _append(memory: Any, start: int, size: int) -> int:
        """Add bytes of this process to the file; return their address in the emulated one."""
        memory.seek(-memory.tell() % ALIGNMENT, os.SEEK_CUR)
        place = ADDRESS + memory.tell()
        memory.write(ctypes.string_at(start, size))
        return place

    def _run(self, name: str, number: int, places: list[int]) -> int:
        command = [
            EMULATOR,
            "-L",
            f"/usr/{MACHINE}-linux-gnu",
            self._program,
            self._library,
            self._memory,
            ADDRESS,
        ]
        done = subprocess.run(
            [*map(str, [*command, name, number, *places])], check=True, capture_output=True, text=True
        )
        return int(done.stdout)


def _address_and_size(struct: bytearray) -> tuple[int, int]:
    return ctypes.addressof(ctypes.c_char.from_buffer(struct)), len(struct)


def _pointed_at(structs: list[bytearray]) -> list[tuple[int, int]]:
    """Return address and size of the memory of each tensor that a struct points into."""
    words = [word for struct in structs for word in memoryview(struct).cast("q")]
    storages = [
        t.untyped_storage() for t in gc.get_objects() if type(t) in (torch.Tensor, torch.nn.Parameter)
    ]
    blocks = {(storage.data_ptr(), storage.nbytes()) for storage in storages if storage.device.type == "cpu"}
    return [(start, size) for start, size in blocks if any(start <= word < start + size for word in words)]


def _redirect(struct: bytearray, blocks: dict[int, tuple[int, int]]) -> None:
    """Replace addresses of this process by those of the emulated one."""
    words = memoryview(struct).cast("q")
    for i, word in enumerate(words):
        for start, (place, size) in blocks.items():
            if start <= word < start + size:
                words[i] = place + word - start
