"""Run the tests once under each setting, as they would run on other processors, and print a table.

python tools/processor_settings.py                                        every setting, all default tests
python tools/processor_settings.py no-vectors avx2 -- tests/ops -x        two settings, with arguments for pytest

`make test-settings` does the same; CONTRIBUTING.md says what the settings stand for. Exit status 0 when all pass.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

# What each library reads: PyTorch's own loops, oneDNN, MKL, and this package's kernels.
SETTINGS = {
    "no-vectors": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "AUDIOMAMBA_ISA": "portable",
    },
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "AUDIOMAMBA_ISA": "avx2",
    },
    "torch-default": {"ATEN_CPU_CAPABILITY": "default"},
    "torch-avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "onednn-avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "onednn-avx512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "mkl-avx2": {"MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "kernel-avx2": {"AUDIOMAMBA_ISA": "avx2"},
    "kernel-portable": {"AUDIOMAMBA_ISA": "portable"},
    "one-thread": {"OMP_NUM_THREADS": "1"},
    "two-threads": {"OMP_NUM_THREADS": "2"},
}


def main() -> int:
    """Run pytest under each setting; return 1 if any run failed."""
    own, pytest_arguments = sys.argv[1:], []
    if "--" in own:
        at = own.index("--")
        own, pytest_arguments = own[:at], own[at + 1 :]
    parser = argparse.ArgumentParser(usage="%(prog)s [SETTING …] [-- PYTEST ARGUMENT …]", description=__doc__)
    parser.add_argument(
        "settings", nargs="*", metavar="SETTING", help=f"any of {', '.join(SETTINGS)}; all if none"
    )
    names = parser.parse_args(own).settings or list(SETTINGS)
    if unknown := [name for name in names if name not in SETTINGS]:
        parser.error(f"unknown setting {unknown[0]!r}; known: {', '.join(SETTINGS)}")

    lines, failed = [], False
    for name in names:
        setting = SETTINGS[name]
        print(f"== {name}: {' '.join(f'{key}={value}' for key, value in setting.items())}", flush=True)
        start = time.monotonic()
        status = subprocess.run(
            [sys.executable, "-m", "pytest", *pytest_arguments], env=os.environ | setting
        ).returncode
        failed |= status != 0
        outcome = "passed" if status == 0 else f"failed (pytest's exit status {status})"
        lines.append(f"{name:16} {outcome}, {time.monotonic() - start:.0f} s")
    print("\n".join(["", *lines]))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
