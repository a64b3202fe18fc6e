"""The cores that a process may use: its affinity, and the share of its control group."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hear_audiomamba.io.cores import available_cores, limit_threads

WHOLE = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1

# What stands in /proc/self/cgroup, and files under /sys/fs/cgroup.
GROUPS = {
    "version 2": ("0::/\n", {"cpu.max": "100000 100000"}),
    "version 2, the group above": (
        "0::/job/step\n",
        {"job/cpu.max": "150000 100000", "job/step/cpu.max": "max 100000"},
    ),
    "version 1": (
        "5:memory:/x\n4:cpu,cpuacct:/docker/12\n",
        {"cpu,cpuacct/cpu.cfs_quota_us": "100000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
    ),
    "version 1, alone": (
        "1:cpu:/slurm/1\n0::/\n",
        {"cpu/slurm/1/cpu.cfs_quota_us": "20000\n", "cpu/slurm/1/cpu.cfs_period_us": "100000\n"},
    ),
}
UNLIMITED = {
    "none": (None, {}),
    "max": ("0::/\n", {"cpu.max": "max 100000"}),
    "-1": ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}),
    "damaged": ("0::/\n", {"cpu.max": "?"}),
    "more than there is": ("0::/\n", {"cpu.max": "100000000 100000"}),
    "of another kind": ("3:cpuset:/\n", {"cpu.max": "100000 100000"}),
}


@pytest.fixture
def system(tmp_path, request):
    groups, files = request.param
    if groups is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize("system", GROUPS.values(), ids=list(GROUPS), indirect=True)
def test_a_share_of_the_machine(system):
    assert available_cores(system) == 1
    environment: dict[str, str] = {}
    limit_threads(environment, system)
    assert environment == ({"OMP_NUM_THREADS": "1"} if WHOLE > 1 else {})
    environment = {"OMP_NUM_THREADS": "7"}
    limit_threads(environment, system)
    assert environment == {"OMP_NUM_THREADS": "7"}


@pytest.mark.parametrize("system", UNLIMITED.values(), ids=list(UNLIMITED), indirect=True)
def test_no_limit(system):
    assert available_cores(system) == WHOLE
    environment: dict[str, str] = {}
    limit_threads(environment, system)
    assert environment == {}


def test_affinity(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from hear_audiomamba.io.cores import available_cores\n"
        "if sys.platform == 'linux': os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "print(available_cores(Path(sys.argv[1])) == (1 if sys.platform == 'linux' else os.cpu_count()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"
