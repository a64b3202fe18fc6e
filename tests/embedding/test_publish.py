"""A model goes to the hub and comes back: the real huggingface-hub against an imitation of the hub."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from hear_audiomamba import from_pretrained, load_model
from hear_audiomamba.embedding.tagging import tag_audio
from hear_audiomamba.errors import CheckpointError, InputError
from hear_audiomamba.io.download import OFFLINE_VARIABLES

from ..tagger import CLASSES, write_tagger

COMMIT = "c" * 40


class FakeHub(BaseHTTPRequestHandler):
    """The few calls that an upload and a download of small files make."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes]

    def log_message(self, *_):
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _json(self, value, code=200):
        self._send(json.dumps(value).encode(), code, {"Content-Type": "application/json"})

    def _send(self, body, code, headers):
        self.send_response(code)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self):
        body = self._body()
        path = self.path.split("?")[0]
        if path == "/api/repos/create":
            self._json({"url": f"http://{self.headers['Host']}/me/model"})
        elif path.endswith("/preupload/main"):
            names = [entry["path"] for entry in json.loads(body)["files"]]
            regular = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]
            self._json({"files": regular})
        elif path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._json(
                {"commitUrl": f"http://{self.headers['Host']}/me/model/commit/{COMMIT}", "commitOid": COMMIT}
            )
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        else:
            self._json({"error": "not found"}, 404)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        name = path.rpartition("/")[2]
        if "/resolve/" in path and name in self.files:
            etag = f'"{len(self.files[name])}-{name}"'
            self._send(self.files[name], 200, {"ETag": etag, "X-Repo-Commit": COMMIT})
        elif path.startswith("/api/models/me/model"):
            self._json({"id": "me/model", "modelId": "me/model", "sha": COMMIT, "siblings": []})
        else:
            self._send(b"", 404, {"X-Error-Code": "EntryNotFound"})


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub at the library's address, and an empty cache."""
    for name in OFFLINE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    handler = type("Hub", (FakeHub,), {"files": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.utils._http.constants.HF_HUB_OFFLINE", False)
    yield handler
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def model():
    return load_model(variant="ssam_tiny", depth=1, device="cpu", timestamp_smoothing_ms=120)


def test_there_and_back(hub, model, noise):
    address = model.push_to_hub("me/model", token="t", licence="Apache-2.0", sources="nothing")
    assert COMMIT in address
    assert set(hub.files) >= {"model.safetensors", "config.json", "README.md"}
    back = from_pretrained("me/model", device="cpu")
    audio = noise(2, 16000)
    assert torch.equal(back.scene(audio), model.scene(audio))
    assert torch.equal(back.timestamps(audio)[0], model.timestamps(audio)[0])  # the smoothing came along


def test_a_folder(model, tmp_path, noise):
    runs = [{"value": 0.4}, {"value": 0.6}]
    scores = {"tasks": {"esc50": {"score": "top1_acc", "runs": runs}, "failed": {"score": "mAP", "runs": []}}}
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    folder = model.save_pretrained(tmp_path / "out", licence="cc-by-4.0", scores=tmp_path / "scores.json")
    text = (folder / "README.md").read_text()
    assert (
        text.startswith("---\n")
        and "license: cc-by-4.0" in text
        and "| esc50 | top1_acc | 50.0 | 2 |" in text
    )
    assert "failed" not in text
    assert json.loads((folder / "config.json").read_text())["model"]["family"] == "ssam"
    audio = noise(1, 8000)
    assert torch.equal(from_pretrained(folder, device="cpu").scene(audio), model.scene(audio))
    with pytest.raises(InputError, match="scores"):
        model.save_pretrained(tmp_path / "out", scores=tmp_path / "none.json")


def test_a_model_with_classes_keeps_them_there_and_back(hub, tmp_path, noise):
    model = load_model(write_tagger(tmp_path / "fine_tuned.safetensors"), device="cpu")
    expected = tag_audio(model, noise(1, 8000)[0], 16000)
    assert expected.labels == CLASSES
    model.push_to_hub("me/model", token="t", sources="two tones")
    assert "- Classes, for `hear-audiomamba tag`: high, low|er." in hub.files["README.md"].decode()
    assert json.loads(hub.files["config.json"])["model"]["labels"] == list(CLASSES)
    folder = model.save_pretrained(tmp_path / "folder")
    for back in (from_pretrained("me/model", device="cpu"), from_pretrained(folder, device="cpu")):
        found = tag_audio(back, noise(1, 8000)[0], 16000)
        assert found.labels == CLASSES and (found.probabilities == expected.probabilities).all()
        assert back.config == model.config
        assert torch.equal(back.scene(noise(2, 16000)), model.scene(noise(2, 16000)))


def test_a_hub_that_refuses(hub, model, monkeypatch):
    monkeypatch.setattr(hub, "do_POST", lambda self: (self._body(), self._json({"error": "no"}, 403)))
    with pytest.raises(CheckpointError, match="me/model: cannot upload: "):
        model.push_to_hub("me/model", token="t")
