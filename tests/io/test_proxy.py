"""Addresses that begin with https go through the proxy of HTTPS_PROXY, and never past it."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hear_audiomamba.errors import DownloadError
from hear_audiomamba.io.download import OFFLINE_VARIABLES, download

ROOT = Path(__file__).resolve().parents[2]
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture
def asked(monkeypatch):
    """A proxy that notes which hosts it is to connect to, and refuses each."""
    hosts: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_CONNECT(self):
            hosts.append(self.path)
            self.send_error(407, "Proxy Authentication Required")

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in (*OFFLINE_VARIABLES, *VARIABLES, *map(str.upper, VARIABLES)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setattr("urllib.request._opener", None)  # remembers the proxies of its first use
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between tries
    yield hosts
    server.shutdown()
    server.server_close()


def test_files_from_the_web(asked, tmp_path):
    with pytest.raises(DownloadError, match="cannot be reached: .*407"):
        download("https://weights.invalid/x.pth", tmp_path / "x.pth", pause_seconds=0)
    assert set(asked) == {"weights.invalid:443"}


def test_files_from_the_hub(asked, tmp_path):
    """In a fresh process: the hub's library keeps the proxies of its first use."""
    program = (
        "from hear_audiomamba.models.hub import hub_file\n"
        "try:\n"
        "    hub_file('someone/ssam', 'x.safetensors')\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    place = {"HF_ENDPOINT": "https://hub.invalid", "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, **place}
    )
    (line,) = done.stdout.splitlines()
    assert line.startswith("CheckpointError someone/ssam: cannot get 'x.safetensors': ") and "407" in line
    assert set(asked) == {"hub.invalid:443"}
