"""How many cores this process may use: by its affinity, and by the share that its container or batch job has."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

_THREADS = "OMP_NUM_THREADS"


def available_cores(system: Path = Path("/")) -> int:
    """Return the cores that this process may keep busy, at least 1.

    `os.cpu_count` counts those of the whole machine. With more threads than its share, a container is stopped for
    a part of each tenth of a second.

    Args:
        system: the root of the file system that control groups are looked up in.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, int(min(cores, _share(system))))


def limit_threads(environment: MutableMapping[str, str], system: Path = Path("/")) -> None:
    """Keep the libraries' threads within a container's share; call it before torch and numpy are imported.

    They ask for the affinity themselves, but not for the share. A number that the user has set is left alone.

    Args:
        environment: variables of the process.
        system: see `available_cores`.
    """
    cores = available_cores(system)
    if _THREADS not in environment and cores < available_cores(system / "none"):
        environment[_THREADS] = str(cores)


def _share(system: Path) -> float:
    """Return the least share of cores that this process's control groups allow; infinite where there is no limit."""
    least = float("inf")
    with suppress(OSError, ValueError):
        for line in (system / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, kinds, own = line.split(":", 2)
            if kinds and "cpu" not in kinds.split(","):
                continue
            # Version 2 has one tree for all; version 1 one for each kind, often under a name that joins several.
            for name in {kinds, "cpu"} if kinds else {"", "unified"}:
                # A container sees its own group at the top, whatever its path outside is.
                top = system / "sys/fs/cgroup" / name
                least = min([least, *(_quota(top.joinpath(*parts)) for parts in _upwards(own))])
    return least


def _upwards(path: str) -> list[list[str]]:
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [parts[:n] for n in range(len(parts), -1, -1)]


def _quota(group: Path) -> float:
    with suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text(encoding="utf-8").split()
        return float("inf") if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota, period = (
            (group / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period")
        )
        return int(quota) / int(period) if int(quota) > 0 else float("inf")
    return float("inf")
