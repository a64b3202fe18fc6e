"""Two workers of a Ray cluster on this machine: the same files, also when one of them is killed."""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest

from hear_audiomamba.archive.cluster import embed_on_ray
from hear_audiomamba.archive.options import EmbedOptions
from hear_audiomamba.archive.run import Resources, embed_sources
from hear_audiomamba.archive.sources import find_sources
from hear_audiomamba.errors import DataError, MissingPackageError

from .conftest import TINY, digest_tree

ARGUMENTS = dict(TINY)


def test_without_ray_or_a_cluster_the_error_says_so(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)
        with pytest.raises(MissingPackageError, match="--ray needs ray: pip install"):
            embed_on_ray([], ARGUMENTS, "out", EmbedOptions(), Resources(), "local")
    pytest.importorskip("ray")
    with pytest.raises(DataError, match="no Ray cluster there"):
        embed_on_ray([], ARGUMENTS, "out", EmbedOptions(), Resources(), "127.0.0.1:1")


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    environment = {"env_vars": {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}}
    ray.init(num_cpus=2, include_dashboard=False, runtime_env=environment, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("kill", [False, True])
def test_two_workers_give_what_one_process_gives(cluster, tiny_model, make_archive, tmp_path, kill):
    folder = make_archive(60, (0.5, 3.0))
    (folder / "group0" / "corrupt.wav").write_bytes(b"nothing to hear")
    sources = find_sources([folder])
    options = EmbedOptions(timestamps=True, format="parquet", shard_sources=4)
    embed_sources(sources, tiny_model, tmp_path / "alone", options, Resources(workers=0))
    victims: list[int] = []
    if kill:
        threading.Thread(target=kill_a_worker, args=(tmp_path / "ray", victims), daemon=True).start()
    summary = embed_on_ray(
        sources, ARGUMENTS, tmp_path / "ray", options, Resources(workers=0), "local", n_actors=2
    )
    assert (summary.sources, summary.failed) == (61, 1)
    assert len(victims) == kill
    assert digest_tree(tmp_path / "ray") == digest_tree(tmp_path / "alone")
    assert (
        embed_on_ray(sources, ARGUMENTS, tmp_path / "ray", options, Resources(workers=0), "local").resumed
        == 61
    )


def kill_a_worker(out, victims: list[int]) -> None:
    """Kill one of the processes that embed, once the first unit is done."""
    import psutil

    deadline = time.monotonic() + 900
    while not list(out.glob("scene-*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.02)
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if command.startswith("ray::") and "MapWorker" in command:
            process.kill()
            victims.append(process.pid)
            return
