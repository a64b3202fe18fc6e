"""Chromium driven over the WebDriver protocol, with nothing but the standard library."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


needs_browser = pytest.mark.skipif(
    not (shutil.which("chromedriver") and shutil.which("chromium")),
    reason="needs chromium and chromium-driver (apt install chromium-driver)",
)


class Browser:
    """A headless Chromium; `width` and `height` in pixels, `touch` for a phone.

    Source: the W3C recommendation "WebDriver", whose commands are requests to a local server.
    """

    def __init__(self, downloads: Path, width: int, height: int, touch: bool = False) -> None:
        driver = shutil.which("chromedriver")
        assert driver is not None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL)
        self._base = f"http://127.0.0.1:{port}"
        words = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            f"--window-size={width},{height}",
            "--mute-audio",
        ]
        options: dict[str, Any] = {"args": words, "prefs": {"download.default_directory": str(downloads)}}
        if touch:
            options["mobileEmulation"] = {
                "deviceMetrics": {"width": width, "height": height, "pixelRatio": 2.0, "touch": True}
            }
        wanted = {
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": options,
        }
        self._wait_for_driver()
        session = self._send("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._base += f"/session/{session['sessionId']}"
        self._pointer = "touch" if touch else "mouse"

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._send("DELETE", "")
        finally:
            self._process.terminate()
            self._process.wait(10)

    def open(self, page: Path) -> None:
        """Open a local file."""
        self._send("POST", "/url", {"url": page.as_uri()})

    def dark(self) -> None:
        """Prefer dark colours from the next page on, as at night."""
        features = [{"name": "prefers-color-scheme", "value": "dark"}]
        command = {"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}}
        self._send("POST", "/goog/cdp/execute", command)

    def run(self, script: str) -> Any:
        """Return the value of an expression of the page's script."""
        return self._send("POST", "/execute/sync", {"script": f"return {script};", "args": []})

    def wait(self, script: str, seconds: float = 20) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.05)

    def drag(self, points: list[tuple[float, float]], press: bool = True) -> None:
        """Move the mouse or a finger through points of the page, pressed down unless `press` is false."""
        first, *rest = [
            {"type": "pointerMove", "duration": 20, "x": round(x), "y": round(y)} for x, y in points
        ]
        down, up = {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}
        steps = [first, down, *rest, up] if press else [first, *rest]
        pointer = {
            "type": "pointer",
            "id": "one",
            "parameters": {"pointerType": self._pointer},
            "actions": steps,
        }
        self._send("POST", "/actions", {"actions": [pointer]})

    def wheel(self, x: float, y: float, delta: int) -> None:
        """Turn the mouse wheel over a point."""
        step = {"type": "scroll", "x": round(x), "y": round(y), "deltaX": 0, "deltaY": delta, "duration": 20}
        self._send("POST", "/actions", {"actions": [{"type": "wheel", "id": "wheel", "actions": [step]}]})

    def type(self, selector: str, text: str) -> None:
        """Give an element the focus and type into it."""
        found = self._send("POST", "/element", {"using": "css selector", "value": selector})
        self._send("POST", f"/element/{found[_ELEMENT]}/value", {"text": text})

    def click(self, selector: str) -> None:
        """Click or tap an element."""
        found = self._send("POST", "/element", {"using": "css selector", "value": selector})
        self._send("POST", f"/element/{found[_ELEMENT]}/click", {})

    def errors(self) -> list[str]:
        """Return what the page's script complained about."""
        entries = self._send("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def picture(self, path: Path) -> None:
        """Save what is seen."""
        path.write_bytes(base64.b64decode(self._send("GET", "/screenshot")))

    def _wait_for_driver(self) -> None:
        end = time.monotonic() + 60
        while True:
            try:
                self._send("GET", "/status")
                return
            except OSError:
                assert time.monotonic() < end, "chromedriver does not answer"
                time.sleep(0.1)

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._base + path, data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]
