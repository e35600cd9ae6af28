"""A hub on 127.0.0.1: HEAD with the stated facts, a redirect to another host, ranges, faults."""

import hashlib
import re
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

REVISION = "5" * 40
CONTENT = np.random.default_rng(3).bytes(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def files(folder):
    """The files in a folder, by their names in it."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


class Hub(ThreadingHTTPServer):
    """It serves ``content`` as any file of any repository.

    ``stated`` changes the headers of a HEAD (None removes one). ``status`` answers all requests of
    a method by this code. ``sends`` are the numbers of bytes that the next answers send before the
    connection breaks. ``page``: this page comes in place of the content.
    """

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.page, self.ranges = content, b"", True
        self.stated: dict[str, str | None] = {}
        self.status: dict[str, int] = {}
        self.sends: list[int] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []

    def handle_error(self, *_):
        if not isinstance(sys.exception(), ConnectionError):  # a client may leave at any time
            super().handle_error(*_)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def asked(self, method: str) -> list[str]:
        """The addresses that were asked by a method, without the host."""
        return [path for by, path, _ in self.requests if by == method]

    def ranges_asked(self) -> list[str]:
        """The ranges of the requests for the content itself."""
        return [h.get("range", "") for _, path, h in self.requests if path.startswith("/content")]


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, code, headers=(), body=b"", length=None):
        self.send_response(code)
        for name, value in dict(headers).items():
            if value is not None:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def begin(self):
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.command, self.path, headers))
        if code := self.server.status.get(self.command):
            self.answer(code, {}, b"no")
        return not code

    def do_HEAD(self):
        hub = self.server
        if self.begin():
            facts = {
                "X-Repo-Commit": REVISION, "X-Linked-Size": str(len(hub.content)),
                "X-Linked-Etag": f'"{hashlib.sha256(hub.content).hexdigest()}"',
                "ETag": '"of-the-redirect"', "Location": self.elsewhere(), **hub.stated,
            }  # fmt: skip
            self.answer(302 if facts["Location"] else 200, facts)

    def elsewhere(self):
        return f"http://localhost:{self.server.server_port}/content"  # another host: another origin

    def do_GET(self):
        hub = self.server
        if not self.begin():
            return
        if hub.page:
            self.answer(200, {"Content-Type": "text/html; charset=utf-8"}, hub.page)
        elif self.path != "/content":
            assert f"/resolve/{REVISION}/" in self.path
            self.answer(302, {"Location": self.elsewhere()})
        else:
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            first = int(asked[1]) if asked and hub.ranges else 0
            body, length = hub.content[first:], len(hub.content) - first
            if hub.sends:
                body, self.close_connection = body[: hub.sends.pop(0)], True
            self.answer(206 if asked and hub.ranges else 200, {}, body, length)


@contextmanager
def local_hub(content: bytes):
    hub = Hub(content)
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
