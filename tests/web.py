"""A web server on this machine for tests: files with ranges and tags, and the faults of real ones on demand."""

from __future__ import annotations

import hashlib
import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Site:
    """What the server has and how it misbehaves.

    Attributes:
        files: content by path, such as "/a/b.bin".
        cut_after: cut the next answers after so many bytes each, one entry an answer.
        errors: status codes that the next answers have instead.
        ranges: whether it can send a part of a file.
        pause: seconds before each answer.
        asked: the requests so far: path and Range header.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)
    ranges: bool = True
    pause: float = 0.0
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""


@contextmanager
def serving(site: Site) -> Iterator[str]:
    """Serve a site on a free port of the loopback interface, and give its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            site.asked.append((self.path, wanted))
            time.sleep(site.pause)
            content = site.files.get(self.path)
            if site.errors:
                self._refuse(site.errors.pop(0))
            elif content is None:
                self._refuse(404)
            else:
                self._send(content, wanted)

        def _refuse(self, code: int) -> None:
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _send(self, content: bytes, wanted: str | None) -> None:
            tag = f'"{hashlib.sha256(content).hexdigest()}"'
            first = 0
            if wanted and site.ranges and self.headers.get("If-Range", tag) == tag:
                first = int(wanted.removeprefix("bytes=").split("-")[0])
                if first >= len(content):
                    self._refuse(416)
                    return
            self.send_response(206 if first else 200)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
            self.send_header("ETag", tag)
            self.send_header("Content-Length", str(len(content) - first))
            self.end_headers()
            body = content[first:]
            if site.cut_after:
                self.wfile.write(body[: site.cut_after.pop(0)])
                self.close_connection = True
            else:
                self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    site.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield site.address
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
