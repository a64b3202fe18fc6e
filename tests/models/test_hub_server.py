"""The hub's answers, by the real huggingface-hub against a server on this machine, each with its own line."""

from __future__ import annotations

import http.server
import threading
from dataclasses import dataclass, field

import pytest

from hear_audiomamba.errors import CheckpointError
from hear_audiomamba.hear import load_model
from hear_audiomamba.io.download import OFFLINE_VARIABLES
from hear_audiomamba.models.hub import hub_file, revision_of

COMMIT = "b" * 40
CONTENT = bytes(range(256)) * 4000


@dataclass
class Hub:
    """What the server answers: a status and an error code for all, or the file, cut or whole."""

    status: int = 200
    code: str | None = None
    cut_after: list[int] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture
def served(tmp_path, monkeypatch):
    hub = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body):
            hub.asked.append((self.command, self.path))
            first = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
            good = hub.status == 200
            self.send_response(hub.status if not good else 206 if first else 200)
            if hub.code:
                self.send_header("X-Error-Code", hub.code)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", '"1234"')
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}")
            content = CONTENT[first:] if good else b""
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body and hub.cut_after:
                self.wfile.write(content[: hub.cut_after.pop(0)])
                self.close_connection = True
            elif body:
                self.wfile.write(content)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in (*OFFLINE_VARIABLES, "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    template = "/{repo_id}/resolve/{revision}/{filename}"
    for module in ("constants", "file_download"):  # the oldest version allowed reads a copy of its own
        name = f"huggingface_hub.{module}.HUGGINGFACE_CO_URL_TEMPLATE"
        monkeypatch.setattr(name, address + template, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "snapshots" / "hub"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the library's own tries
    yield hub
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (404, "RepoNotFound", "no such repository, or it is private"),
        (401, None, "401.*Unauthorized"),
        (403, "GatedRepo", "gives access on request only; log in with `hf auth login`"),
        (404, "RevisionNotFound", "has no revision 'v9'"),
        (404, "EntryNotFound", "has no such file"),
        (403, None, "does not answer: .*403"),
        (500, None, "does not answer: .*500|500"),
    ],
)
def test_each_refusal_says_why(served, status, code, words):
    served.status, served.code = status, code
    with pytest.raises(CheckpointError, match=words) as raised:
        hub_file("someone/ssam", "x.safetensors", "v9")
    assert len(str(raised.value).splitlines()) == 1


def test_a_file_arrives_with_its_commit_and_is_kept(served, monkeypatch):
    path = hub_file("someone/ssam", "x.safetensors")
    assert path.read_bytes() == CONTENT and revision_of(path) == COMMIT
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    count = len(served.asked)
    assert hub_file("someone/ssam", "x.safetensors") == path and len(served.asked) == count


def test_a_cut_connection_never_gives_half_a_file(served):
    served.cut_after = [1000] * 50
    with pytest.raises(CheckpointError, match="cannot get 'x.safetensors'"):
        hub_file("someone/ssam", "x.safetensors")
    served.cut_after = []
    assert hub_file("someone/ssam", "x.safetensors").read_bytes() == CONTENT


def test_a_cache_without_symbolic_links(served, monkeypatch):
    """As on Windows: the file itself lies in the snapshot."""
    monkeypatch.setattr("huggingface_hub.file_download.are_symlinks_supported", lambda *args: False)
    path = hub_file("someone/ssam", "x.safetensors")
    assert not path.is_symlink() and path.read_bytes() == CONTENT and revision_of(path) == COMMIT


@pytest.mark.parametrize(
    ("tail", "asked"),
    [
        ("", "main/model.safetensors"),
        ("/", "main/model.safetensors"),
        ("/tree/v2", "v2/model.safetensors"),
        ("/blob/main/small/x.pth", "main/small/x.pth"),
        ("/resolve/v2/x.pth?download=true", "v2/x.pth"),
    ],
)
def test_the_address_of_a_page_is_a_hub_id(served, tail, asked):
    with pytest.raises(CheckpointError):  # the content is no model, but it was asked for
        load_model(f"https://huggingface.co/someone/ssam{tail}")
    assert served.asked[0][1] == f"/someone/ssam/resolve/{asked}"
