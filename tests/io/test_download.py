"""Downloads go on where they stopped, are checked, and never leave a wrong file under the name asked for."""

from __future__ import annotations

import hashlib
import random
import socket

import pytest

from hear_audiomamba.errors import DownloadError
from hear_audiomamba.io import download as module
from hear_audiomamba.io.download import download, fetch_json

from ..web import Site, serving

CONTENT = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def online(monkeypatch):
    """The tests' own setting forbids the network; the loopback interface is none."""
    for name in module.OFFLINE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "BLOCK", 10_000)


@pytest.fixture
def site():
    site = Site({"/file.bin": CONTENT, "/list.json": b'{"files": [1]}', "/page": b"<html>"})
    with serving(site):
        yield site


def get(site, target, **options):
    return download(f"{site.address}/file.bin", target, pause_seconds=0, **options)


def test_a_file_arrives_whole_and_alone(site, tmp_path):
    seen = []
    path = get(site, tmp_path / "new" / "x.bin", sha256=SHA256, progress=lambda *there: seen.append(there))
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["x.bin"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_cut_connections_go_on_where_they_ended(site, tmp_path):
    site.cut_after = [100_000, 50_000]
    assert get(site, tmp_path / "x", sha256=SHA256).read_bytes() == CONTENT
    assert [wanted for _, wanted in site.asked] == [None, "bytes=100000-", "bytes=150000-"]


def test_a_later_call_goes_on(site, tmp_path):
    site.cut_after = [1000] * module.ATTEMPTS
    with pytest.raises(DownloadError, match=r"5000 bytes are kept, the same call continues"):
        get(site, tmp_path / "x")
    assert not (tmp_path / "x").exists()
    assert get(site, tmp_path / "x", sha256=SHA256).read_bytes() == CONTENT
    assert site.asked[-1][1] == "bytes=5000-"


def test_a_server_without_ranges_sends_all_again(site, tmp_path):
    site.ranges, site.cut_after = False, [100_000]
    assert get(site, tmp_path / "x", sha256=SHA256).read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_not_mixed(site, tmp_path):
    site.files["/file.bin"] = CONTENT[::-1]
    site.cut_after = [1000] * module.ATTEMPTS
    with pytest.raises(DownloadError):
        get(site, tmp_path / "x")
    site.files["/file.bin"] = CONTENT
    assert get(site, tmp_path / "x").read_bytes() == CONTENT
    assert site.asked[-1][1] == "bytes=5000-"  # asked to go on, and sent all of the other file


def test_a_wrong_checksum_leaves_nothing(site, tmp_path):
    for wrong in ({"sha256": "0" * 64}, {"md5": "0" * 32}, {"size": 5}):
        with pytest.raises(DownloadError, match="expected"):
            get(site, tmp_path / "x", **wrong)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_checked_and_kept(site, tmp_path):
    (tmp_path / "x").write_bytes(CONTENT)
    get(site, tmp_path / "x", md5=hashlib.md5(CONTENT).hexdigest())
    assert site.asked == []
    (tmp_path / "x").write_bytes(b"damaged")
    assert get(site, tmp_path / "x", sha256=SHA256).read_bytes() == CONTENT


def test_faults_that_pass_and_faults_that_stay(site, tmp_path):
    site.errors = [503, 500]
    assert get(site, tmp_path / "x", sha256=SHA256).read_bytes() == CONTENT
    with pytest.raises(DownloadError, match="404"):
        download(f"{site.address}/no", tmp_path / "y", pause_seconds=0)
    assert len([path for path, _ in site.asked if path == "/no"]) == 1


def test_no_server_and_no_network(tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DownloadError, match="cannot be reached"):
        download(f"http://127.0.0.1:{port}/x", tmp_path / "x", pause_seconds=0)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="switched off by HF_HUB_OFFLINE"):
        download("http://127.0.0.1/x", tmp_path / "x")
    with pytest.raises(DownloadError, match="http"):
        download("file:///etc/hostname", tmp_path / "x")


def test_json(site):
    assert fetch_json(f"{site.address}/list.json") == {"files": [1]}
    with pytest.raises(DownloadError, match="not JSON"):
        fetch_json(f"{site.address}/page")
